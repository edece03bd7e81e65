"""What is counted from a graph: multiply-adds, weights, and the activations that it reads and writes at least.

A convolution or a matrix product is one group with the element-wise operators that follow it, as kernels fuse them; a
pooling, normalisation or softmax is a group of its own, again with what follows. Operators that only move values
(Reshape, Transpose, Slice, Concat) cost nothing here: a kernel can read and write through them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

from deepgap.build.graph_file import INPUT, OUTPUT, load_graph
from deepgap.cells.facts import Facts
from deepgap.errors import GraphError, UnsupportedError, first_line
from deepgap.files import put_in_place

UNSUPPORTED = "unsupported"

VIEWS = {
    *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Transpose", "Slice", "Split", "Gather"),
    *("Expand", "Cast", "Dropout", "Pad", "DepthToSpace", "SpaceToDepth"),
}
"""Operators whose result holds nothing but values of their first input."""

ELEMENTWISE = {
    *("BatchNormalization", "Relu", "LeakyRelu", "PRelu", "Elu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish"),
    *("Gelu", "Mish", "Swish", "Tanh", "Erf", "Exp", "Softplus", "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Neg"),
    *("Abs", "Max", "Min", "Where", "Reciprocal"),
}
"""Operators that a kernel applies to its result before it writes it."""


def count_facts(path: Path) -> Facts:
    """The facts of an exported FP32 graph.

    Raises:
        GraphError: the file is missing or damaged.
        UnsupportedError: the file says why there is no graph, or a shape in it cannot be told.
    """
    return _Counter(load_graph(path)).facts()


def write_facts(path: Path, facts: Facts | str) -> None:
    """Write facts, or why there are none, in one step."""
    content = {UNSUPPORTED: facts} if isinstance(facts, str) else facts.as_json()
    with put_in_place(path) as partial:
        partial.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_facts(path: Path) -> Facts | None:
    """The facts of a file that `write_facts` wrote; null where there are none.

    Raises:
        GraphError: the file is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return None if UNSUPPORTED in content else Facts.from_json(content)
    except FileNotFoundError:
        raise GraphError(f"The facts {path} do not exist; run Snakemake to make them.") from None
    except (OSError, ValueError, TypeError) as error:
        raise GraphError(f"{path} holds no facts of a model ({first_line(error)}); delete it.") from None


