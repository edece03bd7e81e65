"""Conv-6 of Frankle and Carbin, "The Lottery Ticket Hypothesis" (ICLR 2019), table 2.

Above 32 x 32 pixels the last feature map is averaged to 4 x 4, so that the classifier stays what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepgap.training.workloads import Adam, Setup, Workload
from deepgap.training.workloads.classifier import CLASSES, GROUPS, NETWORK, batch

CHANNELS = ((64, 64), (128, 128), (256, 256))
HIDDEN = (256, 256)
POOLED = 4


def pytorch(dropout: float) -> Mapping[str, Any]:
    from torch import nn

    layers: list[nn.Module] = []
    channels = 3
    for stage in CHANNELS:
        for width in stage:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    layers += [nn.AdaptiveAvgPool2d(POOLED), nn.Flatten()]
    features = channels * POOLED**2
    for width in HIDDEN:
        layers += [nn.Linear(features, width), nn.ReLU(inplace=True)]
        features = width
    return {NETWORK: nn.Sequential(*layers, nn.Linear(features, CLASSES))}


def keras(image_size: int, dropout: float) -> Mapping[str, Any]:
    from keras import Model, layers

    inputs = values = layers.Input((image_size, image_size, 3))
    place = 0
    for stage in CHANNELS:
        for width in stage:
            values = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"{place}")(values)
            place += 2
        values = layers.MaxPooling2D(2)(values)
        place += 1
    values = layers.AdaptiveAveragePooling2D(POOLED)(values)
    # PyTorch flattens channels first.
    values = layers.Flatten()(layers.Permute((3, 1, 2))(values))
    place += 2
    for width in HIDDEN:
        values = layers.Dense(width, activation="relu", name=f"{place}")(values)
        place += 2
    return {NETWORK: Model(inputs, layers.Dense(CLASSES, name=f"{place}")(values))}


WORKLOAD = Workload(
    label="Conv-6",
    parameters=2_262_602,
    published=Setup(image_size=224, batch_size=64),
    native_size=32,
    optimizer=Adam(1e-3),
    groups=GROUPS,
    serves=NETWORK,
    pytorch=pytorch,
    keras=keras,
    batch=batch,
)
