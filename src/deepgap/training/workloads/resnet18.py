"""ResNet-18 of He et al. (CVPR 2016), as torchvision has it, with ten classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepgap.training.workloads import Adam, Setup, Workload
from deepgap.training.workloads.classifier import CLASSES, GROUPS, NETWORK, batch

STAGES = (64, 128, 256, 512)
BLOCKS = 2
STEM = 64


def pytorch(dropout: float) -> Mapping[str, Any]:
    from torchvision.models import resnet18

    return {NETWORK: resnet18(num_classes=CLASSES)}


def keras(image_size: int, dropout: float) -> Mapping[str, Any]:
    from keras import Model, layers

    def normalised(values: Any, name: str) -> Any:
        # PyTorch's momentum of 0.1 is the new value's share, Keras's the old one's.
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(values)

    def convolved(values: Any, width: int, size: int, stride: int, name: str) -> Any:
        # Keras's own padding of a stride is not the same on both sides.
        padded = layers.ZeroPadding2D(size // 2)(values) if size > 1 else values
        return layers.Conv2D(width, size, stride, use_bias=False, name=name)(padded)

    def block(values: Any, width: int, stride: int, name: str) -> Any:
        added = values
        if stride > 1:
            added = convolved(values, width, 1, stride, f"{name}.downsample.0")
            added = normalised(added, f"{name}.downsample.1")
        values = normalised(convolved(values, width, 3, stride, f"{name}.conv1"), f"{name}.bn1")
        values = layers.ReLU()(values)
        values = normalised(convolved(values, width, 3, 1, f"{name}.conv2"), f"{name}.bn2")
        return layers.ReLU()(layers.Add()([values, added]))

    inputs = layers.Input((image_size, image_size, 3))
    values = layers.ReLU()(normalised(convolved(inputs, STEM, 7, 2, "conv1"), "bn1"))
    # What is pooled is not negative, so padding by zero is as good as PyTorch's by the least number.
    values = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(values))
    for stage, width in enumerate(STAGES, 1):
        for number in range(BLOCKS):
            values = block(values, width, 2 if stage > 1 and number == 0 else 1, f"layer{stage}.{number}")
    logits = layers.Dense(CLASSES, name="fc")(layers.GlobalAveragePooling2D()(values))
    return {NETWORK: Model(inputs, logits)}


WORKLOAD = Workload(
    label="ResNet-18",
    parameters=11_181_642,
    published=Setup(image_size=224, batch_size=64),
    native_size=32,
    optimizer=Adam(1e-3),
    groups=GROUPS,
    serves=NETWORK,
    pytorch=pytorch,
    keras=keras,
    batch=batch,
)
