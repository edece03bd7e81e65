"""The steps of a lowered network compute what ONNX Runtime computes, and other graphs are refused in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from deepgap.build.quantize.network import DQ, Q
from deepgap.build.quantize.placement import calibrated_tensors
from deepgap.build.quantize.qdq import insert_qdq
from deepgap.errors import GraphError, UnsupportedError
from deepgap.runtimes.cudnn.lowering import INPUT, Convolution, MaxPool, Program, lower
from tests.unit.networks import BOTTLENECKS, images, small_graph
from tests.unit.test_placement import qdq

pytestmark = pytest.mark.xdist_group("graphs")

NAMES = ("resnet18", BOTTLENECKS)
SIZE = 8
"""Of the images of the tiny graphs."""

OTHER_ROUNDINGS = 2e-4
"""Share of values that ONNX Runtime, which sums in floating point, may round to the other neighbour."""


@cache
def lowered(name: str) -> Program:
    return lower(qdq(name))


def run_step(step: Convolution | MaxPool, x: np.ndarray, skip: np.ndarray | None = None) -> np.ndarray:
    """One step on int8 NCHW tensors: sums exact, the rest in float32 as the docstrings say."""
    if isinstance(step, MaxPool):
        pooled: np.ndarray = torch.nn.functional.max_pool2d(torch.from_numpy(x).float(), 3, 2, 1).numpy()
        return pooled.astype(np.int8)
    weight = torch.from_numpy(step.weight.transpose(0, 3, 1, 2).astype(np.float64))
    image = torch.from_numpy(x.astype(np.float64))
    sums = torch.nn.functional.conv2d(image, weight, stride=step.stride, padding=step.padding).numpy()
    value = sums.astype(np.float32) * step.multiplier[:, None, None] + step.offset[:, None, None]
    if step.skip is not None:
        assert skip is not None
        value += skip.astype(np.float32) * np.float32(step.skip_multiplier)
    if step.relu:
        value = np.maximum(value, 0)
    return saturate(value)


def saturate(value: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(value), -128, 127).astype(np.int8)


def quantise_input(network: Program, inputs: np.ndarray) -> np.ndarray:
    return saturate(inputs * np.float32(1 / network.input_scale))


def emulate(network: Program, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Every int8 tensor of a network, NCHW."""
    values = {INPUT: quantise_input(network, inputs)}
    for step in network.steps:
        skip = values[step.skip] if isinstance(step, Convolution) and step.skip is not None else None
        values[step.y] = run_step(step, values[step.x], skip)
    return values


def features(network: Program, values: dict[str, np.ndarray]) -> np.ndarray:
    """What the classifier reads, float64."""
    mean: np.ndarray = values[network.head.x].astype(np.float64).mean((2, 3)) * network.head.scale
    return mean


