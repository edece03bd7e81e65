"""The TensorRT runtime where TensorRT is missing: its types, its order of calls, and its sentences.

No engine is built or run here. The types are those of the real bindings of two versions; the order of calls is
checked by a double that has the real names (tests/tensorrt/double.py).
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from deepgap.build.engine_file import Engine, read_engine, write_engine
from deepgap.errors import ConfigError, DeviceError, EngineError, MissingLibraryError, UnsupportedError
from deepgap.runtimes import BuildRequest, load_runtime
from deepgap.runtimes import tensorrt as runtime
from tests.tensorrt.double import CLASSES, Double, Stream, WrongUse

pytestmark = pytest.mark.xdist_group("tensorrt")

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("10.16.1.11", "11.4.0.106")
SIZE = 64

OLD_IDIOMS = """
import tensorrt as trt

logger = trt.Logger(trt.Logger.WARNING)
builder = trt.Builder(logger)
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))  # removed
config = builder.create_builder_config()
config.set_flag(trt.BuilderFlag.INT8)  # removed
config.set_flag(trt.BuilderFlag.FP16)  # removed
config.int8_calibrator = None  # removed
config.max_workspace_size = 1 << 30  # removed
builder.build_engine(network, config)  # removed
engine = trt.Runtime(logger).deserialize_cuda_engine(b"")
assert engine is not None
print(engine.device_memory_size, engine.get_tensor_dtype("logits"))  # removed
context = engine.create_execution_context()
assert context is not None
context.set_binding_shape(0, (1, 3, 224, 224))  # removed
context.execute_async_v2([0, 0], 0)  # removed
context.execute_async_v3(stream=0)  # never an argument
"""


@pytest.fixture(scope="session")
def prepared() -> Path:
    """The folder of the stubs and of the bindings' names, made by the tool where it can."""
    command = [sys.executable, str(ROOT / "tools/make_tensorrt_stubs.py"), *VERSIONS]
    made = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if made.returncode:
        if "pip cannot install" not in made.stderr and "was not found" not in made.stderr:
            pytest.fail(made.stderr)
        pytest.skip(made.stderr.strip())
    return ROOT / "build/tensorrt"


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def trt(prepared, version, monkeypatch) -> Double:
    """A double of this version in the place of the module `tensorrt`, with a GPU."""
    double = Double(json.loads((prepared / version / "surface.json").read_text(encoding="utf-8")), version)
    monkeypatch.setitem(sys.modules, "tensorrt", double.module)
    double.patch_torch(monkeypatch)
    return double


@pytest.fixture
def ask(tmp_path):
    """Makes a request; `said` holds what its build shows."""
    said: list[str] = []

    def make(precision: str = "int8", batch_sizes: tuple[int, ...] = (1, 8), **options: object) -> BuildRequest:
        return BuildRequest(
            tmp_path / "graph.onnx", precision, SIZE, batch_sizes, options, tmp_path / "cache/timing", said.append
        )

    make.said = said
    return make


def buffers(batch: int = 8, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn((batch, 3, SIZE, SIZE), generator=generator).to(dtype) for _ in range(2)]


def expected(buffer: torch.Tensor) -> torch.Tensor:
    return buffer[:, 0].float().mean((1, 2))[:, None] + torch.arange(CLASSES)


