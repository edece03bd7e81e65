"""From an engine of either TensorRT to calls, one execution context for each input buffer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepgap.build.engine_file import Engine
from deepgap.errors import EngineError, UnsupportedError, first_line
from deepgap.runtimes import Call, Inputs
from deepgap.runtimes.tensorrt.building import PLAN, keep, require_gpu
from deepgap.runtimes.tensorrt.library import Library
from deepgap.runtimes.tensorrt.log import Log, make_logger, start

if TYPE_CHECKING:
    import tensorrt as trt
    import torch

COMPILED = Path("build/engines/compiled")
"""Where TensorRT for RTX keeps the kernels that it compiles on the GPU, below the project's root."""


@dataclass(frozen=True)
class Bound:
    """An execution context on one input buffer. TensorRT knows bare addresses: what they point to lives as long."""

    context: trt.IExecutionContext
    output: torch.Tensor
    kept: tuple[torch.Tensor, ...]


def prepare(library: Library, engine: Engine, inputs: Inputs, cuda_graph: bool) -> Call:
    """Prepare calls on the current stream, which must not be the default one; call on that stream.

    Inputs and logits have the type of the engine. Each context runs once: TensorRT for RTX compiles its kernels then,
    unless it has kept them from an earlier time.

    Raises:
        MissingLibraryError, DeviceError: as `build`.
        UnsupportedError: a CUDA graph cannot hold the engine.
        EngineError: the engine does not fit this GPU, this TensorRT or these inputs, or does not run.
        torch.OutOfMemoryError: what the engine needs does not fit into the GPU's memory.
    """
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = library.load()
    # Deserialising without a GPU crashes the process.
    require_gpu()
    import torch

    stream = int(torch.cuda.current_stream().cuda_stream)
    if stream == 0:
        raise EngineError("TensorRT would synchronise on the default stream; prepare it on a stream of your own.")
    if not all(buffer.is_contiguous() for buffer in inputs):
        raise EngineError("An engine reads rows of NCHW, but the inputs are not contiguous; make them so.")
    log = Log()
    loaded = start(trt.Runtime, make_logger(library, log), log).deserialize_cuda_engine(engine.parts[PLAN].data)
    if loaded is None:
        raise failure("load the engine", log)
    names = {loaded.get_tensor_mode(name): name for name in map(loaded.get_tensor_name, range(loaded.num_io_tensors))}
    source, target = names[trt.TensorIOMode.INPUT], names[trt.TensorIOMode.OUTPUT]
    _check_inputs(trt, loaded, (source, target), inputs[0])

    # Each buffer has a context of its own whose addresses never change, so a call sets nothing and TensorRT has
    # nothing to check anew. The contexts run one after another on one stream and share the memory of their
    # activations, which TensorRT would allocate for each.
    size_bytes = loaded.device_memory_size_v2
    activations = torch.empty(max(1, size_bytes), dtype=torch.uint8, device=inputs[0].device)
    compiled = COMPILED / f"{hashlib.sha256(engine.parts[PLAN].data).hexdigest()[:16]}.cache"
    make, keep_compiled = _context_maker(trt, loaded, library, compiled)
    bound = []
    for buffer in inputs:
        context = make()
        if context is None:
            raise failure("make an execution context", log)
        # The detail that the engine keeps for its inspector would cost time in every call.
        context.nvtx_verbosity = trt.ProfilingVerbosity.NONE
        context.set_device_memory(activations.data_ptr(), size_bytes)
        output = torch.empty(tuple(loaded.get_tensor_shape(target)), dtype=buffer.dtype, device=buffer.device)
        for name, tensor in ((source, buffer), (target, output)):
            if not context.set_tensor_address(name, tensor.data_ptr()):
                raise failure(f"use the memory of {name}", log)
        bound.append(Bound(context, output, (buffer, activations)))

    def call(index: int) -> torch.Tensor:
        if not bound[index].context.execute_async_v3(stream):
            raise failure("run the engine", log)
        return bound[index].output

    for index in range(len(inputs)):
        call(index)
    torch.cuda.synchronize()
    keep_compiled()
    return _capture(library, call, bound) if cuda_graph else call


def _check_inputs(module: Any, engine: trt.ICudaEngine, names: tuple[str, str], buffer: torch.Tensor) -> None:
    import torch

    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = module
    wanted = {torch.float32: trt.DataType.FLOAT, torch.float16: trt.DataType.HALF}.get(buffer.dtype)
    for name in names:
        if (found := engine.get_tensor_dtype(name)) != wanted:
            raise EngineError(
                f"The inputs are {buffer.dtype}, but the engine's {name} is {found.name}; the graph and the cell "
                "must have one precision."
            )
    shape = tuple(engine.get_tensor_shape(names[0]))
    if shape != tuple(buffer.shape):
        raise EngineError(
            f"The engine was built for images of the shape {shape}, but {tuple(buffer.shape)} was asked for; build "
            "it anew."
        )


def _context_maker(
    module: Any, engine: Any, library: Library, compiled: Path
) -> tuple[Callable[[], Any], Callable[[], None]]:
    """What makes a context whose activations have memory from outside, and what keeps its compiled kernels."""
    strategy = module.ExecutionContextAllocationStrategy.USER_MANAGED
    if not library.ahead_of_time:
        return lambda: engine.create_execution_context(strategy), lambda: None
    config = engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(strategy)
    # The capture is our own, one for each buffer.
    config.cuda_graph_strategy = module.CudaGraphStrategy.DISABLED
    cache = config.create_runtime_cache()
    if compiled.exists():
        # One of another driver or card is refused, and made anew.
        cache.deserialize(compiled.read_bytes())
    config.set_runtime_cache(cache)
    return lambda: engine.create_execution_context(config), lambda: keep(compiled, bytes(cache.serialize()), print)


def _capture(library: Library, call: Call, bound: list[Bound]) -> Call:
    """Replay a CUDA graph for each buffer; the order and the mode are those of trtexec.

    The contexts have run: a first run still updates a context, which a capture cannot hold.
    """
    import torch

    captured: list[tuple[torch.cuda.CUDAGraph, torch.Tensor, Call]] = []
    for index, entry in enumerate(bound):
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
                f"runtime_options.{library.runtime}.cuda_graph to false."
            ) from None
        # A graph too knows bare addresses; `call` keeps them alive.
        captured.append((graph, entry.output, call))

    def replay(index: int) -> torch.Tensor:
        graph, output, _ = captured[index]
        graph.replay()
        return output

    return replay


def failure(what: str, log: Log) -> EngineError | torch.OutOfMemoryError:
    """The error of a step that TensorRT did not take."""
    import torch

    sentence = f"TensorRT could not {what}{log.why()}"
    if re.search("out ?of ?memory", sentence, re.IGNORECASE):
        return torch.OutOfMemoryError(f"{sentence}.")
    return EngineError(f"{sentence}; delete the engine's file and run Snakemake again.")
