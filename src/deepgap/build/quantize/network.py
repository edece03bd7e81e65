"""A graph as the placement sees it: who makes each tensor, which layers have weights, and where skips join.

No operator is refused: what is not told of here is not quantised, and stays in the graph's other type.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from deepgap.build.graph_file import is_sealed, load_graph
from deepgap.errors import GraphError, UnsupportedError, first_line

Q, DQ = "QuantizeLinear", "DequantizeLinear"
FIRST_OPSET = 13
"""The first version of ONNX's operators whose Q and DQ have a scale a channel."""
DATA, WEIGHT, BIAS = 0, 1, 2

LAYERS = {"Conv", "Gemm", "MatMul"}

ACTIVATIONS = {"Relu", "Clip"}
"""What a kernel applies to its result before it writes it."""

POOLS = {"GlobalAveragePool", "ReduceMean"}
ELEMENTWISE = {"Add", "Div", "Mul", "Sub"}

NON_NEGATIVE = {"Relu", "Sigmoid", "HardSigmoid", "Softmax"}


@dataclass(frozen=True)
class Use:
    """One input of one node."""

    node: onnx.NodeProto
    index: int

    @property
    def tensor(self) -> str:
        return str(self.node.input[self.index])

    @property
    def key(self) -> tuple[str, int]:
        """Names the input within a graph; a node need not have a name, its result has one."""
        return str(self.node.output[0]), self.index

    def __str__(self) -> str:
        return f"the input {self.tensor} of {describe(self.node)}"


@dataclass(frozen=True)
class Layer:
    """A Conv, Gemm or MatMul with constant weights, and the axis of these that counts the output channels."""

    node: onnx.NodeProto
    axis: int
    has_bias: bool

    @property
    def data(self) -> Use:
        return Use(self.node, DATA)

    @property
    def weight(self) -> Use:
        return Use(self.node, WEIGHT)

    @property
    def bias(self) -> Use | None:
        """Null where there is none, or one that is not a constant a channel."""
        return Use(self.node, BIAS) if self.has_bias else None