def run_exactly(model: onnx.ModelProto, inputs: np.ndarray, *outputs: str) -> dict[str, np.ndarray]:
    """The logits and these tensors as the graph says; ONNX Runtime's optimizer would move roundings."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(watched.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    names = ["logits", *outputs]
    return dict(zip(names, session.run(names, {"input": inputs}), strict=True))


def same_but_for_roundings(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype == np.int8
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1
    # A small tensor may have one such value.
    assert np.count_nonzero(difference) <= max(1, OTHER_ROUNDINGS * difference.size)


def equal(first: Program, second: Program) -> bool:
    def plain(step: object) -> dict[str, object]:
        return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in vars(step).items()}

    return (
        first.input_scale == second.input_scale
        and plain(first.head) == plain(second.head)
        and [plain(step) for step in first.steps] == [plain(step) for step in second.steps]
    )


# Editing graphs


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def index_of(model: onnx.ModelProto, name: str) -> int:
    return [node.name for node in model.graph.node].index(name)


def set_attribute(model: onnx.ModelProto, name: str, key: str, value: object) -> None:
    changed = node(model, name)
    kept = [attribute for attribute in changed.attribute if attribute.name != key]
    del changed.attribute[:]
    changed.attribute.extend([*kept, *([] if value is None else [helper.make_attribute(key, value)])])


def set_constant(model: onnx.ModelProto, name: str, values: np.ndarray) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))


def array(model: onnx.ModelProto, name: str) -> np.ndarray:
    values: np.ndarray = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))
    return values


def insert(model: onnx.ModelProto, place: int, *nodes: onnx.NodeProto) -> None:
    for offset, new in enumerate(nodes):
        model.graph.node.insert(place + offset, new)


def reroute(model: onnx.ModelProto, old: str, new: str) -> None:
    """Every reader of one tensor reads another."""
    for reader in model.graph.node:
        for index, name in enumerate(reader.input):
            if name == old:
                reader.input[index] = new


def remove_pair(model: onnx.ModelProto, tensor: str) -> None:
    reroute(model, f"{tensor}_dequantized", tensor)
    for kind in (Q, DQ):
        del model.graph.node[index_of(model, f"{tensor}_{kind}")]


# What the network is


@pytest.mark.parametrize(
    ("name", "convolutions", "skips", "without_relu"), [("resnet18", 20, 8, 3), (BOTTLENECKS, 20, 5, 4)]
)
def test_the_steps_of_a_network(name, convolutions, skips, without_relu):
    network = lowered(name)
    found = [step for step in network.steps if isinstance(step, Convolution)]
    assert len(found) == convolutions
    assert len({step.name for step in network.steps}) == len(network.steps) == convolutions + 1
    assert sum(step.skip is not None for step in found) == skips
    assert {step.name for step in found if not step.relu} == {s.name for s in found if "downsample" in s.name}
    assert sum(not step.relu for step in found) == without_relu
    assert [step.name for step in network.steps[:3]] == ["conv1", "max_pool", "layer1.0.conv1"]
    assert network.steps[0].x == INPUT
    assert all(step.skip_multiplier == 0 for step in found if step.skip is None)
    assert all(0.01 < step.skip_multiplier < 100 for step in found if step.skip is not None)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_comes_after_all_that_it_reads(name):
    network = lowered(name)
    made = {INPUT}
    for step in network.steps:
        assert step.x in made
        if isinstance(step, Convolution) and step.skip is not None:
            assert step.skip in made
            assert step.skip != step.x
        assert step.y not in made
        made.add(step.y)
    read = {name for step in network.steps for name in (step.x, getattr(step, "skip", None))} | {network.head.x}
    assert made == read - {None}
    assert network.head.x == network.steps[-1].y


def test_a_block_whose_skip_is_a_convolution():
    """The skip's convolution stands after the main path's in the graph, and before it among the steps."""
    steps = {step.name: step for step in lowered(BOTTLENECKS).steps}
    order = list(steps)
    assert order.index("layer2.0.downsample.0") == order.index("layer2.0.conv3") - 1
    skip, main = steps["layer2.0.downsample.0"], steps["layer2.0.conv3"]
    assert (skip.skip, skip.relu, skip.stride, skip.padding) == (None, False, 2, 0)
    assert (main.skip, main.relu, main.stride, main.padding) == (skip.y, True, 1, 0)
    assert skip.x == steps["layer1.1.conv3"].y == steps["layer2.0.conv1"].x
    assert skip.weight.shape == (512, 1, 1, 256)


def test_geometry_and_types():
    steps = {step.name: step for step in lowered("resnet18").steps}
    first, strided = steps["conv1"], steps["layer2.0.conv1"]
    assert (first.weight.shape, first.stride, first.padding) == ((64, 7, 7, 3), 2, 3)
    assert (strided.weight.shape, strided.stride, strided.padding) == ((128, 3, 3, 64), 2, 1)
    for step in steps.values():
        if isinstance(step, Convolution):
            assert step.weight.dtype == np.int8
            assert step.weight.flags["C_CONTIGUOUS"]
            assert step.multiplier.dtype == step.offset.dtype == np.float32
            assert step.multiplier.shape == step.offset.shape == (len(step.weight),)
    head = lowered("resnet18").head
    assert (head.weight.shape, head.bias.shape) == ((1000, 512), (1000,))


# What the network computes


def test_scales_are_folded_as_the_docstring_says():
    model = qdq("resnet18")
    step = next(step for step in lower(model).steps if step.name == "layer2.0.conv2")
    x, y, skip = (float(array(model, f"{n}_scale")) for n in ("relu_5", "relu_6", "layer2.0.downsample.0"))
    weight_scale = array(model, "layer2.0.conv2.weight_scale").astype(np.float64)
    bias = array(model, "layer2.0.conv2.bias").astype(np.float64)
    np.testing.assert_allclose(step.multiplier, x * weight_scale / y, rtol=1e-6)
    np.testing.assert_allclose(step.offset, bias / y, rtol=1e-6)
    assert step.skip_multiplier == pytest.approx(skip / y, rel=1e-6)
    assert step.skip_multiplier == float(np.float32(step.skip_multiplier))
    real = array(model, "layer2.0.conv2.weight")
    restored = step.weight.transpose(0, 3, 1, 2) * weight_scale[:, None, None, None]
    assert np.abs(restored - real).max() <= weight_scale.max() * 0.501
    assert np.abs(step.weight.astype(int)).reshape(len(real), -1).max(1).tolist() == [127] * len(real)


@pytest.mark.parametrize("name", NAMES)
def test_every_step_computes_what_onnx_runtime_does(name):
    """Each step alone, on the tensors of ONNX Runtime, so that no other rounding hides or makes a difference."""
    network, inputs = lowered(name), images(2, seed=3)
    reference = run_exactly(qdq(name), inputs, "input_quantized", *(step.y for step in network.steps))
    reference[INPUT] = reference["input_quantized"]
    same_but_for_roundings(quantise_input(network, inputs), reference[INPUT])
    for step in network.steps:
        skip = reference[step.skip] if isinstance(step, Convolution) and step.skip is not None else None
        assert len(np.unique(reference[step.y])) > 20
        same_but_for_roundings(run_step(step, reference[step.x], skip), reference[step.y])
    pooled = features(network, reference)
    logits = pooled @ network.head.weight.T.astype(np.float64) + network.head.bias
    np.testing.assert_allclose(logits, reference["logits"], atol=1e-4 * np.abs(logits).max())


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_network_computes_what_onnx_runtime_does(name):
    """A value rounded to its other neighbour spreads, so the error is told as a share of what differs by place."""
    network, inputs = lowered(name), images(2, seed=4)
    reference = run_exactly(qdq(name), inputs, *(step.y for step in network.steps))
    values = emulate(network, inputs)
    for step in network.steps:
        expected = reference[step.y].astype(float)
        signal = expected - expected.mean((0, 2, 3), keepdims=True)
        assert np.linalg.norm(values[step.y] - expected) < 0.4 * np.linalg.norm(signal)
    logits = features(network, values) @ network.head.weight.T + network.head.bias
    assert np.linalg.norm(logits - reference["logits"]) < 0.02 * np.linalg.norm(reference["logits"])


# Graphs that say the same


def test_the_operands_of_an_addition_may_be_swapped():
    model = qdq()
    for name in ("add", "add_2"):
        first, second = node(model, name).input
        node(model, name).input[:] = [second, first]
    assert equal(lower(model), lowered("resnet18"))


def test_a_convolution_without_bias_has_no_offset():
    model = qdq()
    del node(model, "layer1.0.conv1").input[2]
    step = next(step for step in lower(model).steps if step.name == "layer1.0.conv1")
    assert step.offset.tolist() == [0.0] * 64
    assert step.offset.dtype == np.float32


def test_a_classifier_may_be_stored_the_other_way():
    model = qdq()
    set_attribute(model, "logits", "transB", 0)
    set_constant(model, "fc.weight", array(model, "fc.weight").T)
    assert equal(lower(model), lowered("resnet18"))


def test_a_classifier_may_leave_out_what_is_the_default():
    model = qdq()
    for key in ("alpha", "beta", "transA"):
        set_attribute(model, "logits", key, None)
    assert equal(lower(model), lowered("resnet18"))


def test_a_block_without_relu():
    model = qdq()
    place = index_of(model, "relu_2")
    del model.graph.node[place]
    reroute(model, "relu_2", "add")
    step = next(step for step in lower(model).steps if step.name == "layer1.0.conv2")
    assert not step.relu
    assert step.skip == "max_pool_quantized"


def test_weights_saturate_at_both_ends():
    model = qdq()
    weight, scale = (array(model, f"layer1.0.conv1.weight{end}").copy() for end in ("", "_scale"))
    scale[0] = 2.0**-8
    weight[0, :5, 0, 0] = scale[0] * np.array([300, -300, 2.5, 3.5, -0.5], np.float32)
    set_constant(model, "layer1.0.conv1.weight", weight)
    set_constant(model, "layer1.0.conv1.weight_scale", scale)
    step = next(step for step in lower(model).steps if step.name == "layer1.0.conv1")
    assert step.weight[0, 0, 0, :5].tolist() == [127, -128, 2, 4, 0]


def test_the_graph_is_left_as_it_is():
    model = qdq()
    before = model.SerializeToString()
    lower(model)
    assert model.SerializeToString() == before


# Refusals


def without_a_pair(model: onnx.ModelProto) -> None:
    remove_pair(model, "relu_1")


def without_the_pair_of_a_skip(model: onnx.ModelProto) -> None:
    node(model, "add_1").input[1] = "relu_2"


def without_the_pair_of_weights(model: onnx.ModelProto) -> None:
    remove_pair(model, "conv1.weight")


def with_two_scales(model: onnx.ModelProto) -> None:
    set_constant(model, "max_pool_scale", 2 * array(model, "max_pool_scale"))


def with_unequal_strides(model: onnx.ModelProto) -> None:
    set_attribute(model, "layer1.0.conv1", "strides", [1, 2])


def with_unequal_pads(model: onnx.ModelProto) -> None:
    set_attribute(model, "layer1.0.conv1", "pads", [1, 1, 0, 1])


def with_groups(model: onnx.ModelProto) -> None:
    set_attribute(model, "layer1.0.conv1", "group", 2)


def with_dilations(model: onnx.ModelProto) -> None:
    set_attribute(model, "layer1.0.conv1", "dilations", [1, 2])


def with_another_pool(key: str, value: list[int]) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        set_attribute(model, "max_pool", key, value)

    return edit


def with_a_second_reader_of_a_convolution(model: onnx.ModelProto) -> None:
    place = index_of(model, "relu_1")
    insert(model, place, helper.make_node("Relu", ["layer1.0.conv1"], ["extra"], "extra"))


def with_a_second_reader_of_a_relu(model: onnx.ModelProto) -> None:
    place = index_of(model, "relu_1")
    insert(model, place + 1, helper.make_node("Relu", ["relu_1"], ["extra"], "extra"))


def with_a_second_reader_of_a_sum(model: onnx.ModelProto) -> None:
    place = index_of(model, "relu_2")
    insert(model, place, helper.make_node("Relu", ["add"], ["extra"], "extra"))


def with_a_second_reader_of_the_image(model: onnx.ModelProto) -> None:
    insert(model, 0, helper.make_node("Relu", ["input"], ["extra"], "extra"))


def with_an_end_that_no_one_reads(model: onnx.ModelProto) -> None:
    """The classifier's input comes from elsewhere, so that the last relu has no reader."""
    remove_pair(model, "relu_16")
    reroute(model, "relu_16", "relu_15_dequantized")


