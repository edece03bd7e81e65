"""Every runtime that is found keeps the contract; options are checked in one place; PyTorch's agree with eager."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field, fields, is_dataclass
from importlib import metadata
from typing import Literal

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from deepgap import runtimes
from deepgap.errors import ConfigError, MissingLibraryError, UnsupportedError
from deepgap.measure.arms.timer import INPUT_BUFFERS
from deepgap.measure.precision import form_of, set_precision
from deepgap.measure.subject import make_inputs
from deepgap.runtimes import load_runtimes
from deepgap.runtimes.options import between, fill_options
from tests.unit.networks import bare_model

needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
PRECISIONS = {"fp32", "tf32", "fp16", "bf16", "int8", "fp8"}


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return bare_model("resnet18")


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    found, expected = found.double().cpu(), expected.double().cpu()
    return float((found - expected).norm() / expected.norm())


# The contract


@pytest.mark.parametrize("name", load_runtimes())
def test_a_runtime_keeps_the_contract(name, gpus):
    runtime = load_runtimes()[name]
    assert runtime.name == name
    assert runtime.precisions and runtime.precisions <= PRECISIONS
    assert runtime.devices and runtime.devices <= {"cpu", "cuda"}
    assert runtime.version >= 1
    assert (runtime.build is not None) == (runtime.source == "engine")
    assert is_dataclass(runtime.options) and runtime.options.__dataclass_params__.frozen
    filled = runtime.fill_options({})
    assert filled.keys() == {option.name for option in fields(runtime.options)}
    assert runtime.fill_options(filled) == filled
    runtime.options(**filled)
    with pytest.raises(ConfigError, match=rf"^config.yaml: runtime_options.{name}.nothing is not an option .*\.$"):
        runtime.fill_options({"nothing": 1})
    for precision in runtime.precisions:
        assert runtime.usual_layout(precision) in runtime.layouts(precision) <= {"nchw", "nhwc"}
        assert isinstance(getattr(torch, runtime.input_type(precision)), torch.dtype)
        for gpu in gpus.values():
            reason = runtime.skip("resnet18", precision, 8, gpu)
            assert reason is None or reason.endswith(".")
    runtime.preload()


@pytest.mark.parametrize("name", load_runtimes())
def test_a_runtime_tells_its_libraries_or_which_is_missing(name, monkeypatch):
    try:
        versions = load_runtimes()[name].libraries()
    except MissingLibraryError as error:
        assert name in str(error) and str(error).endswith(".")
    else:
        assert versions and all(isinstance(version, str) for version in versions.values())

    def absent(package: str) -> str:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "version", absent)
    for module in ("tensorrt", "tensorrt_rtx"):
        # An entry of None is what Python takes for a module that is not there.
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingLibraryError, match=r"which is not installed; .*config/config.yaml.*\.$"):
        load_runtimes()[name].libraries()


def test_layouts_are_those_of_the_contract():
    for name in ("eager", "graph", "compile"):
        runtime = load_runtimes()[name]
        usual = {precision: runtime.usual_layout(precision) for precision in runtime.precisions}
        assert usual == {"fp32": "nchw", "tf32": "nchw", "fp16": "nhwc", "bf16": "nhwc"}
        assert runtime.layouts("fp16") == {"nchw", "nhwc"}
    assert load_runtimes()["ort"].layouts("fp32") == {"nchw"}
    assert load_runtimes()["eager"].input_type("bf16") == "bfloat16"
    assert load_runtimes()["cudnn"].input_type("int8") == "float32"


def test_runtimes_are_found_without_importing_what_they_run_on():
    program = (
        "import sys; from deepgap.runtimes import load_runtimes; load_runtimes(); "
        "print({'torch', 'onnx', 'tensorrt', 'polars'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert done.stdout.strip() == "set()"


def test_a_file_that_defines_a_runtime_is_one_and_its_helpers_are_not(tmp_path, monkeypatch):
    (tmp_path / "plain.py").write_text("from deepgap.runtimes.eager import RUNTIME\n", encoding="utf-8")
    (tmp_path / "helper.py").write_text("RUNTIMES = ()\n", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/__init__.py").write_text("from deepgap.runtimes.graph import RUNTIME\n", encoding="utf-8")
    (tmp_path / "folder/inner.py").write_text("raise AssertionError('nobody asked for it')\n", encoding="utf-8")
    monkeypatch.setattr(runtimes, "__path__", [str(tmp_path)])
    for name in ("plain", "helper", "folder"):
        monkeypatch.delitem(sys.modules, f"deepgap.runtimes.{name}", raising=False)
    assert list(load_runtimes.__wrapped__()) == ["folder", "plain"]


# Options


@dataclass(frozen=True)
class Options:
    level: int = field(default=3, metadata=between(0, 5))
    share: float = 0.5
    on: bool = False
    way: Literal["short", "long"] = "short"


def test_options_have_their_defaults_and_keep_what_is_given():
    assert fill_options(Options, "x", {}) == {"level": 3, "share": 0.5, "on": False, "way": "short"}
    given = {"level": 5, "share": 2, "on": True, "way": "long"}
    assert fill_options(Options, "x", given) == given


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"levels": 3}, "levels is not an option of the runtime x: it has level, share, on, way."),
        ({"level": 6}, "level is 6; it must be a whole number from 0 to 5."),
        ({"level": True}, "level is True; it must be a whole number from 0 to 5."),
        ({"level": 3.0}, "level is 3.0; it must be a whole number"),
        ({"share": float("nan")}, "share is nan; it must be a number."),
        ({"share": "1"}, "share is '1'; it must be a number."),
        ({"on": 1}, "on is 1; it must be true or false."),
        ({"on": None}, "on is None; it must be true or false."),
        ({"way": "wide"}, "way is 'wide'; it must be one of short, long."),
        ({"way": ["short"]}, "way is ['short']; it must be one of short, long."),
    ],
)
def test_a_wrong_option_is_refused_in_a_sentence(options, sentence):
    with pytest.raises(ConfigError) as refused:
        fill_options(Options, "x", options)
    assert str(refused.value).startswith(f"config.yaml: runtime_options.x.{sentence}")


def test_a_runtime_without_options_says_so():
    with pytest.raises(ConfigError, match=r"eager.mode is not an option of the runtime eager: it has none"):
        load_runtimes()["eager"].fill_options({"mode": "fast"})


# PyTorch's runtimes


def test_eager_follows_its_inputs_on_the_cpu(model):
    inputs = make_inputs(2, 64, torch.device("cpu"), torch.float32, torch.contiguous_format)
    assert len(inputs) == INPUT_BUFFERS
    assert not torch.equal(*inputs)
    assert abs(inputs[0].mean().item()) < 0.05
    assert abs(inputs[0].std().item() - 1) < 0.05
    call = load_runtimes()["eager"].prepare(model, inputs, {})
    with torch.inference_mode():
        for index, buffer in enumerate(inputs):
            assert torch.equal(call(index), model(buffer))


def test_a_graph_that_onnx_runtime_does_not_take_is_unsupported(tmp_path):
    node = helper.make_node("Gelu", ["input"], ["logits"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in ("input", "logits")]
    graph = helper.make_graph([node], "old", ends[:1], ends[1:])
    # Of a version without this operator.
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "graph.onnx"
    )
    with pytest.raises(UnsupportedError, match=r"^ONNX Runtime does not take the graph: .*Gelu.*\.$"):
        load_runtimes()["ort"].prepare(tmp_path / "graph.onnx", [torch.zeros(2, 3)], {})


TOLERANCES = {"fp32": 1e-4, "fp16": 3e-3, "bf16": 1.5e-2}
AGREEING = [
    *[(name, precision) for name in ("eager", "graph") for precision in TOLERANCES],
    # Compiling takes ten seconds and more each.
    ("compile", "fp16"),
    ("compilegraph", "fp16"),
    ("compilegraph", "bf16"),
]


@pytest.mark.parametrize(("name", "precision"), [pytest.param(*which, marks=needs_gpu) for which in AGREEING])
def test_a_runtime_agrees_with_eager_on_every_buffer(model, name, precision):
    device, runtime = torch.device("cuda"), load_runtimes()[name]
    form = form_of(runtime, {"precision": precision, "layout": runtime.usual_layout(precision)})
    dtype, memory_format = form.torch
    set_precision(precision)
    inputs = make_inputs(4, 224, device, dtype, memory_format)
    with torch.inference_mode(), torch.cuda.stream(torch.cuda.Stream()):
        exact = model.to(device)
        expected = [exact(buffer.float()).clone() for buffer in inputs]
        placed = model.to(dtype=dtype, memory_format=memory_format)
        call = runtime.prepare(placed, inputs, runtime.fill_options({}))
        for _ in range(2):
            for index in range(len(inputs)):
                assert relative_error(call(index).clone(), expected[index]) < TOLERANCES[precision]
        # A call reads its buffer when it is called.
        inputs[0].copy_(inputs[1])
        assert relative_error(call(0).clone(), expected[1]) < TOLERANCES[precision]
    assert relative_error(expected[0], expected[1]) > 2 * TOLERANCES[precision]


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
        reference = bare_model("resnet18")
        reference.load_state_dict(model.state_dict())
        exact = reference.double().to(device)(buffer.double())
        errors = {}
        for precision in ("fp32", "tf32"):
            set_precision(precision)
            errors[precision] = relative_error(model.to(device)(buffer), exact)
    assert errors["fp32"] < 1e-5
    assert errors["tf32"] > 20 * errors["fp32"]
