"""From PyTorch to ONNX: one plain, reproducible graph that is proven equal to the model."""

from __future__ import annotations

import ast
import copy
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from deepgap.build.graph_file import BATCH, INPUT, OUTPUT, PRODUCER, WEIGHTS_HASH, write_graph
from deepgap.errors import UnsupportedError, first_line

if TYPE_CHECKING:
    import torch

OPSET = 20

TOLERANCE = {"fp32": 1e-4, "fp16": 5e-2}
"""Largest relative L2 error of the logits in ONNX Runtime."""

CHECK_IMAGES = 3
EXAMPLE_IMAGES = 2

NAMES = {"GlobalAveragePool": "global_pool", "MaxPool": "max_pool"}
NAMED_BY_MODULE = ("Conv", "Gemm", "MatMul")
MADE = "val_"
"""How the exporter begins the names of the constants that it made itself, which it numbers."""
SCOPES = "pkg.torch.onnx.name_scopes"
"""The exporter's property of a node: the list of the modules that it is in, and its own name."""


def export_onnx(
    model: torch.nn.Module, path: Path, precision: str, image_size: int, weights_sha256: str | None = None
) -> None:
    """Write a classifier as ONNX, with BatchNorm folded where it follows a convolution, and any batch size.

    The input is named `input`, shape (batch, 3, image_size, image_size), the output `logits`, (batch, classes);
    both are float32 or, for fp16, float16, as all weights are. The output of a convolution and of a matrix product
    with a weight has the name of its module (`layer1.0.conv1`), any other tensor that of its operator and a count
    (`relu_3`). Equal models give equal bytes.

    Args:
        model: in eval mode with float32 weights; it is left as it is.
        precision: "fp32" or "fp16".
        weights_sha256: the hash of the weights, kept in the file's metadata.

    Raises:
        UnsupportedError: the exporter cannot express the model, or the graph in ONNX Runtime differs from the model
            in PyTorch by more than `TOLERANCE`; nothing is written.
    """
    exported = copy.deepcopy(model).half() if precision == "fp16" else model
    graph = _plain(_exported(exported, image_size))
    try:
        onnx.checker.check_model(graph, full_check=True)
        error = _relative_error(exported, graph, image_size)
    except Exception as reason:
        raise UnsupportedError(f"The model's ONNX export does not run: {first_line(reason)}.") from None
    if not error <= TOLERANCE[precision]:
        raise UnsupportedError(
            f"The logits of {path.name} differ from PyTorch's by {error:.1e} where {TOLERANCE[precision]:.0e} is "
            "allowed; use the pinned torch and onnxscript."
        )
    if weights_sha256 is not None:
        onnx.helper.set_model_props(graph, {WEIGHTS_HASH: weights_sha256})
    write_graph(path, graph)


def _exported(model: torch.nn.Module, image_size: int) -> onnx.ModelProto:
    """What PyTorch's exporter makes of a model."""
    import torch

    dtype = next((parameter.dtype for parameter in model.parameters()), torch.float32)
    example = torch.zeros(EXAMPLE_IMAGES, 3, image_size, image_size, dtype=dtype)
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: BATCH},),
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
                verbose=False,
            )
    # The exporter traces any code, and fails in as many ways.
    except Exception as error:
        raise UnsupportedError(f"The model cannot be exported to ONNX: {_cause(error)}.") from None
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    return proto


def _cause(error: BaseException) -> str:
    """The first line of the error that made the exporter give up: its own tells how to report it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}, {first_line(error).rstrip('.')}"


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network without traces of the exporter, with stable names and a real global average pool."""
    graph = model.graph
    _pool_globally(graph)
    _rename(graph)
    used = {name for node in graph.node for name in node.input}
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    opsets += [entry for entry in model.opset_import if entry.domain and _uses(graph, entry.domain)]
    clean = onnx.helper.make_model(
        onnx.helper.make_graph(
            [_bare(node) for node in graph.node],
            "main",
            [_bare_value(value) for value in graph.input],
            [_bare_value(value) for value in graph.output],
            [tensor for tensor in graph.initializer if tensor.name in used],
        ),
        opset_imports=opsets,
        ir_version=model.ir_version,
        producer_name=PRODUCER,
        functions=list(model.functions),
    )
    for tensor in clean.graph.initializer:
        tensor.ClearField("doc_string")
        del tensor.metadata_props[:]
    return clean


