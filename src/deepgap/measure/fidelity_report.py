"""Where in a network each arithmetic departs from FP32, and what each calibration method costs.

All graphs run in ONNX Runtime on the CPU without its optimiser, which moves roundings: it was seen to change the
logits of a calibrated ResNet-18 by 5 % of their norm with Q/DQ pairs, and by 2 % in the form for x86. So what is
compared is the arithmetic that a graph states; what a runtime makes of it is measured with its cells.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
import polars as pl
import polars.selectors as cs

from deepgap.build.graph_file import INPUT, OUTPUT
from deepgap.build.quantize.forms import FORMS
from deepgap.build.quantize.histograms import Histogram
from deepgap.build.quantize.network import read_graph
from deepgap.build.quantize.thresholds import METHODS, choose_scales
from deepgap.errors import UnsupportedError
from deepgap.host import host_threads
from deepgap.measure.fidelity import compare_layers, compare_logits
from deepgap.measure.precision import set_precision
from deepgap.text import tell

if TYPE_CHECKING:
    import torch

Layers: TypeAlias = "dict[str, np.ndarray]"
"""The results of the `stem`, of each residual block (`layer1.0`) and the `logits`, by name, images first.

Of a network without such blocks, the logits alone.
"""

STEM = "stem"
LAYER_IMAGES, METHOD_IMAGES = 32, 200
CHUNK = 8
"""Images in one run, so that memory does not grow with their number where only logits are kept."""

LAYERS = pl.Schema({"form": pl.String, "layer": pl.String, "sqnr_db": pl.Float64, "cosine": pl.Float64})
"""A row a form of the network and layer, against PyTorch's FP32 on the CPU.

form: `pytorch-<precision>` on the device, or `onnx-<graph>` on the CPU.
sqnr_db, cosine: of the values as they are, not centred; null where there is no difference or no such figure.
"""

COSTS = pl.Schema(
    {
        "form": pl.String,
        "method": pl.String,
        "images": pl.Int64,
        "centred_sqnr_db": pl.Float64,
        "loss_db": pl.Float64,
        "centred_cosine": pl.Float64,
        "top1_agreement": pl.Float64,
        "top1_accuracy": pl.Float64,
        "reference_top1_accuracy": pl.Float64,
    }
)
"""A row a form of the INT8 graph and calibration method.

