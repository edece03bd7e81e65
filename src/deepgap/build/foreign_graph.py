"""A graph of another program, brought to the form of this project's exports on a copy."""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import onnx.version_converter
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from deepgap.build.graph_file import BATCH, INPUT, OUTPUT, PRODUCER, WEIGHTS_HASH, write_graph
from deepgap.build.quantize.network import FIRST_OPSET
from deepgap.errors import GraphError, UnsupportedError, first_line

TOLERANCE = 1e-4
"""Largest relative L2 error of the logits against the graph as it was given."""
CHECK_IMAGES = 3


def adopt_graph(source: Path, path: Path, precision: str, image_size: int) -> None:
    """Write a copy of a classifier's graph with this project's names, and a batch of any size.

    Constants become initializers, nodes have the names of their outputs, the input is `input`, (batch, 3, image_size,
    image_size), and the output `logits`, (batch, classes). The operators stay as they are, but for those of a version
    before Q/DQ pairs, which are brought to that where they can be.

    Args:
        source: an ONNX file of any program, with its weights inside.
        precision: "fp32" or "fp16", to which all weights, the input and the output are then converted.

    Raises:
        GraphError: the file is unreadable, not an ONNX model, or of another image size.
        UnsupportedError: the graph is no classifier of float32 images, keeps its weights in other files, or cannot
            take another batch size than its own. Nothing is written.
    """
    content, model = _read(source)
    _check_interface(model, source, image_size)
    plain = _plain(_with_pairs(model))
    _free_batch(plain, image_size)
    _check_batches(model, plain, image_size)
    if precision == "fp16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        plain = convert_float_to_float16(plain)
    onnx.helper.set_model_props(plain, {WEIGHTS_HASH: hashlib.sha256(content).hexdigest()})
    write_graph(path, plain)


def _read(source: Path) -> tuple[bytes, onnx.ModelProto]:
    try:
        content = source.read_bytes()
        model = onnx.load_from_string(content)
    except OSError as error:
        raise GraphError(f"The graph {source} cannot be read ({error.strerror}).") from None
    except (DecodeError, UnicodeDecodeError) as error:
        raise GraphError(f"{source} is not an ONNX model ({first_line(error)}); name another file.") from None
    if not model.graph.node:
        raise GraphError(f"{source} is not an ONNX model (it holds no graph); name another file.")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise UnsupportedError("The graph keeps weights in files beside it; save it as one file.")
    return content, model


def _own_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that are not weights, which older files list among them."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def _check_interface(model: onnx.ModelProto, source: Path, image_size: int) -> None:
    inputs, outputs = _own_inputs(model), list(model.graph.output)
    if len(inputs) != 1 or len(outputs) != 1:
        raise UnsupportedError(
            f"The graph has {len(inputs)} inputs and {len(outputs)} outputs; a classifier has one of each."
        )
    kind = inputs[0].type.tensor_type
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
    if kind.elem_type != onnx.TensorProto.FLOAT:
        raise UnsupportedError(
            f"The graph takes {onnx.TensorProto.DataType.Name(kind.elem_type).lower()} and not float32."
        )
    if len(sizes) != 4 or sizes[1] not in (3, None):
        shape = " x ".join("?" if size is None else str(size) for size in sizes)
        raise UnsupportedError(f"The graph takes a tensor of {shape}, and not images of batch x 3 x height x width.")
    if any(size not in (image_size, None) for size in sizes[2:]):
        raise GraphError(
            f"The graph {source} takes images of {sizes[2]} x {sizes[3]}, and the study asks for {image_size} x "
            f"{image_size}; write {{model: onnx:{source}, image_size: {sizes[3]}}}."
        )


