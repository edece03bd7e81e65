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
import onnx
import pytest
import torch

from deepgap.build.engine_file import Engine, read_engine, write_engine
from deepgap.build.graph_file import write_graph
from deepgap.errors import DeviceError, EngineError, GraphError, MissingLibraryError, UnsupportedError
from deepgap.runtimes import BuildRequest, load_runtimes
from deepgap.runtimes import tensorrt as runtime
from deepgap.runtimes.tensorrt import LIBRARY
from deepgap.runtimes.tensorrt import log as log_of
from deepgap.runtimes.tensorrt.layers import describe_layers
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

PLAIN = {"cuda_graph": False}


@pytest.fixture(scope="session")
def prepared() -> Path:
    """The folder of the stubs and of the bindings' names, made by the tool where it can."""
    command = [sys.executable, str(ROOT / "tools/make_tensorrt_stubs.py"), *VERSIONS]
    made = subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")
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

    graph, cache = tmp_path / "graph.onnx", tmp_path / "cache/timing"
    write_graph(graph, pooled())

    def make(precision: str = "int8", batch_size: int = 8, **options: object) -> BuildRequest:
        filled = load_runtimes()["tensorrt"].fill_options(options)
        return BuildRequest(graph, precision, SIZE, batch_size, filled, cache, said.append)

    make.said = said
    return make


def pooled() -> onnx.ModelProto:
    """A graph of one input and one output, which the double does not look into."""
    images = onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 3, 1, 1])
    node = onnx.helper.make_node("GlobalAveragePool", ["input"], ["logits"])
    return onnx.helper.make_model(onnx.helper.make_graph([node], "main", [images], [logits]))


def buffers(batch: int = 8, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn((batch, 3, SIZE, SIZE), generator=generator).to(dtype) for _ in range(2)]


def expected(buffer: torch.Tensor) -> torch.Tensor:
    return buffer[:, 0].float().mean((1, 2))[:, None] + torch.arange(CLASSES)


def mypy(prepared: Path, version: str, *files: Path) -> subprocess.CompletedProcess[str]:
    """Check a file against the stubs of one version. PyTorch is left out: the project's own check has its types."""
    config = prepared / version / "mypy.ini"
    config.write_text(
        f"[mypy]\nstrict = true\npython_version = 3.11\nmypy_path = {ROOT / 'src'}:{prepared / version / 'stubs'}\n"
        f"cache_dir = {prepared / version / 'mypy'}\nfollow_imports = silent\n"
        "[mypy-torch.*]\nfollow_imports = skip\n[mypy-tensorrt]\nignore_errors = true\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "mypy", "--config-file", str(config), *map(str, files)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, encoding="utf-8")


def with_bindings(prepared: Path, version: str, program: str) -> str:
    """Run a program beside the real bindings of one version and the stand-in for their libraries."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{prepared / version / 'site'}"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Types


def test_the_runtime_agrees_with_the_types_of_the_bindings(prepared, version):
    checked = mypy(prepared, version, *sorted((ROOT / "src/deepgap/runtimes/tensorrt").glob("*.py")))
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
from deepgap.runtimes.tensorrt import log as log_of

log = log_of.Log()
logger, said = log_of.make_logger(runtime.LIBRARY, log), []
for severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR, trt.ILogger.WARNING, trt.ILogger.INFO):
    logger.log(severity, severity.name)
monitor = log_of.make_monitor(runtime.LIBRARY, said.append)
monitor.phase_start("Building", None, 2)
assert monitor.step_complete("Building", 0) is True
monitor.phase_finish("Building")
try:
    log_of.start(trt.Builder, logger, log)
except EngineError as error:
    told = str(error)
shape = tuple(trt.Dims([2, 3]))
print(json.dumps([runtime.LIBRARY.load().__version__, log.errors, log.warnings, said, told, shape]))
"""
    loaded, errors, warnings, said, told, shape = json.loads(with_bindings(prepared, version, program))
    assert loaded == version
    assert (errors, warnings) == (["INTERNAL_ERROR", "ERROR"], ["WARNING"])
    assert said == ["TensorRT: Building"]
    assert "does not start (INTERNAL_ERROR; ERROR)" in told
    assert shape == [2, 3]


# Building


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "int8"])
def test_a_build_asks_for_what_the_request_says(trt, ask, precision):
    engine = LIBRARY.build(ask(precision))
    module = trt.module
    assert bytes(engine.parts["plan"]) in trt.plans
    assert engine.parts["plan"].dtype == np.uint8
    (flags,) = trt.called("flags")[-1]
    assert flags == ({module.BuilderFlag.TF32} if precision == "tf32" else set())
    (shape,) = trt.called("parse")[-1]
    assert shape == (8, 3, SIZE, SIZE)
    assert trt.called("set_memory_pool_limit") == [(module.MemoryPoolType.WORKSPACE, 4 * 2**30)]
    assert ("builder_optimization_level", 3) in trt.called("config")
    assert ("profiling_verbosity", module.ProfilingVerbosity.DETAILED) in trt.called("config")


