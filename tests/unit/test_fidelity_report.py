"""The fidelity report, on small networks: one set of layers for all forms, and the arithmetic that it states."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import polars as pl
import pytest
import torch
from onnx import numpy_helper
from torch.nn.functional import conv2d

from deepgap.build.export import export_onnx
from deepgap.build.graph_file import write_graph
from deepgap.build.quantize.forms import FORMS
from deepgap.build.quantize.histograms import collect_histograms
from deepgap.build.quantize.network import read_graph
from deepgap.build.quantize.placement import calibrated_tensors
from deepgap.build.quantize.qdq import insert_qdq, insert_qdq_fp16
from deepgap.build.quantize.thresholds import LARGEST_INTEGER, METHODS, choose_scales, choose_threshold
from deepgap.build.quantize.u8s8 import insert_u8s8
from deepgap.errors import UnsupportedError
from deepgap.measure.fidelity_report import (
    COSTS,
    LAYERS,
    compare_forms,
    compare_methods,
    describe_layers,
    describe_methods,
    graph_layers,
    layer_tensors,
    module_layers,
    report_layers,
    run_graph,
    spell_out_half,
)
from tests.unit.general_networks import NETWORKS, general_graph, general_images, general_network
from tests.unit.networks import (
    BOTTLENECKS,
    SIZE,
    images,
    small_graph,
    small_network,
    write_small_graph,
)
from tests.unit.networks import (
    run_graph as run_optimised,
)

pytestmark = pytest.mark.xdist_group("graphs")

BLOCKS = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
IMAGES = images(3).astype(np.float16).astype(np.float32)


@pytest.fixture(scope="module")
def histograms(tmp_path_factory):
    path = write_small_graph("resnet18", tmp_path_factory.mktemp("graph"))
    tensors = calibrated_tensors(read_graph(path))
    return collect_histograms(path, tensors, lambda: iter([images(4, seed=1)]), say=lambda _: None, threads=1)


@pytest.fixture(scope="module")
def scales(histograms):
    return {name: choose_threshold(found, "max") / LARGEST_INTEGER for name, found in histograms.items()}


@pytest.fixture(scope="module")
def half_graph(tmp_path_factory) -> onnx.ModelProto:
    path = tmp_path_factory.mktemp("half") / "resnet18.key.fp16.onnx"
    export_onnx(small_network("resnet18"), path, "fp16", SIZE)
    return read_graph(path)


def test_every_form_has_the_layers_of_the_module(scales, half_graph):
    plain = small_graph("resnet18")
    reference = module_layers(small_network("resnet18"), IMAGES)
    assert list(reference) == ["stem", *BLOCKS, "logits"]
    for graph in (plain, half_graph, insert_qdq(plain, scales), insert_u8s8(plain, scales)):
        found = graph_layers(graph, IMAGES)
        assert list(found) == list(reference)
        for name, values in found.items():
            assert values.shape == reference[name].shape and values.dtype == np.float32


def test_bottlenecks_are_named_as_the_module_names_them():
    model = small_network(BOTTLENECKS)
    blocks = [name for name, module in model.named_modules() if type(module).__name__ == "Bottleneck"]
    assert list(layer_tensors(small_graph(BOTTLENECKS))) == ["stem", *blocks, "logits"]


def test_the_layers_of_the_plain_graph_are_those_of_the_module():
    reference, found = module_layers(small_network("resnet18"), IMAGES), graph_layers(small_graph("resnet18"), IMAGES)
    for name, values in reference.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=1e-4, err_msg=name)


def test_more_images_than_a_run_takes_keep_their_order():
    many = images(11)
    graph = small_graph("resnet18")
    np.testing.assert_allclose(run_graph(graph, many, ["logits"])["logits"], run_optimised(graph, many)[0], atol=1e-4)
    np.testing.assert_allclose(
        module_layers(small_network("resnet18"), many)["logits"][8:],
        module_layers(small_network("resnet18"), many[8:])["logits"],
        atol=1e-5,
    )


def test_hooks_are_removed():
    model = small_network("resnet18")
    module_layers(model, IMAGES)
    assert all(not module._forward_hooks for module in model.modules())


def test_every_result_of_a_half_graph_is_rounded_before_it_is_used(half_graph):
    tensors = ["layer1.0.conv2", "max_pool", "add", "relu_2", "layer1.1.conv1"]
    found = run_graph(spell_out_half(half_graph), IMAGES, tensors)
    for values in found.values():
        assert np.array_equal(values, values.astype(np.float16).astype(np.float32))
    total = (found["layer1.0.conv2"] + found["max_pool"]).astype(np.float16)
    assert np.array_equal(found["add"], total.astype(np.float32))
    weights = {
        tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in half_graph.graph.initializer
    }
    node = next(node for node in half_graph.graph.node if node.output[0] == "layer1.1.conv1")
    weight, bias = (torch.from_numpy(weights[name]) for name in node.input[1:])
    exact = conv2d(torch.from_numpy(found["relu_2"].astype(np.float64)), weight, bias, padding=1).numpy()
    error = np.abs(found["layer1.1.conv1"] - exact)
    # Half a unit in the last place, and a little for sums in FP32.
    assert (error <= np.abs(exact) * 2**-11 * 1.01 + 1e-5).all()


def test_a_report_names_its_forms_and_finds_the_reference_exact(tmp_path, scales, half_graph):
    plain = small_graph("resnet18")
    files = {"fp16": half_graph, "qdq": insert_qdq(plain, scales), "u8s8": insert_u8s8(plain, scales)}
    for form, graph in files.items():
        write_graph(tmp_path / f"resnet18.key.{form}.onnx", graph)
    model = small_network("resnet18")
    before = copy.deepcopy(model.state_dict())
    report = report_layers(model, ["fp16", "fp32"], "cpu", sorted(tmp_path.iterdir()), IMAGES)
    assert report.schema == LAYERS
    assert report["form"].unique(maintain_order=True).to_list() == [
        "pytorch-fp16",
        "pytorch-fp32",
        "onnx-fp16",
        "onnx-qdq",
        "onnx-u8s8",
    ]
    exact = report.filter(pl.col("form") == "pytorch-fp32")
    assert exact["sqnr_db"].null_count() == exact.height and set(exact["cosine"]) == {1.0}
    logits = dict(report.filter(pl.col("layer") == "logits").select("form", "sqnr_db").rows())
    assert min(logits["pytorch-fp16"], logits["onnx-fp16"]) > max(logits["onnx-qdq"], logits["onnx-u8s8"]) > 10
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    text = describe_layers(report)
    assert "layer4.1" in text and "onnx-u8s8" in text and text.count("exact") == exact.height


def test_decibels_of_a_known_difference():
    reference = {"stem": np.full((2, 4), 10.0), "logits": np.ones((2, 3))}
    report = compare_forms(reference, {"other": lambda: {"stem": np.full((2, 4), 11.0), "logits": np.ones((2, 3))}})
    assert report.rows() == [
        ("other", "stem", pytest.approx(20.0), pytest.approx(1.0)),
        ("other", "logits", None, 1.0),
    ]


@pytest.fixture(scope="module")
def costs(histograms) -> pl.DataFrame:
    plain = small_graph("resnet18")
    reference = run_graph(plain, IMAGES, ["logits"])["logits"]
    return compare_methods(plain, histograms, IMAGES, reference, reference.argmax(axis=1), False, lambda _: None)


def test_methods_are_compared_by_their_loss_to_the_best(costs):
    assert costs.schema == COSTS and costs.height == len(FORMS) * len(METHODS)
    for _, form in costs.group_by("form"):
        assert set(form["method"]) == set(METHODS)
        assert form["loss_db"].min() == 0 and form["loss_db"].is_sorted()
        lost = form["centred_sqnr_db"].max() - form["centred_sqnr_db"]
        assert form["loss_db"].to_list() == pytest.approx(lost.to_list())
    assert set(costs["images"]) == {3} and set(costs["reference_top1_accuracy"]) == {1.0}
    assert costs["top1_accuracy"].to_list() == costs["top1_agreement"].to_list()
    assert all(method in describe_methods(costs) for method in METHODS)


def test_unlabelled_images_have_no_accuracy(histograms, monkeypatch):
    monkeypatch.setattr("deepgap.measure.fidelity_report.METHODS", ["max"])
    said: list[str] = []
    costs = compare_methods(
        small_graph("resnet18"), histograms, IMAGES, np.zeros((3, 1000)), None, False, said.append
    )
    assert costs.schema == COSTS and costs.height == len(said) == len(FORMS)
    assert costs["top1_accuracy"].null_count() == costs["reference_top1_accuracy"].null_count() == len(FORMS)


def test_a_report_survives_its_file(tmp_path, costs):
    costs.write_csv(tmp_path / "costs.csv")
    assert pl.read_csv(tmp_path / "costs.csv", schema=COSTS).equals(costs)


def test_the_fp16_form_with_pairs_is_spelled_out_too(histograms):
    plain = small_graph("resnet18")
    scales = choose_scales(histograms, "max")
    half, full = insert_qdq_fp16(plain, scales), insert_qdq(plain, scales)
    spelled = graph_layers(half, IMAGES)
    (logits,) = run_graph(half, IMAGES, ["logits"]).values()
    assert np.linalg.norm(spelled["logits"] - logits) < 0.05 * np.linalg.norm(logits)
    wide = graph_layers(full, IMAGES)["logits"]
    assert 0 < np.linalg.norm(spelled["logits"] - wide) < 0.2 * np.linalg.norm(wide)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_network_without_residual_blocks_is_compared_by_its_logits(name):
    images = general_images(4)
    found = compare_forms(
        module_layers(general_network(name), images), {"onnx-fp32": lambda: graph_layers(general_graph(name), images)}
    )
    assert found["layer"].to_list() == ["logits"]
    assert found["sqnr_db"].item() > 80


def test_a_form_that_a_network_does_not_have_is_left_out_and_told():
    def absent():
        raise UnsupportedError("It holds nothing to quantise.")

    said: list[str] = []
    values = {"logits": np.ones((2, 3))}
    report = compare_forms(values, {"onnx-qdq": absent, "onnx-fp32": lambda: values}, said.append)
    assert report["form"].to_list() == ["onnx-fp32"]
    assert said == ["onnx-qdq is left out: It holds nothing to quantise."]
    for empty in (describe_layers(report.clear()), describe_methods(pl.DataFrame(schema=COSTS))):
        assert empty.startswith("Nothing can be compared")
