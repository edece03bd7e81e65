"""The facts that are counted from graphs, against layers by hand and against PyTorch's own count."""

from __future__ import annotations

import onnx
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from deepgap.build import export
from deepgap.build.facts import count_facts, facts_or_reason, read_facts, write_facts
from deepgap.build.graph_file import load_graph, write_graph, write_unsupported_graph
from deepgap.cells.facts import Facts
from deepgap.errors import GraphError
from deepgap.published.networks import GMAC_PER_IMAGE, Layer, resnet_layers
from deepgap.sources import Asked, load_source

pytestmark = pytest.mark.xdist_group("graphs")

FAMILIES = {
    "alexnet": 96,
    "convnext_tiny": 32,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "googlenet": 64,
    "mnasnet0_5": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "regnet_y_400mf": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_1": 64,
    "vit_b_16": 32,
}
"""A model of each family of torchvision, and an image size at which it is quick."""


def build(name: str, size: int) -> torch.nn.Module:
    torch.manual_seed(0)
    make = load_source("torchvision").build
    assert make is not None
    model = make(Asked(name, size))
    # BatchNorm's biases of a fresh model are zero, and the exporter leaves such constants out.
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.1, 0.5)
    return model


def count(model: torch.nn.Module, size: int, path) -> Facts:
    write_graph(path, export._plain(export._exported(model, size)))
    return count_facts(path)


def test_layers_of_resnet18_as_computed_by_hand() -> None:
    layers = {layer.name: layer for layer in resnet_layers("resnet18")}
    assert layers["conv1"] == Layer("conv1", 150_528, 802_816, 9_408 + 64, 118_013_952)
    assert layers["maxpool"] == Layer("maxpool", 802_816, 200_704, 0, 0)
    # 64 channels of 56 x 56; the second convolution of a block also reads the residual.
    assert layers["layer1.0.conv1"] == Layer("layer1.0.conv1", 200_704, 200_704, 36_864 + 64, 115_605_504)
    assert layers["layer1.0.conv2"] == Layer("layer1.0.conv2", 401_408, 200_704, 36_864 + 64, 115_605_504)
    # From 64 x 56 x 56 to 128 x 28 x 28, with a shortcut of its own.
    assert layers["layer2.0.conv1"] == Layer("layer2.0.conv1", 200_704, 100_352, 73_728 + 128, 57_802_752)
    assert layers["layer2.0.downsample"] == Layer("layer2.0.downsample", 200_704, 100_352, 8_192 + 128, 6_422_528)
    assert layers["fc"] == Layer("fc", 512, 1000, 513_000, 512_000)
    assert "layer1.0.downsample" not in layers
    assert len(layers) == 1 + 1 + 16 + 3 + 1 + 1


@pytest.mark.parametrize(("model", "blocks"), [("resnet18", 8), ("resnet50", 16), ("resnet101", 33)])
def test_facts_of_residual_networks_are_those_by_hand(model: str, blocks: int, tmp_path) -> None:
    layers = list(resnet_layers(model))
    facts = count(build(model, 224), 224, tmp_path / "graph.onnx")
    assert facts == Facts(
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        weight_elements=sum(layer.weights for layer in layers),
        activation_elements=sum(layer.read + layer.written for layer in layers),
        largest_activation_elements=802_816,
        classes=1000,
        blocks=blocks,
    )
    assert facts.multiply_adds / 1e9 == pytest.approx(GMAC_PER_IMAGE[model], rel=0.005)


@pytest.mark.parametrize("name", FAMILIES)
def test_multiply_adds_are_those_that_pytorch_counts(name: str, tmp_path) -> None:
    size = FAMILIES[name]
    model = build(name, size)
    # Attention in one call is not counted, nor are its products of activations on a processor (0.1 % here).
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, size, size))
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    facts = count(model, size, tmp_path / "graph.onnx")
    assert 2 * facts.multiply_adds == pytest.approx(counter.get_total_flops(), rel=2e-3)
    weights = sum(value.numel() for value in model.parameters())
    # BatchNorm is folded, which takes two values a channel away, or keeps its statistics where it is not.
    assert facts.weight_elements == pytest.approx(weights, rel=0.05)
    assert facts.classes == 1000
    assert facts.blocks == sum(
        getattr(module, "use_res_connect", False)
        or (
            type(module).__name__ in ("ResBottleneckBlock", "CNBlock", "_InvertedResidual")
            and getattr(module, "apply_residual", True)
        )
        for module in model.modules()
    ) + 2 * sum(type(module).__name__ == "EncoderBlock" for module in model.modules())


class Gated(torch.nn.Module):
    """Small enough to count by hand: 4 channels of 8 x 8, a gate, a sum and a classifier of 5."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.gate = torch.nn.Conv2d(4, 4, 1)
        self.head = torch.nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + x * torch.sigmoid(self.gate(x))
        return self.head(x.mean((2, 3)))


def test_a_gated_block_as_counted_by_hand(tmp_path) -> None:
    facts = count(Gated().eval(), 8, tmp_path / "graph.onnx")
    pixels = 8 * 8
    assert facts.multiply_adds == pixels * (4 * 27 + 4 * 4) + 20
    assert facts.weight_elements == (4 * 27 + 4) + (16 + 4) + (20 + 5)
    # stem: 3 in, 4 out; gate with sigmoid, product and sum: 4 in (read once), 4 out; mean: 4 in; head.
    assert facts.activation_elements == pixels * (3 + 4 + 4 + 4 + 4) + 4 + 4 + 5
    assert facts.largest_activation_elements == 4 * pixels
    assert (facts.classes, facts.blocks) == (5, 1)


def test_facts_are_a_file_that_also_says_why_there_are_none(tmp_path) -> None:
    graph, file = tmp_path / "graph.onnx", tmp_path / "facts.json"
    count(Gated().eval(), 8, graph)
    write_facts(file, facts_or_reason(graph))
    assert read_facts(file) == count_facts(graph)
    write_unsupported_graph(graph, "It has no graph.")
    assert facts_or_reason(graph) == "It has no graph."
    write_facts(file, facts_or_reason(graph))
    assert read_facts(file) is None
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(GraphError, match=r"facts\.json holds no facts of a model"):
        read_facts(file)


def test_shapes_that_onnx_does_not_infer_are_found_by_running(tmp_path) -> None:
    path = tmp_path / "graph.onnx"
    expected = count(Gated().eval(), 8, path)
    model = load_graph(path)
    # A target shape that is computed of values hides all shapes behind it.
    model.graph.initializer.append(onnx.numpy_helper.from_array(torch.tensor([1.0, 5.0]).numpy(), "wanted"))
    output = model.graph.node[-1].output[0]
    model.graph.node[-1].output[0] = "flat"
    model.graph.node.append(onnx.helper.make_node("Cast", ["wanted"], ["cast"], to=onnx.TensorProto.INT64))
    model.graph.node.append(onnx.helper.make_node("Reshape", ["flat", "cast"], [output]))
    write_graph(path, model)
    assert count_facts(path) == expected
