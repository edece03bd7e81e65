"""The least traffic of the networks, against hand-computed layers and torchvision's own shapes."""

from __future__ import annotations

import pytest

from deepgap.sources.models import GMAC_PER_IMAGE, build_model
from deepgap.sources.traffic import (
    BLOCKS,
    Layer,
    arithmetic_intensity,
    find_traffic,
    resnet_layers,
)
from deepgap.study.words import BYTES_PER_ELEMENT


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


@pytest.mark.parametrize("model", GMAC_PER_IMAGE)
def test_multiply_adds_are_the_published_counts(model: str) -> None:
    total = sum(layer.multiply_adds for layer in resnet_layers(model))
    assert total / 1e9 == pytest.approx(GMAC_PER_IMAGE[model], abs=0.01)


@pytest.mark.parametrize("model", GMAC_PER_IMAGE)
def test_shapes_are_those_of_torchvision(model: str) -> None:
    torch = pytest.importorskip("torch")
    seen: dict[str, tuple[int, int, int]] = {}
    folded: dict[str, int] = {}

    def note(name: str) -> object:
        def hook(module: object, inputs: tuple[object, ...], output: object) -> None:
            weights = sum(p.numel() for p in module.parameters())  # type: ignore[attr-defined]
            seen[name] = (inputs[0].numel(), output.numel(), weights)  # type: ignore[attr-defined]
            # BatchNorm's bias, a convolution's only one.
            folded[name] = output.shape[1] if isinstance(module, torch.nn.Conv2d) else 0  # type: ignore[attr-defined]

        return hook

    with torch.device("meta"):
        network = build_model(model)
        for name, module in network.named_modules():
            if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear, torch.nn.MaxPool2d, torch.nn.AdaptiveAvgPool2d)):
                module.register_forward_hook(note(name))
        network(torch.empty(1, 3, 224, 224))
    layers = {layer.name: layer for layer in resnet_layers(model)}
    assert len(layers) == len(seen)
    last = "conv2" if BLOCKS[model][0] == "basic" else "conv3"
    for name, (read, written, weights) in seen.items():
        layer = layers[name.replace("downsample.0", "downsample")]
        residual = written if name.endswith(last) else 0
        assert (layer.read, layer.written) == (read + residual, written), name
        assert layer.weights == weights + folded[name], name


def test_the_largest_activation_is_the_published_studys() -> None:
    assert {model: find_traffic(model).largest for model in GMAC_PER_IMAGE} == dict.fromkeys(GMAC_PER_IMAGE, 802_816)  # type: ignore[union-attr]


@pytest.mark.parametrize("model", GMAC_PER_IMAGE)
def test_intensity_grows_with_the_batch_and_as_elements_shrink(model: str) -> None:
    traffic = find_traffic(model)
    assert traffic is not None
    sizes = [arithmetic_intensity(model, "fp16", batch_size) for batch_size in (1, 8, 512)]
    assert sizes == sorted(sizes) and len(set(sizes)) == 3
    assert arithmetic_intensity(model, "int8", 8) == pytest.approx(4 * arithmetic_intensity(model, "fp32", 8))  # type: ignore[operator]
    bound = 2e9 * GMAC_PER_IMAGE[model] / (BYTES_PER_ELEMENT["fp16"] * traffic.activations)
    assert sizes[-1] < bound < 1.02 * sizes[-1]


def test_an_unknown_model_has_no_traffic() -> None:
    assert find_traffic("alexnet") is None
    assert arithmetic_intensity("alexnet", "fp32", 1) is None
