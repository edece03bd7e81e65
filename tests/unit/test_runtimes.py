"""Runtimes compute what eager computes, and a precision is what its name says."""

from __future__ import annotations

import pytest
import torch

from deepgap.measure.measure import INPUT_BUFFERS, make_inputs, set_precision
from deepgap.runtimes import load_runtime, runtime_names
from deepgap.sources.models import build_model

needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model("resnet18")


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    found, expected = found.double().cpu(), expected.double().cpu()
    return float((found - expected).norm() / expected.norm())


def test_every_file_is_a_runtime_with_precisions_and_devices():
    assert {"eager", "graph", "compile"} <= set(runtime_names())
    for name in runtime_names():
        runtime = load_runtime(name)
        assert runtime.precisions <= {"fp32", "tf32", "fp16", "int8"}
        assert runtime.devices <= {"cpu", "cuda"}


def test_eager_follows_its_inputs_on_the_cpu(model):
    inputs = make_inputs(2, 64, torch.device("cpu"), torch.float32, torch.contiguous_format)
    assert len(inputs) == INPUT_BUFFERS
    assert not torch.equal(*inputs)
    assert abs(inputs[0].mean().item()) < 0.05
    assert abs(inputs[0].std().item() - 1) < 0.05
    call = load_runtime("eager").prepare(model, inputs, {})
    with torch.inference_mode():
        for index, buffer in enumerate(inputs):
            assert torch.equal(call(index), model(buffer))


@pytest.mark.parametrize(
    "name", [pytest.param("eager"), pytest.param("graph", marks=needs_gpu), pytest.param("compile", marks=needs_gpu)]
)
@pytest.mark.parametrize("precision", [pytest.param(name, marks=needs_gpu) for name in ("fp32", "fp16")])
def test_a_runtime_agrees_with_eager_on_every_buffer(model, name, precision):
    device = torch.device("cuda")
    dtype = torch.float16 if precision == "fp16" else torch.float32
    set_precision(precision)
    placed = model.to(device=device, dtype=dtype)
    inputs = make_inputs(4, 224, device, dtype, torch.contiguous_format)
    with torch.inference_mode(), torch.cuda.stream(torch.cuda.Stream()):
        expected = [placed(buffer).clone() for buffer in inputs]
        call = load_runtime(name).prepare(placed, inputs, {})
        for _ in range(2):
            for index in range(len(inputs)):
                found = call(index).clone()
                assert relative_error(found, expected[index]) < (1e-2 if precision == "fp16" else 1e-4)
    assert relative_error(expected[0], expected[1]) > 1e-2


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0),
    reason="needs an NVIDIA GPU that has TF32",
)
def test_fp32_is_ieee_and_tf32_is_not(model):
    """Against FP64: the rounding of a 24-bit and of an 11-bit significand are orders of magnitude apart."""
    device = torch.device("cuda")
    buffer = make_inputs(8, 224, device, torch.float32, torch.contiguous_format)[0]
    with torch.inference_mode():
        reference = build_model("resnet18")
        reference.load_state_dict(model.state_dict())
        exact = reference.double().to(device)(buffer.double())
        errors = {}
        for precision in ("fp32", "tf32"):
            set_precision(precision)
            errors[precision] = relative_error(model.to(device)(buffer), exact)
    assert errors["fp32"] < 1e-5
    assert errors["tf32"] > 20 * errors["fp32"]
