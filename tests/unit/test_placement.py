"""Q/DQ pairs stand where TensorRT fuses them, and ONNX Runtime makes integers of the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from deepgap.build.export import export_onnx
from deepgap.build.quantize.lint import lint_placement
from deepgap.build.quantize.network import DQ, Q, read_graph
from deepgap.build.quantize.placement import calibrated_tensors
from deepgap.build.quantize.qdq import insert_qdq
from deepgap.build.quantize.u8s8 import insert_u8s8
from deepgap.errors import CalibrationError, GraphError, UnsupportedError
from tests.unit.networks import BOTTLENECKS, SIZE, images, run_graph, small_graph, small_network, write_small_graph

pytestmark = pytest.mark.xdist_group("graphs")


@cache
def max_scales(name: str) -> dict[str, float]:
    """Scales that clip nothing of a few images."""
    model = small_graph(name)
    inputs = images(4)
    tensors = calibrated_tensors(model)
    inner = [tensor for tensor in tensors if tensor != "input"]
    model.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in inner)
    values = {"input": inputs, **dict(zip(inner, run_graph(model, inputs, *inner), strict=True))}
    return {tensor: float(np.abs(values[tensor]).max()) / 127 for tensor in tensors}


@cache
def _qdq(name: str) -> bytes:
    return insert_qdq(small_graph(name), max_scales(name)).SerializeToString()


def qdq(name: str = "resnet18") -> onnx.ModelProto:
    return onnx.load_from_string(_qdq(name))


def u8s8(name: str = "resnet18") -> onnx.ModelProto:
    return insert_u8s8(small_graph(name), max_scales(name))


def nodes_by_output(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {output: node for node in model.graph.node for output in node.output}


def constant(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def set_constant(model: onnx.ModelProto, name: str, values: np.ndarray) -> None:
    constant(model, name).CopyFrom(numpy_helper.from_array(values, name))


def sqnr_db(found: np.ndarray, expected: np.ndarray) -> float:
    return 10 * np.log10(np.square(expected).sum() / np.square(found - expected).sum())


@pytest.mark.parametrize(("name", "pairs", "tensors"), [("resnet18", 42, 29), (BOTTLENECKS, 42, 26)])
def test_one_pair_for_each_tensor(name, pairs, tensors):
    model = qdq(name)
    onnx.checker.check_model(model, full_check=True)
    counts = Counter(node.op_type for node in model.graph.node)
    assert counts[Q] == counts[DQ] == pairs
    assert len({node.input[0] for node in model.graph.node if node.op_type == Q}) == pairs
    assert len(calibrated_tensors(small_graph(name))) == tensors
    assert lint_placement(model) == []


def test_pairs_are_where_integer_kernels_read():
    model = qdq()
    nodes = nodes_by_output(model)

    def source(node: onnx.NodeProto, index: int) -> str:
        """The tensor behind the pair of an input, or a dash and the tensor that comes without one."""
        maker = nodes.get(node.input[index])
        if maker is None or maker.op_type != DQ:
            return f"-{node.input[index]}"
        return nodes[maker.input[0]].input[0]

    assert source(nodes["conv1"], 0) == "input"
    assert source(nodes["conv1"], 1) == "conv1.weight"
    assert source(nodes["conv1"], 2) == "-conv1.bias"
    assert source(nodes["max_pool"], 0) == "relu"
    assert source(nodes["layer1.0.conv1"], 0) == "max_pool"
    assert [source(nodes["add"], index) for index in (0, 1)] == ["-layer1.0.conv2", "max_pool"]
    assert [source(nodes["add_1"], index) for index in (0, 1)] == ["-layer1.1.conv2", "relu_2"]
    assert [source(nodes["add_2"], index) for index in (0, 1)] == ["-layer2.0.conv2", "layer2.0.downsample.0"]
    assert source(nodes["global_pool"], 0) == "relu_16"
    assert [source(nodes["logits"], index) for index in (0, 1)] == ["-flatten", "-fc.weight"]


def test_scales_are_the_calibrations_and_the_weights_own():
    model = qdq()
    scales = max_scales("resnet18")
    for name in ("input", "relu_5", "layer2.0.downsample.0"):
        assert numpy_helper.to_array(constant(model, f"{name}_scale")) == np.float32(scales[name])
    assert numpy_helper.to_array(constant(model, "max_pool_scale")) == np.float32(scales["relu"])
    assert "layer1.0.conv2_scale" not in {tensor.name for tensor in model.graph.initializer}
    weight = numpy_helper.to_array(constant(model, "layer2.0.conv1.weight"))
    found = numpy_helper.to_array(constant(model, "layer2.0.conv1.weight_scale"))
    np.testing.assert_allclose(found, np.abs(weight).max(axis=(1, 2, 3)) / 127, rtol=1e-6)


def test_the_skip_is_found_in_either_place():
    model = small_graph("resnet18")
    swapped = small_graph("resnet18")
    for node in swapped.graph.node:
        if node.op_type == "Add":
            node.input[:] = list(reversed(node.input))
    scales = max_scales("resnet18")
    quantised = [
        {node.input[0] for node in insert_qdq(network, scales).graph.node if node.op_type == Q}
        for network in (model, swapped)
    ]
    assert quantised[0] == quantised[1]


@pytest.mark.parametrize("insert", [insert_qdq, insert_u8s8])
def test_the_model_is_left_as_it_is_and_the_batch_stays_dynamic(insert):
    model = small_graph("resnet18")
    before = model.SerializeToString()
    result = insert(model, max_scales("resnet18"))
    assert model.SerializeToString() == before
    onnx.checker.check_model(result, full_check=True)
    assert run_graph(result, images(3))[0].shape == (3, 1000)


def test_both_forms_are_close_to_fp32_and_to_each_other():
    inputs = images(4)
    (expected,) = run_graph(small_graph("resnet18"), inputs)
    (pairs,), (integers,) = run_graph(qdq(), inputs), run_graph(u8s8(), inputs)
    assert sqnr_db(pairs, expected) > 20
    assert sqnr_db(integers, expected) > 20
    assert sqnr_db(integers, pairs) > 20


def test_the_scales_matter():
    inputs = images(4)
    (expected,) = run_graph(small_graph("resnet18"), inputs)
    clipped = {name: scale / 8 for name, scale in max_scales("resnet18").items()}
    for insert in (insert_qdq, insert_u8s8):
        (logits,) = run_graph(insert(small_graph("resnet18"), clipped), inputs)
        assert sqnr_db(logits, expected) < 10


def test_onnxruntime_turns_the_cpu_form_into_integer_operators(tmp_path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(u8s8().SerializeToString(), options, providers=["CPUExecutionProvider"])
    counts = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert counts["QLinearConv"] == 20
    assert counts["QLinearAdd"] == 8
    assert counts["QuantizeLinear"] == counts["DequantizeLinear"] == 1
    assert not {"Conv", "FusedConv", "NhwcFusedConv", "Add", "Relu"} & counts.keys()


def test_unsigned_tensors_use_all_steps():
    model = u8s8()
    scales = max_scales("resnet18")
    for name, zero_point, step in (("relu_3", 0, 127 / 255), ("max_pool", 0, 127 / 255), ("layer1.0.conv2", 128, 1)):
        stored = numpy_helper.to_array(constant(model, f"{name}_zero_point"))
        assert stored.dtype == np.uint8 and stored == zero_point
        expected = scales["relu" if name == "max_pool" else name] * step
        np.testing.assert_allclose(numpy_helper.to_array(constant(model, f"{name}_scale")), expected, rtol=1e-6)


@pytest.mark.parametrize("insert", [insert_qdq, insert_u8s8])
def test_a_dead_channel_keeps_its_bias(insert):
    model = small_graph("resnet18")
    weight = numpy_helper.to_array(constant(model, "layer4.1.conv1.weight")).copy()
    bias = numpy_helper.to_array(constant(model, "layer4.1.conv1.bias")).copy()
    weight[7], bias[7] = 0, 5.0
    set_constant(model, "layer4.1.conv1.weight", weight)
    set_constant(model, "layer4.1.conv1.bias", bias)
    scales = {**max_scales("resnet18"), "relu_15": 6 / 127}
    result = insert(model, scales)
    assert (numpy_helper.to_array(constant(result, "layer4.1.conv1.weight_scale")) > 0).all()
    result.graph.output.append(onnx.ValueInfoProto(name="relu_15_dequantized"))
    (values,) = run_graph(result, images(2), "relu_15_dequantized")
    np.testing.assert_allclose(values[:, 7], 5.0, atol=0.03)


def test_a_dead_tensor_gets_a_positive_scale():
    result = insert_qdq(small_graph("resnet18"), {**max_scales("resnet18"), "relu_3": 0.0})
    assert numpy_helper.to_array(constant(result, "relu_3_scale")) > 0
    assert lint_placement(result) == []


def test_a_tensor_without_a_scale_is_named():
    scales = max_scales("resnet18").copy()
    del scales["relu_9"]
    for insert in (insert_qdq, insert_u8s8):
        with pytest.raises(CalibrationError, match="no scale for the tensor relu_9"):
            insert(small_graph("resnet18"), scales)


def test_graphs_of_another_kind_are_refused(tmp_path):
    export_onnx(small_network("resnet18"), tmp_path / "half.onnx", "fp16", SIZE)
    with pytest.raises(UnsupportedError, match=r"the input conv1\.weight of Conv conv1 is not FP32"):
        insert_qdq(onnx.load(tmp_path / "half.onnx"), {})
    with pytest.raises(UnsupportedError, match="it holds QuantizeLinear input_QuantizeLinear"):
        calibrated_tensors(qdq())


# Each edit breaks one rule of the placement; the sentence is what the lint must say of it.


def drop_pair_of_data(model: onnx.ModelProto) -> None:
    nodes_by_output(model)["layer1.0.conv2"].input[0] = "relu_1"


def drop_pair_of_weight(model: onnx.ModelProto) -> None:
    nodes_by_output(model)["layer1.0.conv2"].input[1] = "layer1.0.conv2.weight"


def drop_pair_of_skip(model: onnx.ModelProto) -> None:
    nodes_by_output(model)["add_1"].input[1] = "relu_2"


def drop_pair_of_pool(model: onnx.ModelProto) -> None:
    nodes_by_output(model)["global_pool"].input[0] = "relu_16"


def insert_pair(model: onnx.ModelProto, tensor: str, consumer: str, index: int, suffix: str = "") -> None:
    """A pair with the parameters of relu_1's."""
    parameters = ["relu_1_scale", "relu_1_zero_point"]
    middle, end = f"{tensor}{suffix}_q", f"{tensor}{suffix}_dq"
    node = nodes_by_output(model)[consumer]
    node.input[index] = end
    at = list(model.graph.node).index(node)
    model.graph.node.insert(at, onnx.helper.make_node(Q, [tensor, *parameters], [middle], name=middle))
    model.graph.node.insert(at + 1, onnx.helper.make_node(DQ, [middle, *parameters], [end], name=end))


