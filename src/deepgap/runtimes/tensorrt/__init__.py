"""TensorRT: an engine of fused kernels, chosen by timing them on the GPU that will run it.

Networks are strongly typed: the graph alone says in which type a layer computes, and int8 comes from its explicit
Quantize/Dequantize pairs. The same code serves TensorRT 10.1 and later, and 11.
"""

from __future__ import annotations

import importlib.util
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from deepgap.build.engine_file import Engine
from deepgap.errors import (
    ConfigError,
    DeviceError,
    DiskError,
    EngineError,
    MissingLibraryError,
    UnsupportedError,
    first_line,
)
from deepgap.files import put_in_place
from deepgap.runtimes import BuildRequest, Call, Inputs, Runtime

if TYPE_CHECKING:
    import tensorrt as trt
    import torch

OLDEST = (10, 1)
"""The first version with `get_device_memory_size_for_profile_v2`."""
TESTED = "11.4.0.106"
"""The version in envs/tensorrt.txt."""
DEFAULTS: Mapping[str, Any] = {
    "profiles": "per_batch",
    "optimization_level": 3,
    "workspace_gib": 4,
    "cuda_graph": False,
}
PAPER_PROFILE = (1, 32, 512)
"""The smallest, the preferred and the largest batch of the option `profiles: paper`."""
SAY_EVERY_S = 2.0
PLAN = "plan"
TYPES = {
    "int8": r"\bint8",
    "fp8": r"\bfp8",
    "bf16": r"bf16|bfloat",
    "fp16": r"fp16|half|\bfloat16",
    "fp32": r"fp32|float",
    "other": r"int|bool",
}
"""Types as the engine inspector writes them ("Half", "Row major linear FP32"), the narrowest first."""
Started = TypeVar("Started")


def libraries() -> dict[str, str]:
    """The version of TensorRT. Loads the library and does not touch the GPU.

    Raises:
        MissingLibraryError: it is absent, cannot be loaded, or is too old.
    """
    try:
        import tensorrt as trt

        version = str(trt.__version__)
    # A broken installation fails in many ways, and none of them leaves a library to work with.
    except Exception as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == "tensorrt"
        found = "is not installed" if absent else f"is installed but cannot be loaded ({first_line(error)})"
        raise MissingLibraryError(f"The tensorrt modes need TensorRT, which {found}; {_remedy()}.") from None
    if tuple(int(number) for number in version.split(".")[:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise MissingLibraryError(
            f"The tensorrt modes need TensorRT {oldest} or later, but {version} is installed; {_remedy()}."
        )
    return {"tensorrt": version}


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """All options with their defaults filled in.

    - `profiles`: `per_batch` gives every batch size an optimization profile of its own; `paper` is one profile for
      batches 1 to 512, tuned for 32;
    - `optimization_level`: 0 to 5, how long the builder searches for kernels;
    - `workspace_gib`: scratch memory that a kernel may use, in GiB;
    - `cuda_graph`: replay each inference as one CUDA graph.

    Raises:
        ConfigError: an option is unknown or its value is not allowed.
    """
    filled = {**DEFAULTS, **options}
    level, workspace_gib = filled["optimization_level"], filled["workspace_gib"]
    wanted = {
        "profiles": ("'per_batch' or 'paper'", filled["profiles"] in ("per_batch", "paper")),
        "optimization_level": ("a whole number from 0 to 5", type(level) is int and 0 <= level <= 5),
        "workspace_gib": ("a positive number", type(workspace_gib) in (int, float) and 0 < workspace_gib < 2**20),
        "cuda_graph": ("true or false", type(filled["cuda_graph"]) is bool),
    }
    for name, value in filled.items():
        if name not in wanted:
            raise ConfigError(f"runtime_options.tensorrt has no option {name!r}; it has {', '.join(DEFAULTS)}.")
        allowed, right = wanted[name]
        if not right:
            raise ConfigError(f"runtime_options.tensorrt.{name} is {value!r}; it must be {allowed}.")
    return filled


def build(request: BuildRequest) -> Engine:
    """Build an engine for the GPU that is current in this process.

    The engine has one part, `plan`, of bytes. `about` tells its profiles (batch sizes), its layers, how many read
    which type (`describe_layers`), and the builder's warnings.

    TF32 is on for tf32 alone. TensorRT would let every FP32 layer use it, those too that an fp16 or int8 graph leaves
    in FP32; without it a precision is what its name says.

    Raises:
        ConfigError: an option is not allowed.
        MissingLibraryError: TensorRT is absent or too old.
        DeviceError: there is no GPU.
        EngineError: TensorRT cannot read the graph or build the engine; the sentence has its reasons.
    """
    options = check_options(request.options)
    libraries()
    _require_gpu()
    import tensorrt as trt

    log = Log()
    logger = _logger(log)
    builder = _start(trt.Builder, logger, log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(request.graph)):
        errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise EngineError(f"TensorRT cannot read {request.graph}{_why(errors or log.errors)}.")
    if (network.num_inputs, network.num_outputs) != (1, 1):
        raise EngineError(
            f"An engine needs a graph of one input and one output, but {request.graph} has {network.num_inputs} "
            f"and {network.num_outputs}."
        )

    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(options["workspace_gib"] * 2**30))
    config.builder_optimization_level = options["optimization_level"]
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.progress_monitor = _monitor(request.say)
    if request.precision == "tf32":
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    profiles = [PAPER_PROFILE] if options["profiles"] == "paper" else [(size,) * 3 for size in request.batch_sizes]
    for sizes in profiles:
        profile = builder.create_optimization_profile()
        shapes = [(size, 3, request.image_size, request.image_size) for size in sizes]
        profile.set_shape(network.get_input(0).name, *shapes)
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(
                f"TensorRT refuses a profile of the batch sizes {sizes} for {request.graph}{log.why()}."
            )
    _load_timing_cache(config, request)

    log.errors.clear()
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"TensorRT could not build an engine of {request.graph}{log.why()}.")
    _keep_timing_cache(config, request)
    engine = _start(trt.Runtime, logger, log).deserialize_cuda_engine(plan)
    inspector = None if engine is None else engine.create_engine_inspector()
    if inspector is None:
        raise EngineError(f"TensorRT could not load the engine that it built of {request.graph}{log.why()}.")
    information = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    about = {
        "profiles": [dict(zip(("min", "opt", "max"), sizes, strict=True)) for sizes in profiles],
        **describe_layers(information),
        "warnings": log.warnings,
    }
    return Engine({PLAN: np.frombuffer(bytes(plan), np.uint8)}, about)