def _with_pairs(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in a version that has Q/DQ pairs; as it is where ONNX cannot convert it."""
    if any(entry.version < FIRST_OPSET for entry in model.opset_import if not entry.domain):
        # The converter's errors share no class.
        with suppress(Exception):
            converted = onnx.version_converter.convert_version(model, FIRST_OPSET)
            least = onnx.helper.find_min_ir_version_for(converted.opset_import)
            converted.ir_version = max(converted.ir_version, least)
            return converted
    return model


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without texts, with constants as initializers and names of this project."""
    import onnx_ir as ir
    from onnx_ir.passes.common import LiftConstantsToInitializersPass

    # Its tensors are shared with the message that it is made from.
    own = onnx.ModelProto()
    own.CopyFrom(model)
    graph_model = ir.from_proto(own)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph_model)
    graph = graph_model.graph
    (image,) = [value for value in graph.inputs if value.name not in graph.initializers]
    taken = {INPUT, OUTPUT, *(node.op_type.lower() for node in graph_model.graph.all_nodes())}
    # Weights keep their names, which may tell their layers, but not where a tensor will have that name.
    for number, value in enumerate(list(graph.initializers.values())):
        del graph.initializers[str(value.name)]
        if str(value.name).rstrip("0123456789").rstrip("_") in taken:
            value.name = f"{value.name}.{number}"
        graph.register_initializer(value)
    graph.inputs[:] = [image]
    image.name = INPUT
    counts: Counter[str] = Counter()
    for node in graph_model.graph.all_nodes():
        node.doc_string = None
        node.metadata_props.clear()
        for value in node.outputs:
            name = node.op_type.lower()
            value.name = f"{name}_{counts[name]}" if counts[name] else name
            counts[name] += 1
        node.name = node.outputs[0].name
    graph.outputs[0].name = OUTPUT
    producer = graph.outputs[0].producer()
    if producer is not None:
        producer.name = OUTPUT
    clean: onnx.ModelProto = ir.to_proto(graph_model)
    clean.producer_name, clean.producer_version, clean.doc_string = PRODUCER, "", ""
    clean.graph.name = "main"
    del clean.metadata_props[:], clean.graph.value_info[:], clean.graph.metadata_props[:]
    return clean


def _free_batch(model: onnx.ModelProto, image_size: int) -> None:
    """Let the first dimension of the input be any, also where Reshape nodes have it written down."""
    kind = model.graph.input[0].type.tensor_type
    fixed = kind.shape.dim[0].dim_value if kind.shape.dim[0].HasField("dim_value") else None
    kind.shape.dim[0].Clear()
    kind.shape.dim[0].dim_param = BATCH
    for dim in kind.shape.dim[2:]:
        dim.Clear()
        dim.dim_value = image_size
    kind.shape.dim[1].Clear()
    kind.shape.dim[1].dim_value = 3
    model.graph.output[0].type.tensor_type.ClearField("shape")
    if fixed is None:
        return
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        target = constants.get(node.input[1]) if node.op_type == "Reshape" else None
        if target is not None:
            shape = onnx.numpy_helper.to_array(target).copy()
            if len(shape) > 1 and shape[0] == fixed:
                # 0 stands for the dimension of the tensor that is reshaped.
                shape[0] = 0
                target.CopyFrom(onnx.numpy_helper.from_array(shape, target.name))


def _check_batches(given: onnx.ModelProto, plain: onnx.ModelProto, image_size: int) -> None:
    """Prove that the copy gives for each image of a batch what the given graph gives.

    Raises:
        UnsupportedError: it does not, or it gives no logits.
    """
    shape = (CHECK_IMAGES, 3, image_size, image_size)
    images = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    first = _own_inputs(given)[0].type.tensor_type.shape.dim[0]
    own = first.dim_value if first.HasField("dim_value") else CHECK_IMAGES
    try:
        expected = _run(given, np.resize(images, (own, *shape[1:])), _own_inputs(given)[0].name)
    # ONNX Runtime's errors share no class.
    except Exception as error:
        raise UnsupportedError(f"The graph does not run in ONNX Runtime: {first_line(error).rstrip('.')}.") from None
    if expected.ndim != 2:
        raise UnsupportedError(f"The graph gives a tensor of shape {expected.shape}, and not (batch, classes).")
    try:
        found = _run(plain, images, INPUT)
        same = found.shape == (CHECK_IMAGES, expected.shape[1])
    except Exception:
        same = False
    count = min(own, CHECK_IMAGES)
    if same:
        difference = np.linalg.norm(found[:count] - expected[:count])
        same = bool(difference <= TOLERANCE * np.linalg.norm(expected[:count]))
    if not same:
        raise UnsupportedError(
            f"The graph is made for batches of {own} and gives something else for {CHECK_IMAGES} images; export it "
            "with a dynamic batch."
        )
    dims = plain.graph.output[0].type.tensor_type.shape.dim
    dims.add().dim_param = BATCH
    dims.add().dim_value = expected.shape[1]


def _run(model: onnx.ModelProto, images: np.ndarray, name: str) -> np.ndarray:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {name: images})
    return np.asarray(logits)
