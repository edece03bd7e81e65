"""From PyTorch to ONNX: one plain, reproducible graph that is proven equal to the model."""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from deepgap.errors import GraphError, first_line
from deepgap.files import put_in_place, refuse_unreadable

if TYPE_CHECKING:
    import torch

OPSET = 20
PRODUCER = "deepgap"
INPUT, OUTPUT, BATCH = "input", "logits", "batch"
WEIGHTS_HASH = "weights_sha256"
SEAL = "sha256_of_the_rest"
"""The property at the end of a graph's file that holds the hash of all bytes before it."""

TOLERANCE = {"fp32": 1e-5, "fp16": 5e-2}
"""Largest relative L2 error of the logits in ONNX Runtime."""

CHECK_IMAGES = 3
EXAMPLE_IMAGES = 2

NAMES = {"GlobalAveragePool": "global_pool", "MaxPool": "max_pool"}
OPERATORS = {"Conv", "Relu", "MaxPool", "Add", "GlobalAveragePool", "Flatten", "Gemm"}


def export_onnx(
    model: torch.nn.Module, path: Path, precision: str, image_size: int, weights_sha256: str | None = None
) -> None:
    """Write a residual network as ONNX, with BatchNorm folded and any batch size.

    The input is named `input`, shape (batch, 3, image_size, image_size), the output `logits`, (batch, classes);
    both are float32 or, for fp16, float16, as all weights are. A convolution's output has the name of its module
    (`layer1.0.conv1`), any other tensor that of its operator and a count (`relu_3`). Equal models give equal bytes.

    Args:
        model: a torchvision ResNet in eval mode with float32 weights; it is left as it is.
        precision: "fp32" or "fp16".
        weights_sha256: the hash of the weights, kept in the file's metadata.

    Raises:
        GraphError: the exporter left an operator that the project does not know, or the graph in ONNX Runtime
            differs from the model in PyTorch by more than `TOLERANCE`; nothing is written.
    """
    import torch

    exported = copy.deepcopy(model).half() if precision == "fp16" else model
    example = torch.zeros(EXAMPLE_IMAGES, 3, image_size, image_size, dtype=next(exported.parameters()).dtype)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            exported,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: BATCH},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    graph = _plain(program.model_proto)
    unknown = {node.op_type for node in graph.graph.node} - OPERATORS
    if unknown:
        raise GraphError(
            f"The export to {path.name} holds {', '.join(sorted(unknown))}, which a plain residual network does not; "
            "use the pinned torch and onnxscript."
        )
    onnx.checker.check_model(graph, full_check=True)
    error = _relative_error(exported, graph, image_size)
    if not error <= TOLERANCE[precision]:
        raise GraphError(
            f"The logits of {path.name} differ from PyTorch's by {error:.1e} where {TOLERANCE[precision]:.0e} is "
            "allowed; use the pinned torch and onnxscript."
        )
    if weights_sha256 is not None:
        onnx.helper.set_model_props(graph, {WEIGHTS_HASH: weights_sha256})
    write_graph(path, graph)


def read_weights_hash(path: Path) -> str:
    """The hash of the weights that a graph was made from.

    Raises:
        GraphError: the file is missing, damaged or was not exported by this project.
    """
    properties = _properties(load_graph(path))
    if WEIGHTS_HASH not in properties:
        raise GraphError(f"The graph {path} does not say of which weights it is; delete it and run Snakemake again.")
    return properties[WEIGHTS_HASH]


def load_graph(path: Path) -> onnx.ModelProto:
    """Read an ONNX file, without a check of what is in it but that `write_graph` wrote it so.

    Raises:
        GraphError: the file is missing, damaged or was edited.
    """
    try:
        content = path.read_bytes()
        model = onnx.load_from_string(content)
    except FileNotFoundError:
        raise GraphError(f"The graph {path} does not exist; run Snakemake to make it.") from None
    except (OSError, DecodeError, UnicodeDecodeError) as error:
        refuse_unreadable(path, error)
        raise GraphError(
            f"{path} is damaged or not an ONNX model ({first_line(error)}); delete it and run Snakemake again."
        ) from None
    length = len(_seal(b""))
    sealed = SEAL in _properties(model)
    if not sealed and not model.graph.node:
        raise GraphError(
            f"{path} is damaged or not an ONNX model (it holds no graph); delete it and run Snakemake again."
        )
    # Without a seal it is a file of another program, and what uses it has checks of its own.
    ours = sealed or model.producer_name == PRODUCER
    if ours and content[-length:] != _seal(memoryview(content)[:-length]):
        raise GraphError(
            f"The graph {path} was edited or damaged after it was made; delete it and run Snakemake again."
        )
    return model