def mypy(prepared: Path, version: str, file: Path) -> subprocess.CompletedProcess[str]:
    """Check a file against the stubs of one version. PyTorch is left out: the project's own check has its types."""
    config = prepared / version / "mypy.ini"
    config.write_text(
        f"[mypy]\nstrict = true\npython_version = 3.11\nmypy_path = {ROOT / 'src'}:{prepared / version / 'stubs'}\n"
        f"cache_dir = {prepared / version / 'mypy'}\nfollow_imports = silent\n"
        "[mypy-torch.*]\nfollow_imports = skip\n[mypy-tensorrt]\nignore_errors = true\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "mypy", "--config-file", str(config), str(file)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)


def with_bindings(prepared: Path, version: str, program: str) -> str:
    """Run a program beside the real bindings of one version and the stand-in for their libraries."""
    environment = {**os.environ, "PYTHONPATH": str(prepared / version / "site")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Types


def test_the_runtime_agrees_with_the_types_of_the_bindings(prepared, version):
    checked = mypy(prepared, version, ROOT / "src/deepgap/runtimes/tensorrt/__init__.py")
    assert checked.returncode == 0, checked.stdout


def test_the_types_refuse_what_tensorrt_11_removed(prepared, tmp_path):
    file = tmp_path / "old.py"
    file.write_text(OLD_IDIOMS, encoding="utf-8")
    found = mypy(prepared, "11.4.0.106", file).stdout
    wrong = {number for number, line in enumerate(OLD_IDIOMS.splitlines(), start=1) if "  # " in line}
    assert {int(line.split(":")[1]) for line in found.splitlines() if ": error:" in line} == wrong


def test_the_types_ask_for_a_check_of_none(prepared, version, tmp_path):
    file = tmp_path / "careless.py"
    file.write_text(
        "import tensorrt as trt\nengine = trt.Runtime(trt.Logger()).deserialize_cuda_engine(b'')\n"
        "print(engine.num_io_tensors)\n",
        encoding="utf-8",
    )
    assert 'Item "None"' in mypy(prepared, version, file).stdout


# The real bindings, as far as they go without the library


def test_the_real_bindings_take_the_logger_and_the_monitor(prepared, version):
    """They are called as TensorRT calls them; the stand-in makes no builder, which is told."""
    program = """
import json, sys
sys.modules["tensorrt_libs"] = None  # where TensorRT is installed, its libraries stay out of this
import tensorrt as trt
from deepgap.errors import EngineError
from deepgap.runtimes import tensorrt as runtime

log = runtime.Log()
logger, said = runtime._logger(log), []
for severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR, trt.ILogger.WARNING, trt.ILogger.INFO):
    logger.log(severity, severity.name)
monitor = runtime._monitor(said.append)
monitor.phase_start("Building", None, 2)
assert monitor.step_complete("Building", 0) is True
monitor.phase_finish("Building")
try:
    runtime._start(trt.Builder, logger, log)
except EngineError as error:
    told = str(error)
shape = tuple(trt.Dims([2, 3]))
print(json.dumps([runtime.libraries(), log.errors, log.warnings, said, told, shape]))
"""
    libraries, errors, warnings, said, told, shape = json.loads(with_bindings(prepared, version, program))
    assert libraries == {"tensorrt": version}
    assert (errors, warnings) == (["INTERNAL_ERROR", "ERROR"], ["WARNING"])
    assert said == ["TensorRT: Building"]
    assert "does not start (INTERNAL_ERROR; ERROR)" in told
    assert shape == [2, 3]


# Building


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "int8"])
def test_a_build_asks_for_what_the_request_says(trt, ask, precision):
    engine = runtime.build(ask(precision, (1, 8)))
    module = trt.module
    assert bytes(engine.parts["plan"]) in trt.plans
    assert engine.parts["plan"].dtype == np.uint8
    (flags,) = trt.called("flags")[-1]
    assert flags == ({module.BuilderFlag.TF32} if precision == "tf32" else set())
    assert trt.called("add_optimization_profile") == [(1, 1, 1), (8, 8, 8)]
    assert trt.called("set_memory_pool_limit") == [(module.MemoryPoolType.WORKSPACE, 4 * 2**30)]
    assert ("builder_optimization_level", 3) in trt.called("config")
    assert ("profiling_verbosity", module.ProfilingVerbosity.DETAILED) in trt.called("config")


def test_the_papers_profile_and_the_other_options(trt, ask):
    engine = runtime.build(ask(profiles="paper", optimization_level=5, workspace_gib=0.5))
    assert trt.called("add_optimization_profile") == [(1, 32, 512)]
    assert engine.about["profiles"] == [{"min": 1, "opt": 32, "max": 512}]
    assert ("builder_optimization_level", 5) in trt.called("config")
    assert trt.called("set_memory_pool_limit")[0][1] == 2**29


