"""torchao quantises the linear layers of transformers, and says what it cannot."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
import torchvision

from deepgap.errors import UnsupportedError
from deepgap.runtimes import load_runtimes
from tests.unit.networks import bare_model

RUNTIME = load_runtimes()["torchao"]
needs_torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed")


def transformer() -> torch.nn.Module:
    torch.manual_seed(0)
    return torchvision.models.VisionTransformer(
        image_size=64, patch_size=16, num_layers=2, num_heads=4, hidden_dim=64, mlp_dim=512, num_classes=48
    ).eval()


def images(batch: int) -> list[torch.Tensor]:
    return [
        torch.randn(batch, 3, 64, 64, generator=torch.Generator().manual_seed(seed)).bfloat16() for seed in (0, 1)
    ]


def quantised(model: torch.nn.Module) -> set[str]:
    """The linear layers whose weights are no plain parameters any more."""
    return {
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and type(module.weight) is not torch.nn.Parameter
    }


@needs_torchao
@pytest.mark.parametrize(("batch", "classifier"), [(4, set()), (17, {"heads.head"})])
def test_linear_layers_are_quantised_but_for_the_classifier_of_small_batches(batch, classifier):
    model = transformer()
    torch.nn.init.normal_(model.heads.head.weight)
    inputs = images(batch)
    with torch.inference_mode():
        expected = model(inputs[0].float())
        half = model.bfloat16()
        RUNTIME.convert(half, inputs, "int8")
        found = half(inputs[0]).float()
    blocks = {f"encoder.layers.encoder_layer_{block}.mlp.{layer}" for block in (0, 1) for layer in (0, 3)}
    assert quantised(half) == blocks | classifier
    assert 0 < (found - expected).norm() < 0.05 * expected.norm()


@needs_torchao
def test_a_convolutional_network_is_unsupported():
    model = bare_model("resnet18").bfloat16()
    with (
        torch.inference_mode(),
        pytest.raises(UnsupportedError, match=r"linear layers, and those that it can are \d%"),
    ):
        RUNTIME.convert(model, images(32), "int8")
    assert quantised(model) == set()


def test_cards_without_the_arithmetic_are_skipped(gpus):
    assert RUNTIME.skip("vit_b_16", "int8", 1, gpus["T4"]) == (
        "INT8 by torchao needs compute capability 8.0, and the T4 has 7.5."
    )
    assert "FP8 by torchao needs compute capability 8.9" in RUNTIME.skip("vit_b_16", "fp8", 1, gpus["A100"])
    for key in ("L4", "H100", "H200"):
        assert RUNTIME.skip("vit_b_16", "fp8", 1, gpus[key]) is None


def test_precisions_of_a_card_are_those_of_its_peaks_and_of_its_capability(gpus):
    assert gpus["T4"].precisions == ("fp32", "fp16", "int8")
    assert gpus["A100"].precisions == ("fp32", "tf32", "fp16", "int8", "bf16")
    assert gpus["H100"].precisions == ("fp32", "tf32", "fp16", "int8", "bf16", "fp8")
    assert gpus["CPU"].precisions == ("fp32", "int8")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@needs_torchao
@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_on_a_gpu_the_answers_are_those_of_the_model(precision):
    model = transformer().cuda()
    torch.nn.init.normal_(model.heads.head.weight)
    inputs = [buffer.cuda() for buffer in images(4)]
    with torch.inference_mode(), torch.cuda.stream(torch.cuda.Stream()):
        expected = [model(buffer.float()).clone() for buffer in inputs]
        half = model.bfloat16()
        RUNTIME.convert(half, inputs, precision)
        call = RUNTIME.prepare(half, inputs, RUNTIME.fill_options({}))
        for index in (0, 1, 0):
            found = call(index).float()
            assert (found - expected[index]).norm() < 0.1 * expected[index].norm()