class _Counter:
    """A graph with one image: which of its tensors depend on the image, their sizes, and the groups of its nodes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.dependent = {INPUT}
        for node in model.graph.node:
            # What is computed of a shape alone is the same for any image.
            if node.op_type != "Shape" and any(name in self.dependent for name in node.input):
                self.dependent.update(name for name in node.output if name)
        self.shapes = infer_shapes(model, self.dependent)
        self.nodes = [node for node in model.graph.node if any(name in self.dependent for name in node.output)]
        self.group: dict[str, int] = {}
        """The group that makes a tensor; the image is of none."""
        self.root: dict[str, str] = {}
        """The tensor whose values a view shows."""
        self._form_groups()

    def facts(self) -> Facts:
        reads, written = self._traffic()
        return Facts(
            multiply_adds=sum(map(self._multiply_adds, self.nodes)),
            weight_elements=sum(self._weights(node) for node in self.nodes),
            activation_elements=sum(reads.values()) + sum(written.values()),
            largest_activation_elements=max(self._size(INPUT), *written.values()),
            classes=self.shapes[OUTPUT][-1],
            blocks=sum(map(self._is_residual, self.nodes)),
        )

    def _size(self, tensor: str) -> int:
        return math.prod(self.shapes[tensor])

    def _form_groups(self) -> None:
        for number, node in enumerate(self.nodes):
            data = [name for name in node.input if name in self.dependent]
            joined = number
            if node.op_type in VIEWS and node.input[0] in self.dependent:
                joined = self.group.get(node.input[0], -1)
                self.root.update({name: self._root(node.input[0]) for name in node.output})
            elif node.op_type in ELEMENTWISE:
                # The operand that is made last: the others are there already, as the skip of a block is.
                joined = max((self.group.get(name, -1) for name in data), default=-1)
                joined = number if joined < 0 else joined
            self.group.update(dict.fromkeys(node.output, joined))

    def _root(self, tensor: str) -> str:
        return self.root.get(tensor, tensor)

    def _traffic(self) -> tuple[dict[tuple[int, str], int], dict[str, int]]:
        """Elements read, by group and tensor, and elements written, by tensor.

        A group reads of a tensor what its views show it, and no more than there is. It writes what others use.
        """
        views: dict[tuple[int, str], dict[str, int]] = {}
        used: set[str] = {self._root(OUTPUT)}
        for node in self.nodes:
            if node.op_type in VIEWS and node.input[0] in self.dependent:
                continue
            reader = self.group[node.output[0]]
            for name in node.input:
                if name in self.dependent and self.group.get(name, -1) != reader:
                    root = self._root(name)
                    used.add(root)
                    # A concatenation is written in place by those that make its parts.
                    if node.op_type != "Concat":
                        views.setdefault((reader, root), {})[name] = self._size(name)
        reads = {(reader, root): min(self._size(root), sum(seen.values())) for (reader, root), seen in views.items()}
        joined = {node.output[0] for node in self.nodes if node.op_type == "Concat"}
        return reads, {root: self._size(root) for root in used - {INPUT} - joined}

    def _multiply_adds(self, node: onnx.NodeProto) -> int:
        match node.op_type:
            case "Conv":
                return self._size(node.output[0]) * math.prod(self._shape(node.input[1])[1:])
            case "ConvTranspose":
                return self._size(node.input[0]) * math.prod(self._shape(node.input[1])[1:])
            case "MatMul":
                return self._size(node.output[0]) * self._shape(node.input[0])[-1]
            case "Gemm":
                turned = any(entry.name == "transA" and entry.i for entry in node.attribute)
                return self._size(node.output[0]) * self._shape(node.input[0])[0 if turned else 1]
        return 0

    def _shape(self, tensor: str) -> tuple[int, ...]:
        constant = self.constants.get(tensor)
        return self.shapes[tensor] if constant is None else tuple(constant.dims)

    def _weights(self, node: onnx.NodeProto) -> int:
        """Elements of the constants with which a node computes: not its shapes, indices and single numbers."""
        sizes = (math.prod(self._shape(name)) for name in self._floats(node))
        return sum(size for size in sizes if size > 1)

    def _floats(self, node: onnx.NodeProto) -> Iterator[str]:
        if node.op_type in VIEWS:
            return
        for name in node.input:
            constant = self.constants.get(name)
            if constant is not None:
                if constant.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE):
                    yield name
            elif name and name not in self.dependent and name in self.shapes:
                yield name

    def _is_residual(self, node: onnx.NodeProto) -> bool:
        """Whether a node adds two tensors of the image, of one shape, which is how a block ends."""
        if node.op_type != "Add" or not all(name in self.dependent for name in node.input):
            return False
        one, other = node.input
        return self.shapes[one] == self.shapes[other] and self._root(one) != self._root(other)


def infer_shapes(model: onnx.ModelProto, wanted: set[str]) -> dict[str, tuple[int, ...]]:
    """The shapes of tensors of a graph for one image: by ONNX's inference, and where that fails, by running it.

    Args:
        wanted: the tensors whose shapes must be known.

    Raises:
        UnsupportedError: a wanted shape cannot be told.
    """
    single = onnx.ModelProto()
    single.CopyFrom(model)
    del single.graph.value_info[:]
    single.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    for value in single.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(single, data_prop=True).graph
    shapes = {}
    for value in (*inferred.input, *inferred.output, *inferred.value_info):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim):
            shapes[value.name] = tuple(dim.dim_value for dim in kind.shape.dim)
    missing = sorted(wanted - shapes.keys())
    return shapes | _run_for_shapes(single, missing, shapes[INPUT]) if missing else shapes


def _run_for_shapes(model: onnx.ModelProto, tensors: list[str], image: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    import onnxruntime

    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in tensors if name != OUTPUT)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
        )
        found = session.run(tensors, {INPUT: np.zeros(image, np.float32)})
    # ONNX Runtime's errors share no class.
    except Exception as error:
        raise UnsupportedError(f"The shape of {tensors[0]} cannot be told ({first_line(error)}).") from None
    return {name: tuple(values.shape) for name, values in zip(tensors, found, strict=True)}


def facts_or_reason(path: Path) -> Facts | str:
    """The facts of a graph, or why it has none."""
    try:
        return count_facts(path)
    except UnsupportedError as error:
        return str(error)