def test_an_engine_tells_its_profiles_layers_and_warnings(trt, ask, tmp_path):
    engine = runtime.build(ask(batch_sizes=(4,)))
    assert engine.about["profiles"] == [{"min": 4, "opt": 4, "max": 4}]
    assert engine.about["layers_by_precision"] == {"int8": 1, "fp32": 1, "unknown": 1}
    assert engine.about["warnings"] == ["a tactic was skipped"]
    write_engine(tmp_path / "engine", engine, {"gpu": "T4"})
    back = read_engine(tmp_path / "engine", {"gpu": "T4"})
    assert back.about == engine.about
    assert bytes(back.parts["plan"]) == bytes(engine.parts["plan"])


def test_progress_is_shown_by_phase_and_not_by_step(trt, ask):
    runtime.build(ask())
    assert ask.said[0] == "TensorRT: Building Engine"
    assert len(ask.said) < 5


def test_the_timing_cache_is_used_again(trt, ask):
    runtime.build(ask())
    assert ask().timing_cache.read_bytes() == b"timing here 1"
    runtime.build(ask())
    assert trt.called("create_timing_cache") == [(b"",), (b"timing here 1",)]
    assert ask().timing_cache.read_bytes() == b"timing here 2"
    assert [file.name for file in ask().timing_cache.parent.iterdir()] == ["timing"]


@pytest.mark.parametrize("blob", [b"\xff\x00 garbage", b"timing elsewhere 5"])
def test_a_timing_cache_that_does_not_fit_is_told_and_replaced(trt, ask, blob):
    request = ask()
    request.timing_cache.parent.mkdir()
    request.timing_cache.write_bytes(blob)
    runtime.build(request)
    assert any("damaged or of another GPU" in line for line in ask.said)
    assert request.timing_cache.read_bytes() == b"timing here 1"


def test_a_timing_cache_that_cannot_be_written_does_not_lose_the_engine(trt, ask, tmp_path):
    (tmp_path / "cache").write_text("a file in the way", encoding="utf-8")
    assert runtime.build(ask()).parts["plan"].size
    assert any("cannot be written" in line for line in ask.said)


def test_all_errors_of_the_parser_are_in_one_sentence(trt, ask):
    trt.parser_errors = ["node 3 (Foo):\n unsupported operator", "bad axis.", "third", "fourth"]
    with pytest.raises(EngineError) as error:
        runtime.build(ask())
    assert "graph.onnx (node 3 (Foo): unsupported operator; bad axis; third; fourth)." in str(error.value)
    assert not trt.called("build_serialized_network")


def test_a_failed_build_tells_the_last_errors(trt, ask):
    trt.build_errors = ["first", "second", "third", "no implementation for conv1"]
    with pytest.raises(EngineError, match=r"graph.onnx \(second; third; no implementation for conv1\)\."):
        runtime.build(ask())
    assert not ask().timing_cache.exists()


def test_a_graph_of_another_image_size_is_a_failed_build(trt, ask):
    request = ask()
    with pytest.raises(EngineError, match="does not match the network's dimensions"):
        runtime.build(BuildRequest(**{**vars(request), "image_size": SIZE + 1}))


# Running


@pytest.fixture
def engine(trt, ask) -> Engine:
    return runtime.build(ask("fp32", (1, 8, 32)))


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_each_call_reads_its_own_buffer(trt, engine, cuda_graph):
    inputs = buffers()
    call = runtime.prepare(engine, inputs, {"cuda_graph": cuda_graph})
    addresses = len(trt.called("set_tensor_address"))
    for index in (0, 1, 0):
        logits = call(index)
        assert logits.shape == (8, CLASSES)
        torch.testing.assert_close(logits, expected(inputs[index]))
    inputs[0].add_(1)
    torch.testing.assert_close(call(0), expected(inputs[0]))
    torch.testing.assert_close(call(1), expected(inputs[1]))
    assert len(trt.called("set_tensor_address")) == addresses == 4
    assert set(trt.called("profile")) == {(1,)}


def test_a_replay_costs_no_call_of_tensorrt(trt, engine):
    call = runtime.prepare(engine, buffers(), {"cuda_graph": True})
    before = len(trt.calls)
    call(0)
    call(1)
    assert len(trt.calls) == before


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_the_call_alone_keeps_alive_what_it_uses(trt, engine, cuda_graph):
    inputs = buffers()
    wanted = expected(inputs[1])
    call = runtime.prepare(engine, inputs, {"cuda_graph": cuda_graph})
    del inputs, engine
    gc.collect()
    torch.testing.assert_close(call(1), wanted)