def test_the_options_reach_the_builder(trt, ask):
    LIBRARY.build(ask(optimization_level=5, workspace_gib=0.5))
    assert ("builder_optimization_level", 5) in trt.called("config")
    assert trt.called("set_memory_pool_limit")[0][1] == 2**29


def test_an_engine_tells_its_layers_and_warnings(trt, ask, tmp_path):
    engine = LIBRARY.build(ask(batch_size=4))
    assert engine.about["batch_size"] == 4
    assert engine.about["layers_by_precision"] == {"int8": 1, "fp32": 1, "unknown": 1}
    assert engine.about["warnings"] == ["a tactic was skipped"]
    write_engine(tmp_path / "engine", engine, {"gpu": "T4"})
    back = read_engine(tmp_path / "engine", {"gpu": "T4"})
    assert back.about == engine.about
    assert bytes(back.parts["plan"]) == bytes(engine.parts["plan"])


def test_progress_is_shown_by_phase_and_not_by_step(trt, ask):
    LIBRARY.build(ask())
    assert ask.said[0] == "TensorRT: Building Engine"
    assert len(ask.said) < 5


def test_the_timing_cache_is_used_again(trt, ask):
    LIBRARY.build(ask())
    assert ask().timing_cache.read_bytes() == b"timing here 1"
    LIBRARY.build(ask())
    assert trt.called("create_timing_cache") == [(b"",), (b"timing here 1",)]
    assert ask().timing_cache.read_bytes() == b"timing here 2"
    assert [file.name for file in ask().timing_cache.parent.iterdir()] == ["timing"]


@pytest.mark.parametrize("blob", [b"\xff\x00 garbage", b"timing elsewhere 5"])
def test_a_timing_cache_that_does_not_fit_is_told_and_replaced(trt, ask, blob):
    request = ask()
    request.timing_cache.parent.mkdir()
    request.timing_cache.write_bytes(blob)
    LIBRARY.build(request)
    assert any("damaged or of another GPU" in line for line in ask.said)
    assert request.timing_cache.read_bytes() == b"timing here 1"


def test_a_timing_cache_that_cannot_be_written_does_not_lose_the_engine(trt, ask, tmp_path):
    (tmp_path / "cache").write_text("a file in the way", encoding="utf-8")
    assert LIBRARY.build(ask()).parts["plan"].size
    assert any("cannot be written" in line for line in ask.said)


def test_all_errors_of_the_parser_are_in_one_sentence(trt, ask):
    trt.parser_errors = ["node 3 (Foo):\n unsupported operator", "bad axis.", "third", "fourth"]
    with pytest.raises(UnsupportedError) as error:
        LIBRARY.build(ask())
    assert "cannot read the graph (node 3 (Foo): unsupported operator; bad axis; third; fourth)." in str(error.value)
    assert not trt.called("build_serialized_network")


def test_a_failed_build_tells_the_last_errors(trt, ask):
    trt.build_errors = ["first", "second", "third", "no implementation for conv1"]
    with pytest.raises(EngineError, match=r"graph.onnx \(second; third; no implementation for conv1\)\."):
        LIBRARY.build(ask())
    assert not ask().timing_cache.exists()


def test_a_graph_of_another_image_size_is_refused(trt, ask):
    request = ask()
    with pytest.raises(EngineError, match=f"takes images of 3 x {SIZE} x {SIZE}, but those of the study are 3 x 65"):
        LIBRARY.build(BuildRequest(**{**vars(request), "image_size": SIZE + 1}))
    assert not trt.called("parse")


def test_a_damaged_graph_is_refused(trt, ask):
    request = ask()
    request.graph.write_bytes(request.graph.read_bytes()[:-30])
    with pytest.raises(GraphError, match=r"graph\.onnx"):
        LIBRARY.build(request)
    assert not trt.called("parse")


# Running


