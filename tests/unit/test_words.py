"""The words of the study: labels, order, and the place of what is not listed."""

from __future__ import annotations

import pytest
from torchvision.models import list_models

from deepgap.paper.charts.theme import (
    OTHER_RUNTIME,
    PRECISION_COLOURS,
    QUIET,
    RUNTIME_MARKS,
    mode_mark,
    precision_colour,
)
from deepgap.study.words import (
    BYTES_PER_ELEMENT,
    PRECISION_KEYS,
    RUNTIME_KEYS,
    ModeParts,
    by_mode,
    mode_parts,
    model_label,
)
from deepgap.training.frameworks import load_frameworks


@pytest.mark.parametrize(
    ("model", "label"),
    [
        ("resnet50", "ResNet-50"),
        ("wide_resnet50_2", "Wide ResNet-50-2"),
        ("resnext101_32x8d", "ResNeXt-101 32×8d"),
        ("vit_b_16", "ViT-B/16"),
        ("mobilenet_v3_large", "MobileNetV3-Large"),
        ("efficientnet_b0", "EfficientNet-B0"),
        ("efficientnet_v2_s", "EfficientNetV2-S"),
        ("convnext_tiny", "ConvNeXt-Tiny"),
        ("regnet_y_400mf", "RegNetY-400MF"),
        ("swin_v2_t", "SwinV2-T"),
        ("vgg16_bn", "VGG-16 BN"),
        ("densenet121", "DenseNet-121"),
        ("timm:resnet10t", "timm:resnet10t"),
        ("onnx:some/resnet50.onnx", "onnx:some/resnet50.onnx"),
    ],
)
def test_a_model_has_its_name_in_print_or_its_key(model: str, label: str) -> None:
    assert model_label(model) == label


def test_every_classifier_of_torchvision_has_a_label_of_its_own() -> None:
    from torchvision import models

    names = list_models(module=models)
    labels = {name: model_label(name) for name in names}
    assert len(set(labels.values())) == len(names)
    assert not [name for name, label in labels.items() if label == name]


def test_what_is_not_listed_stands_last_by_name() -> None:
    modes = ["zeta-fp16", "alpha-fp16", "cudnn-fp16", "eager-fp16-nchw", "eager-fp4", "eager-fp16", "eager-fp32"]
    assert sorted(modes, key=by_mode) == [
        *("eager-fp32", "eager-fp16", "eager-fp16-nchw", "cudnn-fp16", "alpha-fp16", "zeta-fp16", "eager-fp4")
    ]
    assert mode_parts("eager-fp16-nchw") == ModeParts("eager", "fp16", "nchw")
    assert mode_parts("ort-int8") == ModeParts("ort", "int8", "")


def test_what_is_listed_has_a_look_and_what_is_not_has_one_too() -> None:
    assert PRECISION_COLOURS.keys() == set(PRECISION_KEYS)
    assert RUNTIME_MARKS.keys() == {*RUNTIME_KEYS, *load_frameworks()}
    assert mode_mark("alpha-fp16") == OTHER_RUNTIME and precision_colour("fp4") == QUIET
    assert OTHER_RUNTIME not in RUNTIME_MARKS.values()


def test_elements_have_the_bytes_of_their_format() -> None:
    assert BYTES_PER_ELEMENT == {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}