def test_channels_last_inputs_are_refused(trt, engine):
    inputs = [buffer.contiguous(memory_format=torch.channels_last) for buffer in buffers()]
    with pytest.raises(EngineError, match="not contiguous"):
        runtime.prepare(engine, inputs, {})


def test_a_half_precision_engine_takes_and_gives_half_precision(trt, engine):
    trt.graph_type = "HALF"
    logits = runtime.prepare(engine, buffers(dtype=torch.float16), {})(0)
    assert logits.dtype == torch.float16
    with pytest.raises(EngineError, match=r"inputs are torch\.float32, but the engine's \w+ is HALF"):
        runtime.prepare(engine, buffers(), {})


def test_the_paper_profile_serves_every_batch_up_to_512(trt, ask):
    engine = runtime.build(ask(profiles="paper"))
    for batch in (1, 3, 33):
        assert runtime.prepare(engine, buffers(batch), {})(0).shape == (batch, CLASSES)


def test_a_batch_without_a_profile_is_unsupported(trt, engine):
    with pytest.raises(UnsupportedError, match=r"Batch 7 is in no profile of the engine, .* batch 1, 8, 32"):
        runtime.prepare(engine, buffers(7), {})


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"gpu": False}, DeviceError, "needs an NVIDIA GPU"),
        ({"stream": Stream(0)}, EngineError, "default stream"),
        ({"plans": {}}, EngineError, r"could not load the engine \(.*version tag mismatch\)"),
        ({"no_context": "invalid state"}, EngineError, r"make an execution context \(invalid state\)"),
        ({"no_context": "[defaultAllocator] out of memory"}, torch.OutOfMemoryError, "out of memory"),
        ({"no_context": "Error Code 2: OutOfMemory"}, torch.OutOfMemoryError, "OutOfMemory"),
        ({"unspecified": ["input"]}, EngineError, "infer the shapes of input"),
    ],
)
def test_what_cannot_be_prepared_is_told(trt, engine, change, kind, sentence):
    for name, value in change.items():
        setattr(trt, name, value)
    with pytest.raises(kind, match=sentence):
        runtime.prepare(engine, buffers(), {})


def test_an_engine_that_cannot_be_captured_is_unsupported(trt, engine):
    trt.fails_to_capture = True
    with pytest.raises(UnsupportedError, match=r"captured as a CUDA graph \(CUDA error: .*cuda_graph to false\."):
        runtime.prepare(engine, buffers(), {"cuda_graph": True})
    assert runtime.prepare(engine, buffers(), {})(0).shape == (8, CLASSES)


def test_a_run_that_fails_is_told(trt, engine):
    call = runtime.prepare(engine, buffers(), {})
    trt.fails_to_run = True
    with pytest.raises(EngineError, match=r"could not run the engine \(enqueueV3: invalid argument\)"):
        call(0)


# The double


def context_of(trt: Double, engine: Engine, **skip: bool) -> object:
    """A context made by hand, ready to run but for the steps in `skip`."""
    module = trt.module
    loaded = module.Runtime(runtime._logger(runtime.Log())).deserialize_cuda_engine(engine.parts["plan"].data)
    context = loaded.create_execution_context(module.ExecutionContextAllocationStrategy.USER_MANAGED)
    kept = SimpleNamespace(memory=torch.empty(8 * 1024, dtype=torch.uint8), logits=torch.empty(8, CLASSES))
    kept.images = buffers()[0]
    context._kept = kept
    if "profile" not in skip:
        context.set_optimization_profile_async(1, 7)
    if "memory" not in skip:
        context.set_device_memory(kept.memory.data_ptr(), kept.memory.numel())
    context.set_input_shape("input", (8, 3, SIZE, SIZE))
    if "infer" not in skip:
        context.infer_shapes()
    if "address" not in skip:
        context.set_tensor_address("logits", kept.logits.data_ptr())
    context.set_tensor_address("input", kept.images.data_ptr())
    return context