loss_db: below the best method of the form.
images and the rest: as in `deepgap.measure.fidelity.Fidelity`.
"""


def report_layers(
    model: torch.nn.Module, precisions: Sequence[str], device: str, graphs: Sequence[Path], images: np.ndarray
) -> pl.DataFrame:
    """Compare a model in PyTorch and its graphs with the model in FP32 on the CPU; see `LAYERS`.

    Args:
        model: in eval mode, float32, on the CPU.
        precisions: in which PyTorch computes it on `device`, "cpu" or "cuda".
        graphs: exported or quantised graphs of it, named `<model>.<key>.<form>.onnx`.
        images: shape (n, 3, size, size), of values that float16 holds.

    Raises:
        GraphError: a graph cannot be read.
    """

    def run_module(precision: str) -> Layers:
        set_precision(precision)
        moved = copy.deepcopy(model).to(device)
        return module_layers(moved.half() if precision == "fp16" else moved, images)

    def run_file(graph: Path) -> Layers:
        return graph_layers(read_graph(graph), images)

    forms = {f"pytorch-{precision}": partial(run_module, precision) for precision in precisions}
    forms |= {f"onnx-{graph.name.split('.')[-2]}": partial(run_file, graph) for graph in graphs}
    return compare_forms(module_layers(model, images), forms)


def compare_forms(
    reference: Layers, forms: Mapping[str, Callable[[], Layers]], say: Callable[[str], None] = tell
) -> pl.DataFrame:
    """Compare forms of a network with its reference, layer by layer; see `LAYERS`.

    Args:
        forms: runs each form on the reference's images; one at a time, because layers are large.
        say: takes a line for each form that the network does not have.
    """
    rows: list[dict[str, Any]] = []
    for form, run in forms.items():
        try:
            found = run()
        except UnsupportedError as error:
            say(f"{form} is left out: {error}")
            continue
        for row in _compare_common(reference, found):
            rows.append({"form": form, "layer": row["tensor"], "sqnr_db": row["sqnr_db"], "cosine": row["cosine"]})
    return pl.DataFrame(rows, schema=LAYERS)


def _compare_common(reference: Layers, found: Layers) -> list[dict[str, Any]]:
    """Of what both have: a network may name its blocks as a ResNet does and be none."""
    common = [name for name in reference if name in found]
    return compare_layers({name: reference[name] for name in common}, {name: found[name] for name in common})


def compare_methods(
    graph: onnx.ModelProto,
    histograms: Mapping[str, Histogram],
    images: np.ndarray,
    reference: np.ndarray,
    labels: np.ndarray | None,
    attention: bool,
    say: Callable[[str], None],
) -> pl.DataFrame:
    """Calibrate a graph by every method and compare its logits with FP32's; see `COSTS`.

    Args:
        graph: the FP32 export.
        histograms: of each of its `calibrated_tensors`.
        images: shape (n, 3, size, size); reference: their FP32 logits, (n, classes); labels: (n,) or none.
        attention: as in `calibrated_tensors`.
        say: takes a line of progress for each graph.
    """
    rows: list[dict[str, Any]] = []
    for method in METHODS:
        scales = choose_scales(histograms, method)
        for form, quantise in FORMS.items():
            say(f"{method}: running the {form} graph on {len(images)} images")
            logits = run_graph(quantise(graph, scales, attention), images, [OUTPUT])[OUTPUT]
            rows.append({"form": form, "method": method, **asdict(compare_logits(logits, reference, labels))})
    loss = pl.col("centred_sqnr_db").max().over("form") - pl.col("centred_sqnr_db")
    return pl.DataFrame(rows, schema=COSTS).with_columns(loss_db=loss).sort("form", "loss_db", nulls_last=True)


def module_layers(model: torch.nn.Module, images: np.ndarray) -> Layers:
    """The layers of a model, float32, computed where it lies and in its type."""
    import torch
    from torchvision.models.resnet import BasicBlock, Bottleneck

    blocks = {name: module for name, module in model.named_modules() if isinstance(module, BasicBlock | Bottleneck)}
    shown = {STEM: model.get_submodule("relu"), **blocks, OUTPUT: model} if blocks else {OUTPUT: model}
    found: dict[str, list[np.ndarray]] = defaultdict(list)

    def keep(name: str, result: torch.Tensor) -> None:
        found[name].append(result.float().cpu().numpy())

    handles = [
        module.register_forward_hook(lambda _module, _inputs, result, name=name: keep(name, result))
        for name, module in shown.items()
    ]
    kind = next(model.parameters())
    try:
        with torch.inference_mode():
            for chunk in _chunks(images):
                model(torch.from_numpy(chunk).to(kind.device, kind.dtype))
    finally:
        for handle in handles:
            handle.remove()
    return {name: np.concatenate(found[name]) for name in shown}


def graph_layers(graph: onnx.ModelProto, images: np.ndarray) -> Layers:
    """The layers of an exported graph in FP32 or FP16, quantised or not, float32."""
    tensors = layer_tensors(graph)
    half = graph.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    values = run_graph(spell_out_half(graph) if half else graph, images, list(tensors.values()))
    return {layer: values[tensor] for layer, tensor in tensors.items()}


def layer_tensors(graph: onnx.ModelProto) -> dict[str, str]:
    """The tensor of each layer: the first Relu's result, that of the Relu behind each Add, and the logits.

    A block is named by its convolutions, whose results are named by their modules (`layer1.0.conv2`). A graph without
    such convolutions has the logits alone.
    """
    maker = {node.output[0]: node for node in graph.graph.node}
    relus = [node for node in graph.graph.node if node.op_type == "Relu"]
    blocks = {}
    for relu in relus:
        add = maker.get(relu.input[0])
        if add is not None and add.op_type == "Add":
            for convolution in [name for name in add.input if name.startswith("layer")][:1]:
                blocks[".".join(convolution.split(".")[:2])] = str(relu.output[0])
    return {STEM: str(relus[0].output[0]), **blocks, OUTPUT: OUTPUT} if blocks else {OUTPUT: OUTPUT}


def spell_out_half(graph: onnx.ModelProto) -> onnx.ModelProto:
    """An FP16 graph as FP32 operators whose every FP16 result is rounded to FP16, as on tensor cores.

    ONNX Runtime computes FP16 in FP32 on most CPUs too, but keeps only the roundings that the graph spells out.
    """
    half = onnx.TensorProto.FLOAT16
    inferred = onnx.shape_inference.infer_shapes(graph, strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.output)}
    spelled = onnx.ModelProto()
    spelled.CopyFrom(graph)
    del spelled.graph.node[:], spelled.graph.value_info[:]
    for original in graph.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        rounded = [index for index, name in enumerate(node.output) if types.get(name) == half]
        casts = []
        for index in rounded:
            name = node.output[index]
            node.output[index], middle = f"{name}_exact", f"{name}_half"
            casts += [
                onnx.helper.make_node("Cast", [node.output[index]], [middle], to=half),
                onnx.helper.make_node("Cast", [middle], [name], to=onnx.TensorProto.FLOAT),
            ]
        spelled.graph.node.extend([node, *casts])
    for tensor in spelled.graph.initializer:
        if tensor.data_type == half:
            wide = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(wide, tensor.name))
    for value in (*spelled.graph.input, *spelled.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return spelled


def run_graph(graph: onnx.ModelProto, images: np.ndarray, tensors: Sequence[str]) -> dict[str, np.ndarray]:
    """These tensors of a graph, in the arithmetic that it states, on images of shape (n, 3, size, size)."""
    import onnxruntime

    kind = onnx.helper.tensor_dtype_to_np_dtype(graph.graph.input[0].type.tensor_type.elem_type)
    opened = onnx.ModelProto()
    opened.CopyFrom(graph)
    del opened.graph.output[:]
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = host_threads()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    parts = [session.run(list(tensors), {INPUT: chunk.astype(kind)}) for chunk in _chunks(images)]
    return {name: np.concatenate(values) for name, values in zip(tensors, zip(*parts, strict=True), strict=True)}


NOTHING = "Nothing can be compared; the log of the comparison says why."


def describe_layers(layers: pl.DataFrame) -> str:
    """`LAYERS` as text: the decibels of each form side by side."""
    if layers.is_empty():
        return NOTHING
    same = pl.col("sqnr_db").is_null() & (pl.col("cosine") == 1)
    text = pl.when(same).then(pl.lit("exact")).otherwise(pl.col("sqnr_db").round(1).cast(pl.String))
    return _table(layers.with_columns(text.alias("sqnr_db")).pivot("form", index="layer", values="sqnr_db"))


def describe_methods(costs: pl.DataFrame) -> str:
    """`COSTS` as text."""
    if costs.is_empty():
        return NOTHING
    return _table(costs.with_columns(cs.ends_with("_db").round(1), cs.matches("cosine|top1").round(4)))


def _table(frame: pl.DataFrame) -> str:
    with pl.Config(
        tbl_formatting="MARKDOWN",
        tbl_hide_column_data_types=True,
        tbl_hide_dataframe_shape=True,
        tbl_rows=-1,
        tbl_cols=-1,
        tbl_width_chars=-1,
    ):
        return str(frame)


def _chunks(images: np.ndarray) -> list[np.ndarray]:
    return [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
