"""The workloads of the published study of training by hand: their parameters and their multiply-adds.

What its printed times are audited by, and an oracle of what the cells of the second study count. Conv-6 is that of
Frankle and Carbin (arXiv 1803.03635), whose last pooling is to 4 x 4 whatever the image; VGG-16 and ResNet-18 are
torchvision's with 10 classes; CycleGAN has two generators of nine residual blocks and two 70 x 70 discriminators (Zhu
et al., arXiv 1703.10593).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

BATCH = {"conv6": 64, "vgg16": 64, "resnet18": 64, "cyclegan": 1}
SIDE = {"conv6": 224, "vgg16": 224, "resnet18": 224, "cyclegan": 256}
"""The published set-up: samples a step, and pixels of a side; a sample of CycleGAN is a pair of images."""

CLASSES = 10
VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and convolutions of each stage (configuration D of arXiv 1409.1556)."""


@dataclass(frozen=True)
class Layer:
    """A convolution or a linear layer with what is learnt beside it: weights, parameters, multiply-adds a sample."""

    weights: int
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Work:
    """What a workload has and does: multiply-adds of a sample's forward pass and of its whole step."""

    parameters: int
    forward: int
    step: int


@cache
def published_work(model: str) -> Work:
    """A workload in the published set-up; a forward pass of CycleGAN is that of one generator, from one image.

    A backward pass is two products of the size of the forward pass's, but for images, whose gradient nobody needs.
    """
    if model == "cyclegan":
        return _cyclegan()
    layers = {"conv6": _conv6, "vgg16": _vgg16, "resnet18": _resnet18}[model]()
    forward = sum(layer.multiply_adds for layer in layers)
    step = 3 * forward - layers[0].multiply_adds
    return Work(sum(layer.parameters for layer in layers), forward, step)


def _convolution(kernel: int, channels: int, width: int, side: int, extra: int) -> Layer:
    """A square convolution whose output has this side; `extra` is learnt beside each of its channels."""
    weights = kernel**2 * channels * width
    return Layer(weights, weights + extra * width, weights * side**2)


def _linear(inputs: int, outputs: int) -> Layer:
    return Layer(inputs * outputs, inputs * outputs + outputs, inputs * outputs)


def _stages(stages: tuple[tuple[int, int], ...], side: int) -> list[Layer]:
    """Stages of 3 x 3 convolutions, after each of which the side is halved."""
    layers, channels = [], 3
    for width, count in stages:
        for _ in range(count):
            layers.append(_convolution(3, channels, width, side, 1))
            channels = width
        side //= 2
    return layers


def _conv6() -> list[Layer]:
    ends = [_linear(256 * 4**2, 256), _linear(256, 256), _linear(256, CLASSES)]
    return _stages(((64, 2), (128, 2), (256, 2)), SIDE["conv6"]) + ends


def _vgg16() -> list[Layer]:
    ends = [_linear(512 * 7**2, 4096), _linear(4096, 4096), _linear(4096, CLASSES)]
    return _stages(VGG16, SIDE["vgg16"]) + ends


def _resnet18() -> list[Layer]:
    """BatchNorm learns two values a channel."""
    side = SIDE["resnet18"] // 2
    layers, channels, side = [_convolution(7, 3, 64, side, 2)], 64, side // 2
    for width in (64, 128, 256, 512):
        if width != channels:
            side //= 2
            layers.append(_convolution(1, channels, width, side, 2))
        for _ in range(4):
            layers.append(_convolution(3, channels, width, side, 2))
            channels = width
    return [*layers, _linear(512, CLASSES)]


def _cyclegan() -> Work:
    """A step updates the generators by six of their passes and two of the discriminators', whose weights then rest,
    and the discriminators by four of theirs. Four of the six passes begin with images, as all of the last four do."""
    side = SIDE["cyclegan"]
    generator = [
        _convolution(7, 3, 64, side, 1),
        _convolution(3, 64, 128, side // 2, 1),
        _convolution(3, 128, 256, side // 4, 1),
        *[_convolution(3, 256, 256, side // 4, 1)] * 18,
        # A transposed convolution multiplies at each place of its input.
        Layer(9 * 256 * 128, 9 * 256 * 128 + 128, 9 * 256 * 128 * (side // 4) ** 2),
        Layer(9 * 128 * 64, 9 * 128 * 64 + 64, 9 * 128 * 64 * (side // 2) ** 2),
        _convolution(7, 64, 3, side, 1),
    ]
    discriminator = [
        _convolution(4, 3, 64, side // 2, 1),
        _convolution(4, 64, 128, side // 4, 1),
        _convolution(4, 128, 256, side // 8, 1),
        _convolution(4, 256, 512, side // 8 - 1, 1),
        _convolution(4, 512, 1, side // 8 - 2, 1),
    ]
    draws, judges = (sum(layer.multiply_adds for layer in layers) for layers in (generator, discriminator))
    step = 6 * 3 * draws - 4 * generator[0].multiply_adds
    step += 2 * 2 * judges + 4 * 3 * judges - 4 * discriminator[0].multiply_adds
    parameters = 2 * sum(layer.parameters for layer in (*generator, *discriminator))
    return Work(parameters, draws, step)