def test_the_double_runs_what_is_right(trt, engine):
    assert context_of(trt, engine).execute_async_v3(7)


@pytest.mark.parametrize(
    ("skip", "rule"),
    [
        ("profile", "profile is selected before"),
        ("memory", "needs device memory"),
        ("infer", "inferred before execution"),
        ("address", "all addresses are set"),
    ],
)
def test_the_double_catches_a_missing_step(trt, engine, skip, rule):
    with pytest.raises(WrongUse, match=rule):
        context_of(trt, engine, **{skip: True}).execute_async_v3(7)


def test_the_double_catches_wrong_streams_and_captures(trt, engine):
    context = context_of(trt, engine)
    with pytest.raises(WrongUse, match="default stream"):
        context.execute_async_v3(0)
    with pytest.raises(WrongUse, match="current stream"):
        context.execute_async_v3(8)
    with pytest.raises(WrongUse, match="at least once before"), torch.cuda.graph(torch.cuda.CUDAGraph(), trt.stream):
        context.execute_async_v3(7)


def test_the_double_catches_released_memory(trt, engine):
    context = context_of(trt, engine)
    context._kept.logits = None
    gc.collect()
    with pytest.raises(WrongUse, match="released"):
        context.execute_async_v3(7)


def test_the_double_catches_shapes_set_anew(trt, engine):
    context = context_of(trt, engine)
    context.execute_async_v3(7)
    assert not context.set_optimization_profile_async(3, 7)
    context.set_optimization_profile_async(2, 7)
    assert not context.set_input_shape("input", (8, 3, SIZE, SIZE))
    with pytest.raises(WrongUse, match="shapes are set"):
        context.execute_async_v3(7)


def test_the_double_builds_only_what_is_complete(trt):
    module, log = trt.module, runtime.Log()
    logger = runtime._logger(log)
    builder = module.Builder(logger)
    network = builder.create_network(1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    config = builder.create_builder_config()
    assert builder.build_serialized_network(network, config) is None
    assert network.get_input(0) is None
    assert module.OnnxParser(network, logger).parse_from_file("graph.onnx")
    assert builder.build_serialized_network(network, config) is None
    assert config.add_optimization_profile(builder.create_optimization_profile()) == -1
    assert [error.split(",")[0] for error in log.errors] == [
        "Network has no outputs",
        "Network has dynamic inputs",
        "the profile has no shapes",
    ]
    assert module.Runtime(logger).deserialize_cuda_engine(b"foreign") is None


def test_the_double_has_the_names_of_its_version(trt, version):
    module, old = trt.module, version.startswith("10")
    config = module.Builder(runtime._logger(runtime.Log())).create_builder_config()
    assert hasattr(module.BuilderFlag, "INT8") == old
    assert hasattr(module.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH") == old
    with pytest.raises(AttributeError):
        config.max_workspace_size = 1
    if not old:
        with pytest.raises(AttributeError):
            config.int8_calibrator = None


# Options, libraries, layers


def test_the_runtime_is_an_engine_runtime():
    found = load_runtime("tensorrt")
    assert found.source == "engine"
    assert found.precisions == {"fp32", "tf32", "fp16", "int8"}
    assert found.devices == {"cuda"}


def test_options_have_defaults():
    assert runtime.check_options({}) == runtime.DEFAULTS
    assert runtime.check_options({"cuda_graph": True})["cuda_graph"] is True


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"profile": "paper"}, "has no option 'profile'; it has profiles, optimization_level"),
        ({"profiles": "all"}, "profiles is 'all'; it must be 'per_batch' or 'paper'"),
        ({"profiles": ["paper"]}, "it must be 'per_batch' or 'paper'"),
        ({"optimization_level": 6}, "a whole number from 0 to 5"),
        ({"optimization_level": True}, "a whole number from 0 to 5"),
        ({"workspace_gib": 0}, "a positive number"),
        ({"workspace_gib": float("nan")}, "a positive number"),
        ({"workspace_gib": "4"}, "a positive number"),
        ({"cuda_graph": 1}, "true or false"),
    ],
)
def test_a_wrong_option_is_refused_before_any_work(ask, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        runtime.build(ask(**options))
    with pytest.raises(ConfigError, match=sentence):
        runtime.prepare(Engine({}), [], options)


@pytest.fixture
def without_tensorrt(monkeypatch):
    """Let the import of `tensorrt` fail as it does in some state of installation."""

    def fail(error: BaseException) -> None:
        class Finder:
            @staticmethod
            def find_spec(name: str, path: object = None, target: object = None) -> None:
                if name == "tensorrt":
                    raise error

        monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
        monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])

    return fail