class Network:
    """The nodes of a graph without Q/DQ pairs, in their order.

    Args:
        outputs: names of the graph's outputs.
    """

    def __init__(
        self, nodes: Iterable[onnx.NodeProto], initializers: Iterable[onnx.TensorProto], outputs: Iterable[str]
    ) -> None:
        self.nodes = list(nodes)
        self.outputs = set(outputs)
        self.constants = {tensor.name: tensor for tensor in initializers}
        self.producer = {name: node for node in self.nodes for name in node.output if name}
        self.readers: dict[str, list[Use]] = defaultdict(list)
        for node in self.nodes:
            for index, name in enumerate(node.input):
                self.readers[name].append(Use(node, index))

    @cached_property
    def layers(self) -> list[Layer]:
        """The layers that are quantised: those that see more of an image than its mean, but for the classifier.

        Squeeze-and-excite and the classifier of a convolutional network stand behind a global pool. Their products
        are few, and scale or decide all others.
        """
        found = [layer for node in self.nodes if (layer := self._layer(node)) is not None]
        kept = [layer for layer in found if layer.data.tensor not in self._pooled]
        return [layer for layer in kept if layer.node.op_type == "Conv" or layer.node.output[0] != self._classified]

    @cached_property
    def skips(self) -> list[Use]:
        """The skip of each Add whose other operand is the result of a convolution that nothing else reads.

        Convolution and Add are one kernel, which reads the skip.
        """
        found = (self._skip(node) for node in self.nodes if node.op_type == "Add")
        return [use for use in found if use is not None]

    @cached_property
    def products(self) -> list[Use]:
        """Both operands of each product of two activations: those of attention."""
        matmuls = [node for node in self.nodes if node.op_type == "MatMul"]
        inner = [node for node in matmuls if not self.constants.keys() & set(node.input)]
        return [Use(node, index) for node in inner for index in (0, 1)]

    @cached_property
    def last_pools(self) -> list[Use]:
        """The input of the global average pool that the classifier reads flat, where a convolution made it."""
        classifier = self.producer.get(self._classified or "")
        pool = None if classifier is None else self.producer.get(classifier.input[DATA])
        while pool is not None and pool.op_type in ("Flatten", "Reshape"):
            pool = self.producer.get(pool.input[DATA])
        if pool is None or pool.op_type != "GlobalAveragePool" or not self._is_of_convolution(pool.input[DATA]):
            return []
        return [Use(pool, DATA)]

    def array(self, name: str) -> np.ndarray:
        values: np.ndarray = numpy_helper.to_array(self.constants[name])
        return values

    def scale_source(self, tensor: str) -> str:
        """The tensor whose scale this one has: MaxPool hands its input's scale on."""
        node = self.producer.get(tensor)
        return self.scale_source(node.input[DATA]) if node is not None and node.op_type == "MaxPool" else tensor

    def is_non_negative(self, tensor: str) -> bool:
        node = self.producer.get(self.scale_source(tensor))
        if node is None:
            return False
        if node.op_type == "Clip" and len(node.input) > 1 and node.input[1] in self.constants:
            return bool(self.array(node.input[1]) >= 0)
        return node.op_type in NON_NEGATIVE

    def sole_reader(self, tensor: str, operators: set[str]) -> onnx.NodeProto | None:
        """The one node that reads a tensor, if it is one of these operators."""
        readers = self.readers[tensor]
        alone = len(readers) == 1 and tensor not in self.outputs
        return readers[0].node if alone and readers[0].node.op_type in operators else None

    def result(self, layer: Layer) -> str:
        """What the kernel of a layer writes: its result, or that of the activation function which alone reads it."""
        output = str(layer.node.output[0])
        activation = self.sole_reader(output, ACTIVATIONS)
        return output if activation is None else str(activation.output[0])

    def _layer(self, node: onnx.NodeProto) -> Layer | None:
        if node.op_type not in LAYERS or node.input[DATA] in self.constants:
            return None
        weight = self.constants.get(node.input[WEIGHT])
        flags = {attribute.name: attribute.i for attribute in node.attribute}
        if weight is None or flags.get("transA") or (node.op_type != "Conv" and len(weight.dims) != 2):
            return None
        axis = 0 if node.op_type == "Conv" or flags.get("transB") else 1
        bias = self.constants.get(node.input[BIAS]) if len(node.input) > BIAS else None
        return Layer(node, axis, bias is not None and list(bias.dims) == [weight.dims[axis]])

    @cached_property
    def _pooled(self) -> set[str]:
        """The tensors that come from means over the pixels or tokens of an image alone."""
        pooled: set[str] = set()
        for node in self.nodes:
            data = node.input[:2] if node.op_type in ELEMENTWISE else node.input[:1]
            activations = [name for name in data if name and name not in self.constants]
            if node.op_type in POOLS or (activations and pooled.issuperset(activations)):
                pooled.update(node.output)
        return pooled

    @cached_property
    def _classified(self) -> str | None:
        """The result of the Gemm or MatMul from which the graph's output comes with nothing but constants."""
        name = next(iter(self.outputs)) if len(self.outputs) == 1 else None
        while name is not None and (node := self.producer.get(name)) is not None:
            if node.op_type in LAYERS:
                return name
            data = [tensor for tensor in node.input if tensor and tensor not in self.constants]
            name = data[0] if len(data) == 1 else None
        return None

    def _skip(self, add: onnx.NodeProto) -> Use | None:
        if self.constants.keys() & set(add.input):
            return None
        makers = [self.producer.get(name) for name in add.input]
        fusible = [
            node is not None and node.op_type == "Conv" and self.sole_reader(name, {"Add"}) is not None
            for node, name in zip(makers, add.input, strict=True)
        ]
        if not any(fusible):
            return None
        return Use(add, self._skip_of_two(add) if all(fusible) else fusible.index(False))

    def _skip_of_two(self, add: onnx.NodeProto) -> int:
        """Of two convolutions the skip is the one that reads what the other comes from, else the one made first."""
        first, second = (self.producer[name] for name in add.input)
        is_skip = [
            first.input[DATA] in self._upstream(second.input[DATA]),
            second.input[DATA] in self._upstream(first.input[DATA]),
        ]
        if sum(is_skip) == 1:
            return is_skip.index(True)
        order = {node.output[0]: number for number, node in enumerate(self.nodes)}
        return 0 if order[first.output[0]] < order[second.output[0]] else 1

    def _upstream(self, tensor: str) -> set[str]:
        """The tensors from which this one is made, and itself."""
        found: set[str] = set()
        waiting = [tensor]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self.producer[name].input if name in self.producer else ()
        return found

    def _is_of_convolution(self, tensor: str) -> bool:
        node = self.producer.get(tensor)
        while node is not None and node.op_type in {*ACTIVATIONS, "MaxPool"}:
            node = self.producer.get(node.input[DATA])
        skips = {use.node.output[0] for use in self.skips}
        return node is not None and (node.op_type == "Conv" or node.output[0] in skips)


def describe(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name or node.output[0]}"


def read_graph(path: Path) -> onnx.ModelProto:
    """Read and check an ONNX file.

    Raises:
        GraphError: the file is missing, damaged, edited or not a valid model; the sentence names it.
        UnsupportedError: the file says why there is no graph, or its graph is as it was made and yet not valid.
    """
    model = load_graph(path)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        if is_sealed(model):
            raise UnsupportedError(f"The model's graph is not valid ONNX: {first_line(error).rstrip('.')}.") from None
        raise GraphError(
            f"{path} is damaged or not an ONNX model ({first_line(error)}); delete it and run Snakemake again."
        ) from None
    return model


def quantisable(model: onnx.ModelProto) -> Network:
    """The network of an FP32 export.

    Raises:
        UnsupportedError: it is quantised already, its weights are not FP32, it holds nothing to quantise, or its
            operators are of a version without Q/DQ pairs.
    """
    version = max((entry.version for entry in model.opset_import if not entry.domain), default=FIRST_OPSET)
    if version < FIRST_OPSET:
        raise UnsupportedError(
            f"The graph cannot be quantised: its operators are of ONNX's version {version}, and a scale a channel "
            f"needs {FIRST_OPSET}; export it in a newer version."
        )
    for node in model.graph.node:
        if node.op_type in (Q, DQ):
            raise UnsupportedError(
                f"The graph cannot be quantised: it holds {describe(node)}, so it is quantised already; "
                "start from the FP32 export."
            )
    network = Network(model.graph.node, model.graph.initializer, (value.name for value in model.graph.output))
    if not network.layers:
        raise UnsupportedError(
            "The graph cannot be quantised: before its classifier it holds no Conv, Gemm or MatMul with constant "
            "weights."
        )
    for layer in network.layers:
        if network.constants[layer.weight.tensor].data_type != onnx.TensorProto.FLOAT:
            raise UnsupportedError(
                f"The graph cannot be quantised: {layer.weight} is not FP32; start from the FP32 export."
            )
    return network