def _uses(graph: onnx.GraphProto, domain: str) -> bool:
    return any(node.domain == domain for node in graph.node)


def _bare(node: onnx.NodeProto) -> onnx.NodeProto:
    domain = node.domain or None
    bare = onnx.helper.make_node(node.op_type, node.input, node.output, name=node.output[0], domain=domain)
    bare.attribute.extend(node.attribute)
    return bare


def _bare_value(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    return onnx.helper.make_value_info(value.name, value.type)


def _pool_globally(graph: onnx.GraphProto) -> None:
    """Turn the mean over height and width and its reshape into GlobalAveragePool and Flatten.

    INT8 kernels exist for GlobalAveragePool and not for ReduceMean.
    """
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    consumers = {name: node for node in graph.node for name in node.input}
    for node in graph.node:
        axes = constants.get(node.input[1]) if node.op_type == "ReduceMean" and len(node.input) > 1 else None
        if axes is None or sorted(axes % 4) != [2, 3]:
            continue
        reshape = consumers.get(node.output[0])
        if reshape is None or reshape.op_type != "Reshape":
            continue
        shape = constants.get(reshape.input[1])
        if shape is not None and len(shape) == 2:
            for changed, operator in ((node, "GlobalAveragePool"), (reshape, "Flatten")):
                changed.op_type = operator
                del changed.input[1:]
                del changed.attribute[:]


def _rename(graph: onnx.GraphProto) -> None:
    """Give tensors names that a reader of the calibration cache knows, whatever the exporter's version."""
    names = {value.name: value.name for value in (*graph.input, *graph.output)}
    constants = {tensor.name for tensor in graph.initializer}
    taken = set(names) | {name for name in constants if not name.startswith(MADE)}
    counts: Counter[str] = Counter()

    def free(name: str) -> str:
        """The name, with a count where another tensor has it."""
        while True:
            found = f"{name}_{counts[name]}" if counts[name] else name
            counts[name] += 1
            if found not in taken:
                taken.add(found)
                return found

    for node in graph.node:
        module = _module(node, constants)
        if module is not None:
            if node.output[0] not in names:
                names[node.output[0]] = free(module)
            _name_weights(node, module, names, taken)
        for output in node.output:
            if output and output not in names:
                names[output] = free(NAMES.get(node.op_type, node.op_type.lower()))
    for tensor in graph.initializer:
        # Constants that the exporter made are numbered by it.
        if tensor.name.startswith(MADE) and tensor.name not in names:
            names[tensor.name] = free("constant")
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)


def _module(node: onnx.NodeProto, constants: set[str]) -> str | None:
    """The module that a convolution or a product with a weight is of; null for any other node."""
    if node.op_type not in NAMED_BY_MODULE or node.input[1] not in constants:
        return None
    if node.input[1].endswith(".weight"):
        return str(node.input[1]).removesuffix(".weight")
    scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "[]")
    modules = [scope for scope in ast.literal_eval(scopes)[:-1] if scope]
    return str(modules[-1]) if modules else None


def _name_weights(node: onnx.NodeProto, module: str, names: dict[str, str], taken: set[str]) -> None:
    """Name the constants of a module after it, unless they have a name of the model or another module has them."""
    for constant, role in zip(node.input[1:], ("weight", "bias"), strict=False):
        wanted = f"{module}.{role}"
        made = constant.startswith(MADE) or (role == "bias" and node.op_type == "Conv")
        if made and constant not in names and wanted not in taken:
            names[constant] = wanted
            taken.add(wanted)


def _relative_error(model: torch.nn.Module, graph: onnx.ModelProto, image_size: int) -> float:
    """Relative L2 error of the graph's logits on random images, against the model computed in FP32."""
    import numpy as np
    import onnxruntime
    import torch

    images = torch.randn(CHECK_IMAGES, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    images = images.to(next((parameter.dtype for parameter in model.parameters()), torch.float32))
    with torch.inference_mode():
        expected = copy.deepcopy(model).float()(images.float()).numpy()
    settings = onnxruntime.SessionOptions()
    # It is the graph that is proven, not the optimiser: that of 1.31 crashes on FP16 transformers.
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(graph.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    (found,) = session.run([OUTPUT], {INPUT: images.numpy()})
    return float(np.linalg.norm(found.astype(np.float32) - expected) / np.linalg.norm(expected))