@pytest.mark.parametrize(
    ("cuda", "package"), [(13, "-r envs/tensorrt.txt"), (12, "tensorrt-cu12=="), (None, "-r envs")]
)
def test_a_missing_library_is_told_with_the_line_that_installs_it(without_tensorrt, monkeypatch, cuda, package):
    monkeypatch.setattr(runtime, "_cuda_major", lambda: cuda)
    without_tensorrt(ModuleNotFoundError("No module named 'tensorrt'", name="tensorrt"))
    with pytest.raises(
        MissingLibraryError, match=f"is not installed; run '.venv/bin/python -m pip install {package}"
    ):
        runtime.libraries()


def test_a_library_that_does_not_load_is_told_with_its_reason(without_tensorrt):
    without_tensorrt(ImportError("libnvinfer.so.11: cannot open shared object file"))
    with pytest.raises(MissingLibraryError, match=r"cannot be loaded \(libnvinfer\.so\.11: cannot open"):
        runtime.libraries()


@pytest.mark.parametrize("version_text", ["8.6.1", "10.0.1"])
def test_an_old_library_is_refused(monkeypatch, version_text):
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__=version_text))
    with pytest.raises(
        MissingLibraryError, match=rf"needs? TensorRT 10\.1 or later, but {version_text} is installed"
    ):
        runtime.libraries()


def test_the_cuda_of_pytorch_is_read_without_importing_it():
    program = "import sys; from deepgap.runtimes import tensorrt as r; print(r._cuda_major(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True)
    wanted = int(torch.version.cuda.split(".")[0]) if torch.version.cuda else None
    assert done.stdout.split() == [str(wanted), "False"]


def test_the_requirement_names_the_tested_version():
    lines = (ROOT / "envs/tensorrt.txt").read_text(encoding="utf-8").splitlines()
    assert f"tensorrt-cu13=={runtime.TESTED}" in lines


@pytest.mark.parametrize(
    ("formats", "precision"),
    [
        (["Thirty-two wide channel vectorized row major Int8 format.", "Float"], "int8"),
        (["Row major linear FP16 format", "Int32"], "fp16"),
        (["Half"], "fp16"),
        (["BFloat16"], "bf16"),
        (["Float", "Row major linear FP32"], "fp32"),
        (["FP8 E4M3"], "fp8"),
        (["Int32"], "other"),
        (["N/A"], "unknown"),
        ([], "unknown"),
    ],
)
def test_a_layer_has_the_narrowest_type_that_it_reads(formats, precision):
    tensors = [{"Name": "x", "Format/Datatype": text} for text in formats]
    told = json.dumps({"Layers": [{"Name": "a", "Inputs": tensors, "Outputs": []}]})
    assert runtime.describe_layers(told)["layers_by_precision"] == {precision: 1}
    told = json.dumps({"Layers": [{"Name": "a", "Inputs": [], "Outputs": tensors}]})
    assert runtime.describe_layers(told)["layers_by_precision"] == {precision: 1}


@pytest.mark.parametrize("told", ["", "not JSON", "null", "[]", "{}", '{"Layers": null}', '{"Layers": []}', "3"])
def test_layers_that_are_not_told_are_none(told):
    assert runtime.describe_layers(told) == {"layers": [], "layers_by_precision": {}}


def test_layers_are_told_of_the_first_profile_and_in_any_form():
    entries = ["conv", "conv [profile 1]", {"Name": "add [profile 12]"}, {"Inputs": ["x", None], "Outputs": "y"}, 7]
    found = runtime.describe_layers(json.dumps({"Layers": entries}))
    assert [layer["name"] for layer in found["layers"]] == ["conv", "", "7"]
    assert found["layers_by_precision"] == {"unknown": 3}