@pytest.fixture
def engine(trt, ask) -> Engine:
    return LIBRARY.build(ask("fp32"))


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_each_call_reads_its_own_buffer(trt, engine, cuda_graph):
    inputs = buffers()
    call = LIBRARY.prepare(engine, inputs, {"cuda_graph": cuda_graph})
    addresses = len(trt.called("set_tensor_address"))
    for index in (0, 1, 0):
        logits = call(index)
        assert logits.shape == (8, CLASSES)
        torch.testing.assert_close(logits, expected(inputs[index]))
    inputs[0].add_(1)
    torch.testing.assert_close(call(0), expected(inputs[0]))
    torch.testing.assert_close(call(1), expected(inputs[1]))
    assert len(trt.called("set_tensor_address")) == addresses == 4


def test_a_replay_costs_no_call_of_tensorrt(trt, engine):
    call = LIBRARY.prepare(engine, buffers(), {"cuda_graph": True})
    before = len(trt.calls)
    call(0)
    call(1)
    assert len(trt.calls) == before


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_the_call_alone_keeps_alive_what_it_uses(trt, engine, cuda_graph):
    inputs = buffers()
    wanted = expected(inputs[1])
    call = LIBRARY.prepare(engine, inputs, {"cuda_graph": cuda_graph})
    del inputs, engine
    gc.collect()
    torch.testing.assert_close(call(1), wanted)


def test_channels_last_inputs_are_refused(trt, engine):
    inputs = [buffer.contiguous(memory_format=torch.channels_last) for buffer in buffers()]
    with pytest.raises(EngineError, match="not contiguous"):
        LIBRARY.prepare(engine, inputs, PLAIN)


def test_a_half_precision_engine_takes_and_gives_half_precision(trt, engine):
    trt.graph_type = "HALF"
    logits = LIBRARY.prepare(engine, buffers(dtype=torch.float16), PLAIN)(0)
    assert logits.dtype == torch.float16
    with pytest.raises(EngineError, match=r"inputs are torch\.float32, but the engine's \w+ is HALF"):
        LIBRARY.prepare(engine, buffers(), PLAIN)


def test_an_engine_of_another_batch_size_is_refused(trt, engine):
    with pytest.raises(EngineError, match=r"built for images of the shape \(8, .*but \(7, .* was asked for"):
        LIBRARY.prepare(engine, buffers(7), PLAIN)


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"gpu": False}, DeviceError, "needs an NVIDIA GPU"),
        ({"stream": Stream(0)}, EngineError, "default stream"),
        ({"plans": {}}, EngineError, r"could not load the engine \(.*version tag mismatch\)"),
        ({"no_context": "invalid state"}, EngineError, r"make an execution context \(invalid state\)"),
        ({"no_context": "[defaultAllocator] out of memory"}, torch.OutOfMemoryError, "out of memory"),
        ({"no_context": "Error Code 2: OutOfMemory"}, torch.OutOfMemoryError, "OutOfMemory"),
    ],
)
def test_what_cannot_be_prepared_is_told(trt, engine, change, kind, sentence):
    for name, value in change.items():
        setattr(trt, name, value)
    with pytest.raises(kind, match=sentence):
        LIBRARY.prepare(engine, buffers(), PLAIN)


def test_an_engine_that_cannot_be_captured_is_unsupported(trt, engine):
    trt.fails_to_capture = True
    with pytest.raises(UnsupportedError, match=r"captured as a CUDA graph \(CUDA error: .*cuda_graph to false\."):
        LIBRARY.prepare(engine, buffers(), {"cuda_graph": True})
    assert LIBRARY.prepare(engine, buffers(), PLAIN)(0).shape == (8, CLASSES)


def test_a_run_that_fails_is_told(trt, engine):
    call = LIBRARY.prepare(engine, buffers(), PLAIN)
    trt.fails_to_run = True
    with pytest.raises(EngineError, match=r"could not run the engine \(enqueueV3: invalid argument\)"):
        call(0)


# The double


def context_of(trt: Double, engine: Engine, **skip: bool) -> object:
    """A context made by hand, ready to run but for the steps in `skip`."""
    module = trt.module
    logger = log_of.make_logger(runtime.LIBRARY, log_of.Log())
    loaded = module.Runtime(logger).deserialize_cuda_engine(engine.parts["plan"].data)
    context = loaded.create_execution_context(module.ExecutionContextAllocationStrategy.USER_MANAGED)
    kept = SimpleNamespace(memory=torch.empty(8 * 1024, dtype=torch.uint8), logits=torch.empty(8, CLASSES))
    kept.images = buffers()[0]
    context._kept = kept
    if "memory" not in skip:
        context.set_device_memory(kept.memory.data_ptr(), kept.memory.numel())
    if "address" not in skip:
        context.set_tensor_address("logits", kept.logits.data_ptr())
    context.set_tensor_address("input", kept.images.data_ptr())
    return context