def pair_on_the_main_path(model: onnx.ModelProto) -> None:
    insert_pair(model, "layer2.0.conv2", "add_2", 0)


def pair_before_relu(model: onnx.ModelProto) -> None:
    insert_pair(model, "layer1.0.conv1", "relu_1", 0)


def pair_on_the_classifier(model: onnx.ModelProto) -> None:
    insert_pair(model, "flatten", "logits", 0)


def second_pair(model: onnx.ModelProto) -> None:
    insert_pair(model, "relu_2", "add_1", 1, "_again")


def pair_on_a_pair(model: onnx.ModelProto) -> None:
    insert_pair(model, "relu_2_dequantized", "add_1", 1)


def unsigned_zero_point(model: onnx.ModelProto) -> None:
    set_constant(model, "relu_1_zero_point", np.array(0, np.uint8))


def absent_zero_point(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.name in ("relu_1_QuantizeLinear", "relu_1_DequantizeLinear"):
            del node.input[2]


def nonzero_zero_point(model: onnx.ModelProto) -> None:
    set_constant(model, "relu_1_zero_point", np.array(3, np.int8))


def zero_scale(model: onnx.ModelProto) -> None:
    set_constant(model, "relu_1_scale", np.array(0, np.float32))


def endless_scale(model: onnx.ModelProto) -> None:
    set_constant(model, "relu_1_scale", np.array(np.nan, np.float32))


def per_tensor_weight(model: onnx.ModelProto) -> None:
    set_constant(model, "conv1.weight_scale", np.array(0.1, np.float32))
    set_constant(model, "conv1.weight_zero_point", np.array(0, np.int8))


def wrong_axis(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.name.startswith("layer1.0.conv1.weight_"):
            node.attribute[0].i = 1


def per_channel_activation(model: onnx.ModelProto) -> None:
    set_constant(model, "relu_1_scale", np.full(64, 0.1, np.float32))
    set_constant(model, "relu_1_zero_point", np.zeros(64, np.int8))


def other_scale_behind(model: onnx.ModelProto) -> None:
    nodes_by_output(model)["relu_1_dequantized"].input[1] = "relu_2_scale"


def quantize_alone(model: onnx.ModelProto) -> None:
    node = nodes_by_output(model)["relu_1_dequantized"]
    nodes_by_output(model)["layer1.0.conv2"].input[0] = "relu_1_quantized"
    model.graph.node.remove(node)


def dequantize_alone(model: onnx.ModelProto) -> None:
    nodes_by_output(model)["relu_1_dequantized"].input[0] = "relu_1"
    model.graph.node.remove(nodes_by_output(model)["relu_1_quantized"])


def other_scale_after_max_pool(model: onnx.ModelProto) -> None:
    set_constant(model, "max_pool_scale", np.array(0.5, np.float32))


EDITS: list[tuple[Callable[[onnx.ModelProto], None], str]] = [
    (drop_pair_of_data, "The input relu_1 of Conv layer1.0.conv2 has no Q/DQ pair."),
    (drop_pair_of_weight, "The input layer1.0.conv2.weight of Conv layer1.0.conv2 has no Q/DQ pair."),
    (drop_pair_of_skip, "The input relu_2 of Add add_1 has no Q/DQ pair."),
    (drop_pair_of_pool, "The input relu_16 of GlobalAveragePool global_pool has no Q/DQ pair."),
    (
        pair_on_the_main_path,
        "The input layer2.0.conv2 of Add add_2 has a Q/DQ pair, but it comes from the main path's convolution.",
    ),
    (pair_before_relu, "The input layer1.0.conv1 of Relu relu_1 has a Q/DQ pair, but it stays in the other type."),
    (pair_on_the_classifier, "The input flatten of Gemm logits has a Q/DQ pair, but it stays in the other type."),
    (second_pair, "relu_2 has more than one Q/DQ pair."),
    (pair_on_a_pair, "relu_2_dequantized_q quantises the result of relu_2_DequantizeLinear once more."),
    (unsigned_zero_point, "relu_1_QuantizeLinear quantises to uint8; TensorRT needs int8 or FP8."),
    (absent_zero_point, "relu_1_QuantizeLinear quantises to uint8; TensorRT needs int8 or FP8."),
    (nonzero_zero_point, "relu_1_QuantizeLinear has a zero point other than 0."),
    (zero_scale, "relu_1_QuantizeLinear has a scale that is not a positive number."),
    (endless_scale, "relu_1_QuantizeLinear has a scale that is not a positive number."),
    (
        per_tensor_weight,
        "conv1.weight_QuantizeLinear has 1 scales for the 64 output channels of conv1.weight.",
    ),
    (
        wrong_axis,
        "layer1.0.conv1.weight_QuantizeLinear has its scales along axis 1; the output channels are axis 0.",
    ),
    (per_channel_activation, "relu_1_QuantizeLinear has 64 scales for an activation, which has one."),
    (
        other_scale_behind,
        "relu_1_DequantizeLinear has not the scale, zero point and axis of relu_1_QuantizeLinear.",
    ),
    (quantize_alone, "relu_1_QuantizeLinear has no DequantizeLinear behind it."),
    (
        quantize_alone,
        "The input relu_1 of Conv layer1.0.conv2 comes from a QuantizeLinear without a DequantizeLinear.",
    ),
    (dequantize_alone, "relu_1_DequantizeLinear has no QuantizeLinear before it."),
    (other_scale_after_max_pool, "MaxPool max_pool has different scales on its input and its result."),
]


@pytest.mark.parametrize(("edit", "sentence"), EDITS, ids=lambda value: getattr(value, "__name__", ""))
def test_the_lint_finds_each_edit_and_nothing_else(edit, sentence):
    model = qdq()
    edit(model)
    found = lint_placement(model)
    assert sentence in found
    # An edit may break two rules, never a rule about something else.
    subject = sentence.split("_")[0].removeprefix("The input ").split()[0]
    assert len(found) <= 2 and all(subject in other for other in found)


def test_the_lint_refuses_the_cpu_form():
    found = " ".join(lint_placement(u8s8()))
    for problem in (
        "relu_1_QuantizeLinear quantises to uint8",
        "input_QuantizeLinear has a zero point other than 0",
        "conv1.weight_DequantizeLinear has no QuantizeLinear before it",
        "of Add add has a Q/DQ pair, but it comes from the main path's convolution",
    ):
        assert problem in found


def test_broken_files_are_refused_by_name(tmp_path):
    with pytest.raises(GraphError, match=r"absent\.onnx does not exist"):
        read_graph(tmp_path / "absent.onnx")
    content = write_small_graph("resnet18", tmp_path).read_bytes()
    for name, part in {
        "truncated.onnx": content[: len(content) // 2],
        "shortened.onnx": content[:-40],
        "foreign.onnx": b"this is not a graph\n" * 9,
        "empty.onnx": b"",
    }.items():
        (tmp_path / name).write_bytes(part)
        with pytest.raises(GraphError, match=f"{name} is damaged or not an ONNX model") as caught:
            read_graph(tmp_path / name)
        assert "\n" not in str(caught.value)