def write_graph(path: Path, model: onnx.ModelProto) -> None:
    """Write a model in one step, and behind it the hash of its bytes; equal models give equal bytes."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    # The seal of the graph that this one was made from.
    onnx.helper.set_model_props(bare, {key: value for key, value in _properties(model).items() if key != SEAL})
    content = bare.SerializeToString(deterministic=True)
    with put_in_place(path) as partial:
        partial.write_bytes(content + _seal(content))


def _seal(content: bytes | memoryview) -> bytes:
    """A message of one property; Protocol Buffers merge a message into the one that it follows."""
    message = onnx.ModelProto()
    onnx.helper.set_model_props(message, {SEAL: hashlib.sha256(content).hexdigest()})
    sealed: bytes = message.SerializeToString(deterministic=True)
    return sealed


def _properties(model: onnx.ModelProto) -> dict[str, str]:
    return {str(entry.key): str(entry.value) for entry in model.metadata_props}


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network without traces of the exporter, with stable names and a real global average pool."""
    graph = model.graph
    _pool_globally(graph)
    _rename(graph)
    used = {name for node in graph.node for name in node.input}
    clean = onnx.helper.make_model(
        onnx.helper.make_graph(
            [_bare(node) for node in graph.node],
            "main",
            [_bare_value(value) for value in graph.input],
            [_bare_value(value) for value in graph.output],
            [tensor for tensor in graph.initializer if tensor.name in used],
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=model.ir_version,
        producer_name=PRODUCER,
    )
    for tensor in clean.graph.initializer:
        tensor.ClearField("doc_string")
        del tensor.metadata_props[:]
    return clean


def _bare(node: onnx.NodeProto) -> onnx.NodeProto:
    bare = onnx.helper.make_node(node.op_type, node.input, node.output, name=node.output[0])
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
        if node.op_type != "ReduceMean" or sorted(constants[node.input[1]] % 4) != [2, 3]:
            continue
        reshape = consumers[node.output[0]]
        if reshape.op_type == "Reshape" and len(constants[reshape.input[1]]) == 2:
            for changed, operator in ((node, "GlobalAveragePool"), (reshape, "Flatten")):
                changed.op_type = operator
                del changed.input[1:]
                del changed.attribute[:]


def _rename(graph: onnx.GraphProto) -> None:
    """Give tensors names that a reader of the calibration cache knows, whatever the exporter's version."""
    names = {value.name: value.name for value in (*graph.input, *graph.output)}
    counts: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type == "Conv":
            module = node.input[1].removesuffix(".weight")
            names[node.output[0]] = module
            names.update(zip(node.input[2:], [f"{module}.bias"], strict=False))
        elif node.output[0] not in names:
            name = NAMES.get(node.op_type, node.op_type.lower())
            names[node.output[0]] = f"{name}_{counts[name]}" if counts[name] else name
            counts[name] += 1
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)


def _relative_error(model: torch.nn.Module, graph: onnx.ModelProto, image_size: int) -> float:
    """Relative L2 error of the graph's logits on random images, against the model computed in FP32."""
    import numpy as np
    import onnxruntime
    import torch

    images = torch.randn(CHECK_IMAGES, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    images = images.to(next(model.parameters()).dtype)
    with torch.inference_mode():
        expected = copy.deepcopy(model).float()(images.float()).numpy()
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run([OUTPUT], {INPUT: images.numpy()})
    return float(np.linalg.norm(found.astype(np.float32) - expected) / np.linalg.norm(expected))
