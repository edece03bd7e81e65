"""The words of the study: its precisions, runtimes and models, their labels and their order.

Each table lists what is known, from the plainest to the most specialised. What is not listed stands after all that
is, by name, and is called by its key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias


@dataclass(frozen=True)
class Bits:
    """The bits of a number as it is stored; `unused` ones do not take part in computing."""

    sign: int
    exponent: int
    value: int
    unused: int = 0

    @property
    def used(self) -> int:
        return self.sign + self.exponent + self.value

    @property
    def stored(self) -> int:
        return self.used + self.unused


@dataclass(frozen=True)
class Precision:
    """A format of numbers: its key, its label, and its bits.

    Sources: IEEE 754-2019, section 3.6; NVIDIA's A100 whitepaper for TensorFloat-32 and bfloat16; Micikevicius et
    al., arXiv 2209.05433, for fp8 (E4M3).
    """

    key: str
    label: str
    bits: Bits

    @property
    def bytes(self) -> int:
        """Of a stored element."""
        return self.bits.stored // 8


@dataclass(frozen=True)
class Runtime:
    """A way to run a model: its key and its label."""

    key: str
    label: str


MEASURED, PUBLISHED = "measured", "published"
"""Where a value comes from."""

PRECISIONS = (
    Precision("fp32", "FP32", Bits(1, 8, 23)),
    Precision("tf32", "TF32", Bits(1, 8, 10, unused=13)),
    Precision("fp16", "FP16", Bits(1, 5, 10)),
    Precision("bf16", "BF16", Bits(1, 8, 7)),
    Precision("int8", "INT8", Bits(1, 0, 7)),
    Precision("fp8", "FP8", Bits(1, 4, 3)),
)
RUNTIMES = (
    Runtime("eager", "PyTorch eager"),
    Runtime("graph", "CUDA graph"),
    Runtime("compile", "torch.compile"),
    Runtime("compilegraph", "torch.compile in a CUDA graph"),
    Runtime("torchao", "torchao"),
    Runtime("ort", "ONNX Runtime"),
    Runtime("tensorrt", "TensorRT"),
    Runtime("rtx", "TensorRT-RTX"),
    Runtime("cudnn", "cuDNN"),
)

PRECISION_KEYS = tuple(precision.key for precision in PRECISIONS)
RUNTIME_KEYS = tuple(runtime.key for runtime in RUNTIMES)
BYTES_PER_ELEMENT = {precision.key: precision.bytes for precision in PRECISIONS}
BITS = {precision.key: precision.bits for precision in PRECISIONS}

Place: TypeAlias = tuple[int, str]
"""Where a word stands among others."""


def place(key: str, order: Collection[str]) -> Place:
    """Sorts words as `order` lists them, and what it does not list after them by name."""
    listed = list(order)
    return (listed.index(key) if key in listed else len(listed)), key


class ModeParts(NamedTuple):
    """The parts of a mode's name; the layout is empty where it is the runtime's usual one."""

    runtime: str
    precision: str
    layout: str


def mode_parts(mode: str) -> ModeParts:
    """`eager-fp16-nchw` in its parts."""
    runtime, precision, *layout = mode.split("-")
    return ModeParts(runtime, precision, "-".join(layout))


def mode_order(runtime: str, precision: str, layout: str = "") -> tuple[Place, Place, str]:
    """Sorts modes from the plainest to the most specialised: by precision, then by runtime, then by layout."""
    return place(precision, PRECISION_KEYS), place(runtime, RUNTIME_KEYS), layout


def by_mode(mode: str) -> tuple[Place, Place, str]:
    """`mode_order` of a mode's name."""
    return mode_order(*mode_parts(mode))


def _size(word: str) -> str:
    """`large` as Large, `b0` and `400mf` as B0 and 400MF."""
    return word.title() if word.isalpha() and len(word) > 2 else word.upper()


FAMILIES: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"resnet(\d+)", lambda m: f"ResNet-{m[1]}"),
    (r"wide_resnet(\d+)_(\d+)", lambda m: f"Wide ResNet-{m[1]}-{m[2]}"),
    (r"resnext(\d+)_(\d+)x(\d+)d", lambda m: f"ResNeXt-{m[1]} {m[2]}×{m[3]}d"),
    (r"vgg(\d+)(_bn)?", lambda m: f"VGG-{m[1]}{' BN' if m[2] else ''}"),
    (r"densenet(\d+)", lambda m: f"DenseNet-{m[1]}"),
    (r"alexnet", lambda m: "AlexNet"),
    (r"googlenet", lambda m: "GoogLeNet"),
    (r"inception_v(\d)", lambda m: f"Inception-v{m[1]}"),
    (r"squeezenet(\d)_(\d)", lambda m: f"SqueezeNet {m[1]}.{m[2]}"),
    (r"shufflenet_v2_x(\d)_(\d)", lambda m: f"ShuffleNetV2 {m[1]}.{m[2]}×"),
    (r"mnasnet(\d)_(\d+)", lambda m: f"MNASNet {m[1]}.{m[2]}"),
    (r"mobilenet_v2", lambda m: "MobileNetV2"),
    (r"mobilenet_v3_(\w+)", lambda m: f"MobileNetV3-{_size(m[1])}"),
    (r"efficientnet_v2_(\w)", lambda m: f"EfficientNetV2-{_size(m[1])}"),
    (r"efficientnet_(b\d)", lambda m: f"EfficientNet-{_size(m[1])}"),
    (r"regnet_([xy])_(\w+)", lambda m: f"RegNet{m[1].upper()}-{_size(m[2])}"),
    (r"convnext_(\w+)", lambda m: f"ConvNeXt-{_size(m[1])}"),
    (r"swin_([tsb])", lambda m: f"Swin-{m[1].upper()}"),
    (r"swin_v2_([tsb])", lambda m: f"SwinV2-{m[1].upper()}"),
    (r"maxvit_([tsb])", lambda m: f"MaxViT-{m[1].upper()}"),
    (r"vit_([a-z])_(\d+)", lambda m: f"ViT-{m[1].upper()}/{m[2]}"),
)
"""How the names of torchvision's families are written in print."""


def model_label(model: str) -> str:
    """A model's name in print: ResNet-50, ViT-B/16; of a family that is not known its key."""
    for pattern, write in FAMILIES:
        match = re.fullmatch(pattern, model)
        if match:
            return write(match)
    return model