def with_two_relus(model: onnx.ModelProto) -> None:
    node(model, "relu_1").output[0] = "inner"
    place = index_of(model, "relu_1")
    insert(model, place + 1, helper.make_node("Relu", ["inner"], ["relu_1"], "outer"))


def without_the_global_pool(model: onnx.ModelProto) -> None:
    """The classifier reads all pixels of the last tensor; what reads the last relu is not quantised then."""
    remove_pair(model, "relu_16")
    del model.graph.node[index_of(model, "global_pool")]
    node(model, "flatten").input[0] = "relu_16"


def with_a_second_flatten(model: onnx.ModelProto) -> None:
    insert(model, index_of(model, "logits"), helper.make_node("Flatten", ["flatten"], ["flat"], "flat"))
    node(model, "logits").input[0] = "flat"


def without_flatten(model: onnx.ModelProto) -> None:
    del model.graph.node[index_of(model, "flatten")]
    node(model, "logits").input[0] = "global_pool"


def with_gemm(key: str, value: object) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        set_attribute(model, "logits", key, value)

    return edit


def without_a_classifier(model: onnx.ModelProto) -> None:
    del model.graph.node[index_of(model, "logits")]


def with_a_second_classifier(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Gemm", ["flatten", "fc.weight", "fc.bias"], ["more"], "more", transB=1))


def with_another_operator(model: onnx.ModelProto) -> None:
    node(model, "relu_1").op_type = "Sigmoid"


LINT = "cannot be lowered to integer kernels: "
CONV = "Conv layer1.0.conv1 has strides, pads, groups or dilations that no kernel here runs."
POOL = "MaxPool max_pool is not 3 x 3 with stride 2 and padding 1."


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (without_a_pair, f"{LINT}The input relu_1 of Conv layer1.0.conv2 has no Q/DQ pair."),
        (without_the_pair_of_a_skip, f"{LINT}The input relu_2 of Add add_1 has no Q/DQ pair."),
        (without_the_pair_of_weights, f"{LINT}The input conv1.weight of Conv conv1 has no Q/DQ pair."),
        (with_two_scales, f"{LINT}MaxPool max_pool has different scales"),
        (with_unequal_strides, CONV),
        (with_unequal_pads, CONV),
        (with_groups, CONV),
        (with_dilations, CONV),
        (with_another_pool("kernel_shape", [2, 2]), POOL),
        (with_another_pool("strides", [1, 1]), POOL),
        (with_another_pool("pads", [0, 0, 1, 1]), POOL),
        (with_a_second_reader_of_a_convolution, "layer1.0.conv1 has 2 consumers"),
        (with_a_second_reader_of_a_relu, "relu_1 has 2 consumers"),
        (with_a_second_reader_of_a_sum, "add has 2 consumers"),
        (with_a_second_reader_of_the_image, "input has 2 consumers"),
        (with_an_end_that_no_one_reads, "relu_16 has 0 consumers"),
        (with_two_relus, "Conv layer1.0.conv1 is followed by Relu where its result should be quantised."),
        (without_the_global_pool, "Conv layer4.1.conv2 is followed by Flatten where"),
        (with_a_second_flatten, "Gemm logits does not follow the global average pool."),
        (without_flatten, "Gemm logits does not follow the global average pool."),
        (with_gemm("alpha", 0.5), "Gemm logits is not a plain linear layer."),
        (with_gemm("beta", 0.0), "Gemm logits is not a plain linear layer."),
        (with_gemm("transA", 1), "Gemm logits is not a plain linear layer."),
        (without_a_classifier, "not a residual network with one classifier"),
        (with_a_second_classifier, "not a residual network with one classifier"),
        (with_another_operator, "Sigmoid relu_1"),
    ],
    ids=lambda value: getattr(value, "__qualname__", "").split(".")[0] or None,
)
def test_another_graph_is_refused_in_a_sentence(edit, named):
    model = qdq()
    edit(model)
    with pytest.raises((GraphError, UnsupportedError)) as refused:
        lower(model)
    text = str(refused.value)
    assert named in text
    assert text.endswith(".")


