"""A recording double of the module `tensorrt`: it builds and runs nothing, and is strict about how it is called.

Its classes and enums have the names of the real bindings of one version, no more: a name that this version lacks
raises AttributeError. What TensorRT answers with False, None or -1 is answered so, with an error in the log; what is
undefined or crashes there raises `WrongUse`. The rules are those of the API's reference.

"Running" reads the input's memory and writes to the output's memory the mean of each image's first channel plus the
class's number, so a test sees which buffer was read, in which shape and layout, and when.
"""

from __future__ import annotations

import ctypes
import enum
import gc
import json
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch

CLASSES = 10
LAYERS = {
    "Layers": [
        {
            "Name": "conv1",
            "LayerType": "CaskConvolution",
            "Inputs": [
                {"Name": "input", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}
            ],
            "Outputs": [{"Name": "x", "Format/Datatype": "Row major linear FP32"}],
            "TacticName": "sm75_xmma_fprop_implicit_gemm_interleaved_i8i8",
        },
        {"Name": "add", "LayerType": "kgen", "Inputs": [{"Format/Datatype": "Float"}], "Outputs": []},
        "a bare name",
    ]
}


class WrongUse(AssertionError):
    """A call that the real library punishes with undefined behaviour or a crash."""


def require(condition: object, rule: str) -> None:
    if not condition:
        raise WrongUse(rule)


class Stream:
    """What `torch.cuda.current_stream()` gives."""

    def __init__(self, handle: int) -> None:
        self.cuda_stream = handle


class Double:
    """One installation of TensorRT on one GPU. Attributes steer what it does; `calls` is what it was asked."""

    def __init__(self, surface: dict[str, Any], version: str) -> None:
        self.surface, self.version = surface, version
        self.calls: list[tuple[Any, ...]] = []
        self.gpu = True
        self.stream = Stream(7)
        self.graph_type = "FLOAT"
        self.parser_errors: list[str] = []
        self.build_errors: list[str] = []
        self.no_context: str | None = None
        self.fails_to_run = False
        self.fails_to_capture = False
        self.layers = json.dumps(LAYERS)
        self.plans: dict[bytes, tuple[int, ...]] = {}
        self.capturing: list[Callable[[], None]] | None = None
        self.module = self._module()

    def record(self, *call: Any) -> None:
        self.calls.append(call)

    def called(self, name: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == name]

    def _module(self) -> types.ModuleType:
        module = types.ModuleType("tensorrt")
        module.__version__ = self.version
        for name, members in self.surface["enums"].items():
            setattr(module, name, enum.IntEnum(name, members))
        for made in make_classes(self, module):
            names = set(self.surface["classes"][made.__name__])
            for name in [name for name in vars(made) if not name.startswith("_") and name not in names]:
                delattr(made, name)
            made._names = names
            setattr(module, made.__name__, made)
        module.ILogger.Severity = module.Severity
        del module.Severity
        return module

    @contextmanager
    def capture(self, graph: Graph, stream: Stream, capture_error_mode: str = "global") -> Iterator[None]:
        require(stream is self.stream and stream.cuda_stream, "a capture needs a stream that is not the default one")
        require(capture_error_mode in ("global", "thread_local", "relaxed"), "a capture has a mode")
        self.capturing = []
        try:
            yield
        finally:
            graph.steps, self.capturing = self.capturing, None
            if self.fails_to_capture:
                raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    def patch_torch(self, monkeypatch: Any) -> None:
        """The seam to PyTorch: whether there is a GPU, the current stream, CUDA graphs. Tensors stay on the CPU."""
        monkeypatch.setattr(torch.cuda, "is_available", lambda: self.gpu)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: self.stream)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", self.capture)


class Graph:
    """What `torch.cuda.CUDAGraph` is: the captured work, and no more of Python."""

    steps: list[Callable[[], None]]

    def replay(self) -> None:
        for step in self.steps:
            step()


class Strict:
    """An object on which only the names of the real class can be set; a subclass in Python may set any."""

    _names: set[str]

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_") and name not in vars(type(self)).get("_names", {name}):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        object.__setattr__(self, name, value)