def test_the_double_runs_what_is_right(trt, engine):
    assert context_of(trt, engine).execute_async_v3(7)


@pytest.mark.parametrize(
    ("skip", "rule"),
    [
        ("memory", "needs device memory"),
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


def test_the_double_builds_only_what_is_complete(trt):
    module, log = trt.module, log_of.Log()
    logger = log_of.make_logger(runtime.LIBRARY, log)
    builder = module.Builder(logger)
    network = builder.create_network(1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    config = builder.create_builder_config()
    assert builder.build_serialized_network(network, config) is None
    assert network.get_input(0) is None
    assert module.OnnxParser(network, logger).parse(pooled().SerializeToString())
    assert builder.build_serialized_network(network, config) is None
    assert [error.split(",")[0] for error in log.errors] == [
        "Network has no outputs",
        "Network has dynamic inputs",
    ]
    assert module.Runtime(logger).deserialize_cuda_engine(b"foreign") is None


def test_the_double_has_the_names_of_its_version(trt, version):
    module, old = trt.module, version.startswith("10")
    config = module.Builder(log_of.make_logger(runtime.LIBRARY, log_of.Log())).create_builder_config()
    assert hasattr(module.BuilderFlag, "INT8") == old
    assert hasattr(module.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH") == old
    with pytest.raises(AttributeError):
        config.max_workspace_size = 1
    if not old:
        with pytest.raises(AttributeError):
            config.int8_calibrator = None


# Options, libraries, layers


def test_the_runtime_is_an_engine_runtime():
    found = load_runtimes()["tensorrt"]
    assert found.source == "engine"
    assert found.precisions == {"fp32", "tf32", "fp16", "int8"}
    assert found.devices == {"cuda"}


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
    ("cuda", "package"), [("13.0", "-r envs/tensorrt.txt"), ("12.8", "tensorrt-cu12=="), (None, "-r envs")]
)
def test_a_missing_library_is_told_with_the_line_that_installs_it(without_tensorrt, monkeypatch, cuda, package):
    monkeypatch.setattr(runtime, "pytorch_cuda", lambda: cuda)
    without_tensorrt(ModuleNotFoundError("No module named 'tensorrt'", name="tensorrt"))
    with pytest.raises(
        MissingLibraryError, match=f"is not installed; run '.venv/bin/python -m pip install {package}"
    ):
        runtime.LIBRARY.load()


def test_a_library_that_does_not_load_is_told_with_its_reason(without_tensorrt):
    without_tensorrt(ImportError("libnvinfer.so.11: cannot open shared object file"))
    with pytest.raises(MissingLibraryError, match=r"cannot be loaded \(libnvinfer\.so\.11: cannot open"):
        runtime.LIBRARY.load()


@pytest.mark.parametrize("version_text", ["8.6.1", "10.0.1"])
def test_an_old_library_is_refused(monkeypatch, version_text):
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__=version_text))
    with pytest.raises(MissingLibraryError, match=rf"installed as {version_text} where 10\.1 is the oldest; run"):
        runtime.LIBRARY.load()


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
    assert describe_layers(told)["layers_by_precision"] == {precision: 1}
    told = json.dumps({"Layers": [{"Name": "a", "Inputs": [], "Outputs": tensors}]})
    assert describe_layers(told)["layers_by_precision"] == {precision: 1}


@pytest.mark.parametrize("told", ["", "not JSON", "null", "[]", "{}", '{"Layers": null}', '{"Layers": []}', "3"])
def test_layers_that_are_not_told_are_none(told):
    assert describe_layers(told) == {"layers": [], "layers_by_precision": {}}


def test_layers_are_told_of_the_first_profile_and_in_any_form():
    entries = ["conv", "conv [profile 1]", {"Name": "add [profile 12]"}, {"Inputs": ["x", None], "Outputs": "y"}, 7]
    found = describe_layers(json.dumps({"Layers": entries}))
    assert [layer["name"] for layer in found["layers"]] == ["conv", "", "7"]
    assert found["layers_by_precision"] == {"unknown": 3}