def test_the_fp32_export_is_refused():
    with pytest.raises(GraphError, match="The input input of Conv conv1 has no Q/DQ pair"):
        lower(small_graph("resnet18"))


def tiny(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """An FP32 graph whose 1 x 1 convolutions of 4 channels, named a to d, have weights and biases."""
    rng = np.random.default_rng(0)
    constants = {f"{name}.weight": rng.standard_normal((4, 4, 1, 1)) for name in "abcd"}
    constants |= {f"{name}.bias": rng.standard_normal(4) for name in "abcd"}
    constants |= {"fc.weight": rng.standard_normal((3, 4)), "fc.bias": rng.standard_normal(3)}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, [1, 4, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def conv(name: str, x: str, **attributes: object) -> onnx.NodeProto:
    given = {"strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1], "group": 1, "kernel_shape": [1, 1]} | attributes
    kept = {key: value for key, value in given.items() if value is not None}
    return helper.make_node("Conv", [x, f"{name}.weight", f"{name}.bias"], [name], name, **kept)


def tail(x: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("GlobalAveragePool", [x], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["logits"], "logits", transB=1),
    ]


def tiny_qdq(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    model = tiny(*nodes)
    return insert_qdq(model, dict.fromkeys(calibrated_tensors(model), 0.05))


def relu(x: str, y: str) -> onnx.NodeProto:
    return helper.make_node("Relu", [x], [y], y)


def test_a_plain_chain_is_a_network():
    network = lower(tiny_qdq(conv("a", "input"), relu("a", "r"), conv("b", "r"), *tail("b")))
    assert [(step.name, step.x, step.y, step.relu) for step in network.steps] == [
        ("a", INPUT, "r_quantized", True),
        ("b", "r_quantized", "b_quantized", False),
    ]
    assert network.input_scale == np.float32(0.05)


ODD = (
    "no attributes",
    "auto_pad",
    "ceil_mode",
    "relu after the classifier",
    "classifier on the image",
    "classifier without bias",
)


def chain(*middle: onnx.NodeProto, end: str) -> onnx.ModelProto:
    return tiny_qdq(conv("a", "input"), relu("a", "r"), *middle, *tail(end))


def odd_graph(kind: str) -> onnx.ModelProto:
    pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
    if kind == "plain":
        return chain(helper.make_node("MaxPool", ["r"], ["p"], "p", **pool), conv("b", "p"), end="b")
    if kind == "no attributes":
        return chain(conv("b", "r", strides=None, pads=None, dilations=None, group=None), end="b")
    if kind == "auto_pad":
        weights = np.random.default_rng(2).standard_normal((4, 4, 3, 3)).astype(np.float32)
        model = tiny(
            conv("a", "input"),
            relu("a", "r"),
            conv("b", "r", auto_pad="SAME_UPPER", pads=None, kernel_shape=[3, 3]),
            *tail("b"),
        )
        set_constant(model, "b.weight", weights)
        return insert_qdq(model, dict.fromkeys(("input", "r", "b"), 0.05))
    if kind == "ceil_mode":
        return chain(helper.make_node("MaxPool", ["r"], ["p"], "p", ceil_mode=1, **pool), conv("b", "p"), end="b")
    model = chain(conv("b", "r"), end="b")
    if kind == "relu after the classifier":
        node(model, "logits").output[0] = "before"
        model.graph.node.append(helper.make_node("Relu", ["before"], ["logits"], "last"))
    elif kind == "classifier on the image":
        set_constant(model, "fc.weight", np.ones((3, 4 * SIZE**2)))
        node(model, "flat").input[0] = "input"
    elif kind == "classifier without bias":
        del node(model, "logits").input[2]
    return model


@pytest.mark.parametrize(
    "kind",
    [
        "plain",
        *ODD,
    ],
)
def test_a_graph_is_refused_or_computed(kind):
    model = odd_graph(kind)
    try:
        network = lower(model)
    except (GraphError, UnsupportedError) as error:
        assert kind != "plain"
        assert str(error).endswith(".")
        return
    inputs = np.random.default_rng(1).standard_normal((1, 4, SIZE, SIZE)).astype(np.float32)
    logits = features(network, emulate(network, inputs)) @ network.head.weight.T + network.head.bias
    np.testing.assert_allclose(logits, run_exactly(model, inputs)["logits"], atol=0.01)
