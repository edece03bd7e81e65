"""VGG-16, configuration D of Simonyan and Zisserman (ICLR 2015), as torchvision has it, with ten classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepgap.training.workloads import Adam, Setup, Workload
from deepgap.training.workloads.classifier import CLASSES, GROUPS, NETWORK, batch

CHANNELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
HIDDEN = 4096
POOLED = 7
DROPOUT = 0.5


def pytorch(dropout: float) -> Mapping[str, Any]:
    from torchvision.models import vgg16

    return {NETWORK: vgg16(num_classes=CLASSES, init_weights=False, dropout=dropout)}


def keras(image_size: int, dropout: float) -> Mapping[str, Any]:
    from keras import Model, layers

    inputs = values = layers.Input((image_size, image_size, 3))
    place = 0
    for stage in CHANNELS:
        for width in stage:
            name = f"features.{place}"
            values = layers.Conv2D(width, 3, padding="same", activation="relu", name=name)(values)
            place += 2
        values = layers.MaxPooling2D(2)(values)
        place += 1
    values = layers.AdaptiveAveragePooling2D(POOLED)(values)
    # PyTorch flattens channels first.
    values = layers.Flatten()(layers.Permute((3, 1, 2))(values))
    for place in (0, 3):
        values = layers.Dense(HIDDEN, activation="relu", name=f"classifier.{place}")(values)
        values = layers.Dropout(dropout, seed=place)(values)
    return {NETWORK: Model(inputs, layers.Dense(CLASSES, name="classifier.6")(values))}


WORKLOAD = Workload(
    label="VGG-16",
    parameters=134_301_514,
    published=Setup(image_size=224, batch_size=64),
    native_size=32,
    optimizer=Adam(1e-3),
    groups=GROUPS,
    serves=NETWORK,
    pytorch=pytorch,
    keras=keras,
    batch=batch,
    dropout=DROPOUT,
)
