"""Networks that are not residual: what is quantised, what the graphs compute, what ONNX Runtime makes of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from deepgap.build.quantize.forms import FORMS
from deepgap.build.quantize.lint import describe_boundaries, lint_placement, list_boundaries
from deepgap.build.quantize.network import DQ, Q, quantisable
from deepgap.build.quantize.placement import calibrated_tensors, tensorrt_activations
from deepgap.build.quantize.qdq import insert_qdq, insert_qdq_fp8, insert_qdq_fp16
from deepgap.build.quantize.u8s8 import insert_u8s8
from deepgap.errors import UnsupportedError
from deepgap.measure.fidelity import compare_logits
from tests.unit.general_networks import CLASSES, NETWORKS, general_graph, general_images, general_network

pytestmark = pytest.mark.xdist_group("graphs")

EXACT = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


def run(model, images, outputs=("logits",), level=EXACT, saved=None):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = level
    if saved is not None:
        options.optimized_model_filepath = str(saved)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kind = helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    return session.run(list(outputs), {"input": images.astype(kind)})


def max_scales(model: onnx.ModelProto, images: np.ndarray, attention: bool = False) -> dict[str, float]:
    inner = [name for name in calibrated_tensors(model, attention) if name != "input"]
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    known = {value.name for value in opened.graph.output}
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner if name not in known)
    values = {"input": images} | dict(zip(inner, run(opened, images, inner), strict=True))
    return {name: float(np.abs(value).max()) / 127 for name, value in values.items()}


def sqnr_db(found: np.ndarray, expected: np.ndarray) -> float:
    figure = compare_logits(found, expected).centred_sqnr_db
    assert figure is not None
    return figure


# What is quantised


def test_a_mobile_network_is_quantised_but_for_squeeze_and_excite_and_the_classifier():
    network = quantisable(general_graph("mobile"))
    weights = [network.constants[layer.weight.tensor].name for layer in network.layers]
    assert len(weights) == 1 + 2 * 3
    assert not [name for name in weights if "excite" in name or "classifier" in name]
    assert [use.node.op_type for use in network.skips] == ["Add", "Add"]
    # The skip, not the projection that the Add follows.
    for use in network.skips:
        assert network.producer[use.tensor].op_type != "Conv"
    model = insert_qdq(general_graph("mobile"), max_scales(general_graph("mobile"), general_images(4)))
    scales = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    depthwise = next(layer for layer in network.layers if layer.node.input[1].endswith("depthwise.0.weight"))
    assert scales[f"{depthwise.weight.tensor}_scale"] == [64]


def test_a_transformer_is_quantised_at_its_linear_layers():
    network = quantisable(general_graph("transformer"))
    assert Counter(layer.node.op_type for layer in network.layers)["Conv"] == 1
    assert len(network.layers) == 1 + 2 * 4
    assert not network.skips and not network.last_pools
    plain = {use.key for use in tensorrt_activations(network)}
    with_products = {use.key for use in tensorrt_activations(network, attention=True)}
    assert len(with_products - plain) == 2 * 4 and plain < with_products
    assert all(network.producer[result].op_type == "MatMul" for result, _ in with_products - plain)


def test_the_axis_of_channels_is_that_of_the_operator():
    graph = general_graph("transformer")
    network = quantisable(graph)
    model = insert_qdq(graph, max_scales(graph, general_images(4)))
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for layer in network.layers:
        weight = constants[layer.weight.tensor]
        rest = tuple(axis for axis in range(weight.ndim) if axis != layer.axis)
        expected = np.abs(weight).max(rest) / 127
        np.testing.assert_allclose(constants[f"{layer.weight.tensor}_scale"], expected, rtol=1e-5)


def test_layers_that_share_constants_get_scales_of_their_own():
    graph = general_graph("mobile")
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv" and len(node.input) > 2]
    by_shape: dict[tuple[int, ...], list[onnx.NodeProto]] = {}
    dims = {tensor.name: tuple(tensor.dims) for tensor in graph.graph.initializer}
    for node in convolutions:
        by_shape.setdefault((*dims[node.input[1]], *dims[node.input[2]]), []).append(node)
    shared = next(nodes for nodes in by_shape.values() if len(nodes) > 1)
    shared[1].input[1:3] = shared[0].input[1:3]
    images = general_images(8)
    (expected,) = run(graph, images)
    scales = max_scales(graph, images)
    for insert in (insert_qdq, insert_u8s8):
        assert sqnr_db(run(insert(graph, scales), images)[0], expected) > 15


def tiny(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], shape: list[object]) -> onnx.ModelProto:
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "main",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4, 8, 8])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(value, name) for name, value in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    return model


def test_what_cannot_be_quantised_is_refused_in_a_sentence():
    nothing = tiny([helper.make_node("Relu", ["input"], ["logits"], "relu")], {}, ["batch", 4, 8, 8])
    with pytest.raises(UnsupportedError, match="before its classifier it holds no Conv, Gemm or MatMul"):
        calibrated_tensors(nothing)
    twice = insert_qdq(general_graph("mobile"), max_scales(general_graph("mobile"), general_images(2)))
    with pytest.raises(UnsupportedError, match="so it is quantised already; start from the FP32 export"):
        calibrated_tensors(twice)


# What the graphs compute


def simulate(model: nn.Module, images: torch.Tensor, skipped: tuple[str, ...]) -> torch.Tensor:
    """The INT8 network by hand: PyTorch, with inputs and weights of its linear layers rounded to their scales."""
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and not any(part in name for part in skipped)
    }
    largest: dict[str, float] = {}
    handles = []
    for name, module in layers.items():
        handles.append(
            module.register_forward_pre_hook(
                lambda _module, inputs, name=name: largest.__setitem__(name, float(inputs[0].abs().max()))
            )
        )
    model(images)
    for handle in handles:
        handle.remove()
    handles = []
    for name, module in layers.items():
        weight = module.weight.data
        scale = weight.abs().flatten(1).amax(1) / 127
        module.weight.data = torch.fake_quantize_per_channel_affine(
            weight, scale, torch.zeros(len(scale), dtype=torch.int32), 0, -128, 127
        )
        step = largest[name] / 127
        handles.append(
            module.register_forward_pre_hook(
                lambda _module, inputs, step=step: torch.fake_quantize_per_tensor_affine(
                    inputs[0], step, 0, -128, 127
                )
            )
        )
    result = model(images)
    for handle in handles:
        handle.remove()
    return result


def test_the_graph_computes_what_a_simulation_in_pytorch_does():
    """The transformer alone: the exporter folds the BatchNorm of the other, which changes the scales."""
    images = general_images(16)
    graph = general_graph("transformer")
    found = run(insert_qdq(graph, max_scales(graph, images)), images)[0]
    model = NETWORKS["transformer"]()
    model.load_state_dict(general_network("transformer").state_dict())
    with torch.no_grad():
        expected = simulate(model.eval(), torch.from_numpy(images), ("classifier",)).numpy()
    plain = run(graph, images)[0]
    # They differ where a value lies on the border of two steps, far less than either does from FP32.
    assert sqnr_db(found, expected) > sqnr_db(found, plain) + 15


# An 8-bit quantiser that clips nothing of a normal tensor has about 38 dB. The errors of seven to nine layers in a
# row add up, 10 dB where they are independent, and a maximum instead of a threshold costs some more. A calibration
# that went wrong has 9 dB and less on ResNets.
FLOOR_DB = 20
# FP8 keeps three bits of a mantissa: about 31 dB at any magnitude.
FLOOR_DB_FP8 = FLOOR_DB - 7


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_form_is_close_to_fp32_on_images_that_did_not_calibrate_it(name, form):
    graph = general_graph(name)
    images = general_images(64, seed=9)
    quantised = FORMS[form](graph, max_scales(graph, general_images(64)))
    onnx.checker.check_model(quantised, full_check=True)
    (expected,) = run(graph, images)
    assert len(set(expected.argmax(1))) > CLASSES / 2
    fp8 = form == "qdq_fp8"
    # ONNX Runtime's optimizer moves FP8 into a Transpose, for which it has no kernel.
    for level in (EXACT,) if fp8 else (EXACT, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL):
        (found,) = run(quantised, images, level=level)
        assert sqnr_db(found.astype(np.float32), expected) > (FLOOR_DB_FP8 if fp8 else FLOOR_DB)


def test_products_of_attention_are_an_option():
    graph, images = general_graph("transformer"), general_images(32)
    scales = max_scales(graph, images, attention=True)
    (expected,) = run(graph, images)
    for insert in (insert_qdq, insert_qdq_fp16, insert_u8s8):
        plain, products = (insert(graph, scales, attention) for attention in (False, True))
        count = [sum(node.op_type == Q for node in model.graph.node) for model in (plain, products)]
        assert count[1] - count[0] == 8
        assert sqnr_db(run(products, images)[0].astype(np.float32), expected) > FLOOR_DB
    assert lint_placement(insert_qdq(graph, scales, attention=True), attention=True) == []
    assert "it stays in the other type" in " ".join(lint_placement(insert_qdq(graph, scales, attention=True)))


@pytest.mark.parametrize(("insert", "kind"), [(insert_qdq_fp16, "INT8"), (insert_qdq_fp8, "FLOAT8E4M3FN")])
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_half_forms_hold_eight_bits_and_fp16_throughout(name, insert, kind):
    graph = general_graph(name)
    model = insert(graph, max_scales(graph, general_images(8)))
    kinds = {tensor.data_type for tensor in model.graph.initializer} - {TensorProto.INT64}
    assert kinds == {TensorProto.FLOAT16, TensorProto.DataType.Value(kind)}
    ends = {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    assert ends == {TensorProto.FLOAT16}
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.value_info
    assert TensorProto.FLOAT not in {value.type.tensor_type.elem_type for value in inferred}
    assert lint_placement(model) == []
    again = insert(graph, max_scales(graph, general_images(8)))
    assert again.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)


# What runtimes make of them


def optimised(name: str, folder) -> Counter:
    graph = general_graph(name)
    model = insert_u8s8(graph, max_scales(graph, general_images(8)))
    run(model, general_images(2), level=onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL, saved=folder / "best.onnx")
    return Counter(node.op_type for node in onnx.load(folder / "best.onnx").graph.node)


def test_onnxruntime_multiplies_integers_in_the_mobile_network(tmp_path):
    counts = optimised("mobile", tmp_path)
    # What follows the last block's Add is a mean, which is not quantised here.
    assert counts["QLinearConv"] == 7 and counts["QLinearAdd"] == 1
    # Squeeze and excite, and the classifier.
    assert counts["Conv"] + counts["FusedConv"] == 4 and counts["Gemm"] == 1


def test_onnxruntime_multiplies_integers_in_the_transformer(tmp_path):
    counts = optimised("transformer", tmp_path)
    assert counts["QLinearConv"] == 1
    assert counts["MatMulIntegerToFloat"] + counts["QLinearMatMul"] + counts["QGemm"] == 2 * 4
    assert counts["MatMul"] + counts["FusedMatMul"] == 2 * 2 and counts["Gemm"] == 1


def test_the_boundaries_of_int8_are_told():
    graph = general_graph("mobile")
    model = insert_qdq(graph, max_scales(graph, general_images(4)))
    assert lint_placement(model) == []
    kinds = {(found.maker.split()[0], found.reader.split()[0], found.leaves) for found in list_boundaries(model)}
    assert {("Conv", "HardSwish", True), ("HardSwish", "Conv", False), ("Mul", "Conv", False)} <= kinds
    told = describe_boundaries(model)
    assert any(line.startswith("3 x leaves INT8: Conv ") and "for HardSwish" in line for line in told)
    assert told == sorted(told, key=lambda line: -int(line.split()[0]))


# Any graph

STEPS = ("conv", "depthwise", "relu", "hardswish", "clip", "skip", "excite", "pool", "concat", "transpose", "unknown")


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """A convolution and some steps of four channels behind it, then a classifier."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    weights = {"shape": np.array([0, -1]), "zero": np.array(0, np.float32), "six": np.array(6, np.float32)}
    nodes: list[onnx.NodeProto] = []
    tensors = ["input"]

    def add(operator: str, inputs: list[str], **attributes: object) -> str:
        name = f"{operator.lower()}_{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def conv(x: str, channels: int = 4, group: int = 1) -> str:
        name = f"w{len(nodes)}"
        weights[name] = rng.standard_normal((4, channels // group, 3, 3)).astype(np.float32) / 6
        return add("Conv", [x, name], pads=[1] * 4, group=group)

    for step in ["conv", *draw(st.lists(st.sampled_from(STEPS), max_size=10))]:
        x = tensors[-1]
        if step in ("conv", "depthwise"):
            x = conv(x, group=4 if step == "depthwise" else 1)
        elif step == "skip":
            x = add("Add", [draw(st.sampled_from(tensors)), x])
        elif step == "excite":
            x = add("Mul", [x, add("Sigmoid", [conv(add("ReduceMean", [x, "axes"]))])])
        elif step == "concat":
            x = conv(add("Concat", [x, draw(st.sampled_from(tensors))], axis=1), channels=8)
        elif step == "pool":
            x = add("MaxPool", [x], kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1])
        elif step == "clip":
            x = add("Clip", [x, "zero", "six"])
        elif step == "transpose":
            x = add("Transpose", [x], perm=[0, 1, 3, 2])
        else:
            x = add({"relu": "Relu", "hardswish": "HardSwish", "unknown": "Softplus"}[step], [x])
        tensors.append(x)
    weights["axes"] = np.array([2, 3])
    flat = add("Flatten", [add("GlobalAveragePool", [tensors[-1]])])
    weights["head"] = rng.standard_normal((4, 3)).astype(np.float32)
    nodes.append(helper.make_node("Gemm", [flat, "head"], ["logits"], "logits"))
    used = {name for node in nodes for name in node.input}
    return tiny(nodes, {name: value for name, value in weights.items() if name in used}, ["batch", 3])


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_any_graph_is_quantised_as_the_lint_wants_it(graph):
    images = np.random.default_rng(1).standard_normal((4, 4, 8, 8)).astype(np.float32)
    scales = max_scales(graph, images)
    (expected,) = run(graph, images)
    for form, insert in FORMS.items():
        model = insert(graph, scales)
        onnx.checker.check_model(model, full_check=True)
        (found,) = run(model, images)
        error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        assert error < 0.5, form
        if form != "u8s8":
            assert lint_placement(model) == []
    # Without its pairs it is the graph that it was made from.
    model = insert_qdq(graph, scales)
    source = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type in (Q, DQ)}
    for node, original in zip(
        [node for node in model.graph.node if node.op_type not in (Q, DQ)], graph.graph.node, strict=True
    ):
        assert [source.get(source.get(name, ""), name) for name in node.input] == list(original.input)