def describe_layers(information: str) -> dict[str, Any]:
    """The layers of an engine, from the engine inspector's JSON, and how many there are of each precision.

    The precision of a layer is the narrowest type that it reads, or writes where it reads nothing: a convolution
    that reads int8 computes in int8 whatever it writes. An entry may be a bare name, whose precision is `unknown`. Of
    an engine that lists its layers once for each profile, those of the first.
    """
    try:
        found = json.loads(information)
    except ValueError:
        found = []
    entries = found.get("Layers") if isinstance(found, dict) else found
    layers = [_describe_layer(entry) for entry in entries] if isinstance(entries, list) else []
    layers = [layer for layer in layers if not re.search(r"\[profile [1-9]", layer["name"])]
    return {"layers": layers, "layers_by_precision": dict(Counter(layer["precision"] for layer in layers))}


def _describe_layer(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        return {"name": str(entry), "precision": "unknown"}
    inputs, outputs = (
        [
            str(tensor.get("Format/Datatype", "")) if isinstance(tensor, dict) else ""
            for tensor in entry.get(key) or []
        ]
        for key in ("Inputs", "Outputs")
    )
    described = {
        "name": str(entry.get("Name", "")),
        "type": entry.get("LayerType"),
        "precision": _narrowest(inputs) or _narrowest(outputs) or "unknown",
        "outputs": outputs,
        "tactic": entry.get("TacticName"),
    }
    return {key: value for key, value in described.items() if value is not None}


def _narrowest(formats: list[str]) -> str | None:
    text = "\n".join(formats)
    return next((name for name, pattern in TYPES.items() if re.search(pattern, text, re.IGNORECASE)), None)


def prepare(engine: Engine, inputs: Inputs, options: Mapping[str, Any]) -> Call:
    """Prepare calls on the current stream, which must not be the default one; call on that stream.

    Inputs and logits have the type of the engine: float16 for an fp16 graph, float32 for all others.

    Raises:
        ConfigError, MissingLibraryError, DeviceError: as `build`.
        UnsupportedError: no profile of the engine holds the batch, or a CUDA graph cannot hold the engine.
        EngineError: the engine does not fit this GPU, this TensorRT or these inputs, or does not run.
        torch.OutOfMemoryError: what the engine needs does not fit into the GPU's memory.
    """
    options = check_options(options)
    libraries()
    # Deserialising without a GPU crashes the process.
    _require_gpu()
    import tensorrt as trt
    import torch

    stream = int(torch.cuda.current_stream().cuda_stream)
    if stream == 0:
        raise EngineError("TensorRT would synchronise on the default stream; prepare it on a stream of your own.")
    if not all(buffer.is_contiguous() for buffer in inputs):
        raise EngineError("An engine reads rows of NCHW, but the inputs are not contiguous; make them so.")
    log = Log()
    loaded = _start(trt.Runtime, _logger(log), log).deserialize_cuda_engine(engine.parts[PLAN].data)
    if loaded is None:
        raise _failure("load the engine", log)
    names = {loaded.get_tensor_mode(name): name for name in map(loaded.get_tensor_name, range(loaded.num_io_tensors))}
    source, target = names[trt.TensorIOMode.INPUT], names[trt.TensorIOMode.OUTPUT]
    wanted = {torch.float32: trt.DataType.FLOAT, torch.float16: trt.DataType.HALF}.get(inputs[0].dtype)
    for name in (source, target):
        if (found := loaded.get_tensor_dtype(name)) != wanted:
            raise EngineError(
                f"The inputs are {inputs[0].dtype}, but the engine's {name} is {found.name}; the graph and the cell "
                "must have one precision."
            )
    profile = _profile(loaded, source, inputs[0].shape[0])

    # Each buffer has a context of its own whose addresses never change, so a call sets nothing and TensorRT has
    # nothing to check anew. The contexts run one after another on one stream and share the memory of their
    # activations, which TensorRT would allocate for each, at the size of the engine's largest profile.
    size_bytes = loaded.get_device_memory_size_for_profile_v2(profile)
    activations = torch.empty(size_bytes, dtype=torch.uint8, device=inputs[0].device)
    bound: list[tuple[trt.IExecutionContext, torch.Tensor, Inputs]] = []
    for buffer in inputs:
        context = loaded.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is None:
            raise _failure("make an execution context", log)
        # The detail that the engine keeps for its inspector would cost time in every call.
        context.nvtx_verbosity = trt.ProfilingVerbosity.NONE
        if not context.set_optimization_profile_async(profile, stream):
            raise _failure(f"select the profile {profile}", log)
        if not context.set_input_shape(source, tuple(buffer.shape)):
            raise _failure(f"take inputs of the shape {tuple(buffer.shape)}", log)
        if missing := context.infer_shapes():
            raise _failure(f"infer the shapes of {', '.join(missing)}", log)
        context.set_device_memory(activations.data_ptr(), size_bytes)
        output = torch.empty(tuple(context.get_tensor_shape(target)), dtype=buffer.dtype, device=buffer.device)
        for name, tensor in ((source, buffer), (target, output)):
            if not context.set_tensor_address(name, tensor.data_ptr()):
                raise _failure(f"use the memory of {name}", log)
        # TensorRT knows bare addresses: what they point to lives as long as the context.
        bound.append((context, output, (buffer, activations)))

    def call(index: int) -> torch.Tensor:
        context, output, _ = bound[index]
        if not context.execute_async_v3(stream):
            raise _failure("run the engine", log)
        return output

    return _capture(call, len(inputs)) if options["cuda_graph"] else call


def _capture(call: Call, buffers: int) -> Call:
    """Replay a CUDA graph for each buffer.

    A first run still updates its context, which a capture cannot hold; the order and the mode are those of trtexec.
    """
    import torch

    outputs = [call(index) for index in range(buffers)]
    torch.cuda.synchronize()
    captured: list[tuple[torch.cuda.CUDAGraph, torch.Tensor, Call]] = []
    for index, output in enumerate(outputs):
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                call(index)
        except torch.OutOfMemoryError:
            raise
        except (EngineError, RuntimeError) as error:
            raise UnsupportedError(
                f"This engine cannot be captured as a CUDA graph ({first_line(error)}); set "
                "runtime_options.tensorrt.cuda_graph to false."
            ) from None
        # A graph too knows bare addresses; `call` keeps them alive.
        captured.append((graph, output, call))

    def replay(index: int) -> torch.Tensor:
        graph, output, _ = captured[index]
        graph.replay()
        return output

    return replay


def _profile(engine: trt.ICudaEngine, source: str, batch: int) -> int:
    """The index of the profile that holds this batch; of several, the one tuned nearest to it."""
    ranges = [
        [int(shape[0]) for shape in engine.get_tensor_profile_shape(source, index)]
        for index in range(engine.num_optimization_profiles)
    ]
    holding = [index for index, (low, _, high) in enumerate(ranges) if low <= batch <= high]
    if not holding:
        built = ", ".join(f"{low}" if low == high else f"{low} to {high}" for low, _, high in ranges)
        raise UnsupportedError(f"Batch {batch} is in no profile of the engine, which was built for batch {built}.")
    return min(holding, key=lambda index: abs(ranges[index][1] - batch))


@dataclass(frozen=True)
class Log:
    """What TensorRT said."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def why(self) -> str:
        """The last errors, which matter most."""
        return _why(self.errors[-3:])


def _why(errors: Sequence[str]) -> str:
    """The errors in parentheses behind a blank, or nothing."""
    return f" ({'; '.join(error.strip().rstrip('.') for error in errors)})" if errors else ""


def _start(make: Callable[[trt.ILogger], Started], logger: trt.ILogger, log: Log) -> Started:
    """A builder or a runtime. The bindings raise TypeError when the library gives none."""
    try:
        return make(logger)
    except TypeError:
        raise EngineError(
            f"TensorRT does not start{log.why()}; compare the driver's version with what this TensorRT needs."
        ) from None


def _logger(log: Log) -> trt.ILogger:
    import tensorrt as trt

    class Logger(trt.ILogger):
        def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                log.errors.append(msg)
            elif severity == trt.ILogger.Severity.WARNING and msg not in log.warnings:
                log.warnings.append(msg)

    return Logger()


def _monitor(say: Callable[[str], None]) -> trt.IProgressMonitor:
    """Says when an outermost phase begins, and how far the current phase is at most every `SAY_EVERY_S`."""
    import tensorrt as trt

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}
            self.due_s = 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps
            if parent_phase is None:
                self.say(f"TensorRT: {phase_name}")

        def step_complete(self, phase_name: str, step: int) -> bool:
            if time.monotonic() >= self.due_s:
                self.say(f"TensorRT: {phase_name}, {step + 1} of {self.steps.get(phase_name, step + 1)}")
            return True

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

        def say(self, line: str) -> None:
            self.due_s = time.monotonic() + SAY_EVERY_S
            say(line)

    return Monitor()


def _load_timing_cache(config: trt.IBuilderConfig, request: BuildRequest) -> None:
    path = request.timing_cache
    cache = config.create_timing_cache(path.read_bytes() if path.exists() else b"")
    if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
        return
    request.say(f"{path} is damaged or of another GPU or TensorRT; the engine is built without it.")
    if (cache := config.create_timing_cache(b"")) is not None:
        config.set_timing_cache(cache, ignore_mismatch=False)


def _keep_timing_cache(config: trt.IBuilderConfig, request: BuildRequest) -> None:
    path = request.timing_cache
    if (cache := config.get_timing_cache()) is None:
        return
    try:
        with put_in_place(path) as partial:
            partial.write_bytes(cache.serialize())
    except (OSError, DiskError) as error:
        request.say(f"The timing cache {path} cannot be written ({first_line(error)}); the next build takes longer.")


def _require_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        raise DeviceError("TensorRT needs an NVIDIA GPU, but PyTorch finds none here; see what nvidia-smi lists.")


def _failure(what: str, log: Log) -> EngineError | torch.OutOfMemoryError:
    import torch

    sentence = f"TensorRT could not {what}{log.why()}"
    if re.search("out ?of ?memory", sentence, re.IGNORECASE):
        return torch.OutOfMemoryError(f"{sentence}.")
    return EngineError(f"{sentence}; delete the engine's file and run Snakemake again.")


def _remedy() -> str:
    cuda12 = f"tensorrt-cu12=={TESTED}"
    what = cuda12 if _cuda_major() == 12 else "-r envs/tensorrt.txt"
    return f"run '.venv/bin/python -m pip install {what}', or take the tensorrt modes out of config/config.yaml"


def _cuda_major() -> int | None:
    """The major version of CUDA that PyTorch was built for, read without importing it."""
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None:
        return None
    found = re.search(
        r"^cuda\b.*?'(\d+)", Path(torch.origin).with_name("version.py").read_text(encoding="utf-8"), re.MULTILINE
    )
    return int(found[1]) if found else None


RUNTIME = Runtime(
    precisions=frozenset({"fp32", "tf32", "fp16", "int8"}),
    devices=frozenset({"cuda"}),
    prepare=prepare,
    source="engine",
    build=build,
    check_options=check_options,
    libraries=libraries,
)
