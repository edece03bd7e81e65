"""The published study's residual networks by hand: their layers, and the bytes that they move at least.

What the published values are audited by, and the oracle of the facts that are counted from graphs (`build.facts`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from deepgap.study.words import BYTES_PER_ELEMENT

IMAGE_SIDE = 224
IMAGE_CHANNELS = 3
CLASSES = 1000

GMAC_PER_IMAGE = {"resnet18": 1.81, "resnet50": 4.09, "resnet101": 7.80}
"""Multiply-adds of one 224 x 224 image in 10^9, from torchvision's model pages; FLOP are twice these."""

BLOCKS = {
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
    "resnet101": ("bottleneck", (3, 4, 23, 3)),
}
"""Kind and number of residual blocks in each stage (He et al., CVPR 2016, table 1)."""

WIDTHS = (64, 128, 256, 512)


@dataclass(frozen=True)
class Layer:
    """A convolution, pooling or linear layer and what is fused into it: BatchNorm, residual addition, ReLU.

    read, written: elements of one image; read holds the input and the residual that is added.
    weights: elements with one bias an output channel, into which BatchNorm is folded.
    """

    name: str
    read: int
    written: int
    weights: int
    multiply_adds: int


@dataclass(frozen=True)
class Traffic:
    """What one image moves and what a call loads, in elements.

    activations: read and written by all layers, an image.
    largest: of the largest activation of an image, the input included.
    weights: read once a call.
    """

    activations: int
    largest: int
    weights: int

    def bytes_per_image(self, precision: str, batch_size: int) -> float:
        """Least bytes an image of a call of `batch_size`, all tensors in the element size of the precision."""
        return BYTES_PER_ELEMENT[precision] * (self.activations + self.weights / batch_size)

    def largest_bytes(self, precision: str, batch_size: int) -> int:
        """Bytes of the largest activation of a call."""
        return BYTES_PER_ELEMENT[precision] * self.largest * batch_size


@cache
def find_traffic(model: str) -> Traffic | None:
    """The least traffic of a model that runs layer by layer; None for a model whose layers are not known here.

    Every layer reads its input (and the residual) and writes its output once, and weights are read once a call. A
    kernel that fuses several convolutions could move less; caches do not count, they decide from where it comes.
    """
    if model not in BLOCKS:
        return None
    layers = list(resnet_layers(model))
    return Traffic(
        activations=sum(layer.read + layer.written for layer in layers),
        largest=max(IMAGE_CHANNELS * IMAGE_SIDE**2, *(layer.written for layer in layers)),
        weights=sum(layer.weights for layer in layers),
    )


def arithmetic_intensity(model: str, precision: str, batch_size: int) -> float | None:
    """Operations a byte at the least traffic, two operations a multiply-add; None where it is not known."""
    traffic = find_traffic(model)
    if traffic is None or precision not in BYTES_PER_ELEMENT or model not in GMAC_PER_IMAGE:
        return None
    return 2e9 * GMAC_PER_IMAGE[model] / traffic.bytes_per_image(precision, batch_size)


def resnet_layers(model: str) -> Iterator[Layer]:
    """The layers of torchvision's residual networks for images of 224 x 224, in the order in which they run.

    The stride of a bottleneck is in its 3 x 3 convolution, as in torchvision.
    """
    kind, counts = BLOCKS[model]
    stem, side = _convolution("conv1", IMAGE_CHANNELS, WIDTHS[0], 7, IMAGE_SIDE, 2)
    yield stem
    pooled = _halved(side)
    yield Layer("maxpool", stem.written, WIDTHS[0] * pooled**2, 0, 0)
    channels, side = WIDTHS[0], pooled
    for stage, (width, count) in enumerate(zip(WIDTHS, counts, strict=True), 1):
        for index in range(count):
            stride = 2 if stage > 1 and index == 0 else 1
            block = f"layer{stage}.{index}"
            out = width if kind == "basic" else 4 * width
            kernels = ((3, width), (3, out)) if kind == "basic" else ((1, width), (3, width), (1, out))
            strided = 0 if kind == "basic" else 1
            yield from _block(block, channels, side, kernels, strided, stride)
            channels, side = out, _halved(side) if stride == 2 else side
    yield Layer("avgpool", channels * side**2, channels, 0, 0)
    yield Layer("fc", channels, CLASSES, channels * CLASSES + CLASSES, channels * CLASSES)


def _block(
    name: str, channels: int, side: int, kernels: tuple[tuple[int, int], ...], strided: int, stride: int
) -> Iterator[Layer]:
    """A residual block of convolutions (kernel, channels), and its shortcut's convolution where the shapes differ."""
    out = kernels[-1][1]
    if stride != 1 or channels != out:
        yield _convolution(f"{name}.downsample", channels, out, 1, side, stride)[0]
    for index, (kernel, width) in enumerate(kernels):
        layer, after = _convolution(
            f"{name}.conv{index + 1}", channels, width, kernel, side, stride if index == strided else 1
        )
        if index == len(kernels) - 1:
            layer = Layer(layer.name, layer.read + layer.written, layer.written, layer.weights, layer.multiply_adds)
        yield layer
        channels, side = width, after


def _convolution(name: str, channels: int, width: int, kernel: int, side: int, stride: int) -> tuple[Layer, int]:
    """A square convolution that pads so that stride 1 keeps the side; and the side of its output."""
    after = _halved(side) if stride == 2 else side
    taps = kernel**2 * channels * width
    return Layer(name, channels * side**2, width * after**2, taps + width, taps * after**2), after


def _halved(side: int) -> int:
    return (side + 1) // 2