def make_classes(double: Double, trt: types.ModuleType) -> list[type]:
    class ILogger(Strict):
        _ready = False

        def __init__(self) -> None:
            self._ready = True

        def log(self, severity: int, msg: str) -> None:
            raise WrongUse("log must be overridden")

    class IProgressMonitor(Strict):
        _ready = False

        def __init__(self) -> None:
            self._ready = True

    class Dims(tuple):
        _names: set[str]

    class IHostMemory(bytes):
        _names: set[str]

        @property
        def nbytes(self) -> int:
            return len(self)

    class ITensor(Strict):
        def __init__(self, name: str, shape: tuple[int, ...]) -> None:
            self.name, self.shape = name, Dims(shape)

    class Builder(Strict):
        def __init__(self, logger: Any) -> None:
            require(isinstance(logger, ILogger) and logger._ready, "a logger is an initialised ILogger")
            require(double.gpu, "there is no GPU to build on")
            self._logger = logger

        def create_network(self, flags: int = 0) -> Any:
            strong = trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
            require(trt.__version__ >= "11" or flags & 1 << int(strong), "the network must be strongly typed")
            double.record("create_network", flags)
            return INetworkDefinition(self)

        def create_builder_config(self) -> Any:
            return IBuilderConfig(self)

        def build_serialized_network(self, network: Any, config: Any) -> Any:
            require(network._builder is self and config._builder is self, "network and config are of this builder")
            double.record("build_serialized_network")
            error = self._logger.log
            if not network._parsed:
                return error(trt.ILogger.Severity.ERROR, "Network has no outputs")
            if min(network._shape) < 1:
                return error(trt.ILogger.Severity.ERROR, "Network has dynamic inputs, but no optimization profile")
            config._monitor_build()
            if double.build_errors:
                for text in double.build_errors:
                    error(trt.ILogger.Severity.ERROR, text)
                return None
            error(trt.ILogger.Severity.WARNING, "a tactic was skipped")
            if config._cache is not None:
                config._cache._entries += 1
            plan = IHostMemory(f"plan {len(double.plans)} of {double.version}".encode())
            double.plans[bytes(plan)] = network._shape
            return plan

    class INetworkDefinition(Strict):
        def __init__(self, builder: Any) -> None:
            self._builder, self._parsed, self._parser, self._shape = builder, False, None, (-1,)

        @property
        def num_inputs(self) -> int:
            return int(self._parsed)

        @property
        def num_outputs(self) -> int:
            return int(self._parsed)

        def get_input(self, index: int) -> Any:
            return ITensor("input", self._shape) if self._parsed and index == 0 else None

    class OnnxParser(Strict):
        def __init__(self, network: Any, logger: Any) -> None:
            require(isinstance(network, INetworkDefinition) and isinstance(logger, ILogger), "OnnxParser's arguments")
            self._network, self._errors = network, []
            # The network uses the parser's memory; the bindings keep the parser as long as the network.
            network._parser = self

        def parse(self, model: Any) -> bool:
            require(type(model) is bytes, "parse takes the bytes of a model")
            require(not self._network._parsed, "a network is parsed once")
            (entry,) = onnx.load_from_string(model).graph.input
            # A dimension with a name has the value 0 here.
            self._network._shape = tuple(size.dim_value for size in entry.type.tensor_type.shape.dim)
            double.record("parse", self._network._shape)
            self._errors = [ParserError(text) for text in double.parser_errors]
            self._network._parsed = not self._errors
            return not self._errors

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> Any:
            return self._errors[index]

    class ParserError(Strict):
        def __init__(self, text: str) -> None:
            self._text = text

        def desc(self) -> str:
            return self._text

        def node_operator(self) -> str:
            return ""

    class ITimingCache(Strict):
        def __init__(self, entries: int, gpu: str) -> None:
            self._entries, self._gpu = entries, gpu

        def serialize(self) -> Any:
            return IHostMemory(f"timing {self._gpu} {self._entries}".encode())

    class IBuilderConfig(Strict):
        def __init__(self, builder: Any) -> None:
            self._builder, self._cache = builder, None
            self._flags = {trt.BuilderFlag.TF32}

        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if not name.startswith("_"):
                double.record("config", name, value)

        def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
            require(type(pool_size) is int, "a pool's size is an int of bytes")
            double.record("set_memory_pool_limit", pool, pool_size)

        def set_flag(self, flag: Any) -> None:
            self._flags.add(flag)
            double.record("flags", set(self._flags))

        def clear_flag(self, flag: Any) -> None:
            self._flags.discard(flag)
            double.record("flags", set(self._flags))

        def create_timing_cache(self, serialized_timing_cache: Any) -> Any:
            blob = bytes(serialized_timing_cache)
            double.record("create_timing_cache", blob)
            if not blob:
                return ITimingCache(0, "here")
            kind, _, rest = blob.decode(errors="replace").partition(" ")
            return ITimingCache(int(rest.split()[1]), rest.split()[0]) if kind == "timing" else None

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            require(isinstance(cache, ITimingCache), "set_timing_cache takes a cache")
            if cache._gpu != "here" and not ignore_mismatch:
                return False
            self._cache = cache
            return True

        def get_timing_cache(self) -> Any:
            return self._cache

        def _monitor_build(self) -> None:
            monitor = getattr(self, "progress_monitor", None)
            if monitor is None:
                return
            require(isinstance(monitor, IProgressMonitor) and monitor._ready, "a monitor is initialised")

            def phases() -> None:
                monitor.phase_start("Building Engine", None, 2)
                monitor.phase_start("Tactic Selection", "Building Engine", 100)
                for step in range(100):
                    require(monitor.step_complete("Tactic Selection", step) is True, "step_complete gives a bool")
                monitor.phase_finish("Tactic Selection")
                monitor.phase_finish("Building Engine")

            # TensorRT reports from threads of its own.
            thread = threading.Thread(target=phases)
            thread.start()
            thread.join()

    class Runtime(Strict):
        def __init__(self, logger: Any) -> None:
            require(isinstance(logger, ILogger) and logger._ready, "a logger is an initialised ILogger")
            self._logger = logger

        def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
            require(double.gpu, "deserialising without a GPU crashes the process")
            plan = bytes(memoryview(serialized_engine))
            if plan not in double.plans:
                self._logger.log(trt.ILogger.Severity.ERROR, "Serialization assertion failed: version tag mismatch")
                return None
            return ICudaEngine(self, double.plans[plan])

    class EngineInspector(Strict):
        def get_engine_information(self, format: Any) -> str:
            require(format is trt.LayerInformationFormat.JSON, "JSON was expected")
            return double.layers

    class ICudaEngine(Strict):
        num_io_tensors = 2

        def __init__(self, runtime: Any, shape: tuple[int, ...]) -> None:
            self._runtime, self._shape = runtime, shape

        @property
        def device_memory_size_v2(self) -> int:
            return 1024 * self._shape[0]

        def get_tensor_name(self, index: int) -> str:
            # Nothing promises that the input comes first.
            return ("logits", "input")[index]

        def get_tensor_mode(self, name: str) -> Any:
            return trt.TensorIOMode.INPUT if name == "input" else trt.TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name: str) -> Any:
            return trt.DataType[double.graph_type]

        def get_tensor_shape(self, name: str) -> Any:
            return Dims(self._shape if name == "input" else (self._shape[0], CLASSES))

        def create_engine_inspector(self) -> Any:
            return EngineInspector()

        def create_execution_context(self, strategy: Any) -> Any:
            if double.no_context is not None:
                return self._runtime._logger.log(trt.ILogger.Severity.ERROR, double.no_context)
            return IExecutionContext(self, strategy)

    class IExecutionContext(Strict):
        def __init__(self, engine: Any, strategy: Any) -> None:
            self._engine = engine
            self._memory = None if strategy == trt.ExecutionContextAllocationStrategy.USER_MANAGED else (0, None)
            self._addresses: dict[str, int] = {}
            self._ran = False

        def set_device_memory(self, memory: int, size: int) -> None:
            require(type(memory) is int and type(size) is int, "memory is an address and a size")
            self._memory = (memory, size)

        def set_tensor_address(self, name: str, memory: int) -> bool:
            require(double.capturing is None, "addresses are not set in a capture")
            require(type(memory) is int and memory, "an address is an int that is not null")
            if name not in ("input", "logits"):
                return False
            double.record("set_tensor_address", name, memory)
            self._addresses[name] = memory
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            require(double.gpu and stream_handle, "never on the default stream")
            require(stream_handle == double.stream.cuda_stream, "calls run on the current stream")
            require(set(self._addresses) == {"input", "logits"}, "all addresses are set before execution")
            require(self._memory is not None, "a user-managed context needs device memory")
            address, size = self._memory
            if size is not None:
                require(size >= self._engine.device_memory_size_v2, "the device memory is too small")
                require_alive(address)
            for address in self._addresses.values():
                require_alive(address)
            double.record("execute", self)
            if double.fails_to_run or (double.fails_to_capture and double.capturing is not None):
                self._engine._runtime._logger.log(trt.ILogger.Severity.ERROR, "enqueueV3: invalid argument")
                return False
            if double.capturing is not None:
                require(self._ran, "a context runs at least once before it is captured")
                double.capturing.append(self._run)
                return True
            self._run()
            self._ran = True
            return True

        def _run(self) -> None:
            kind = np.float16 if double.graph_type == "HALF" else np.float32
            for address in self._addresses.values():
                require_alive(address)
            images = memory_at(self._addresses["input"], self._engine._shape, kind)
            logits = memory_at(self._addresses["logits"], (self._engine._shape[0], CLASSES), kind)
            logits[:] = images[:, 0].mean(axis=(1, 2), dtype=np.float32)[:, None] + np.arange(CLASSES)

    return [value for value in locals().values() if isinstance(value, type)]


def memory_at(address: int, shape: tuple[int, ...], kind: type) -> np.ndarray:
    count = int(np.prod(shape)) * np.dtype(kind).itemsize
    return np.frombuffer((ctypes.c_char * count).from_address(address), kind).reshape(shape)


def require_alive(address: int) -> None:
    """Whether a live tensor is at this address: TensorRT keeps nothing alive."""
    tensors = (value for value in gc.get_objects() if type(value) is torch.Tensor)
    require(any(tensor.data_ptr() == address for tensor in tensors), "memory was released that an engine uses")
