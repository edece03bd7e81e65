"""From an ONNX graph to an engine of one batch size, by either TensorRT.

Networks are strongly typed: the graph alone says in which type a layer computes, and int8 comes from its explicit
Quantize/Dequantize pairs. Shapes are static. The same code serves TensorRT 10.1 and later, 11, and TensorRT for RTX.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepgap.build.engine_file import Engine
from deepgap.errors import DeviceError, EngineError, UnsupportedError, first_line
from deepgap.files import put_in_place
from deepgap.runtimes import BuildRequest
from deepgap.runtimes.tensorrt.layers import describe_layers
from deepgap.runtimes.tensorrt.library import Library
from deepgap.runtimes.tensorrt.log import Log, in_parentheses, make_logger, make_monitor, start

if TYPE_CHECKING:
    import tensorrt as trt

PLAN = "plan"
REFUSED = ("is not supported", "HW-specific datatypes")
"""What the builder says of a layer that a GPU cannot have."""


def build(library: Library, request: BuildRequest) -> Engine:
    """Build an engine: for the GPU that is current in this process, or ahead of time for the capability asked for.

    The engine has one part, `plan`, of bytes. `about` tells its layers, how many read which type (`describe_layers`),
    where the engine can be loaded here, and the builder's warnings.

    TF32 is on for tf32 alone. TensorRT would let every FP32 layer use it, those too that an fp16 or int8 graph leaves
    in FP32; without it a precision is what its name says.

    Raises:
        MissingLibraryError: TensorRT is absent or too old.
        GraphError: the graph is missing or damaged.
        DeviceError: there is no GPU, and the library needs one.
        UnsupportedError: TensorRT cannot read the graph, or the GPU has no such layer.
        EngineError: TensorRT cannot build the engine; the sentence has its reasons.
    """
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = library.load()
    graph = _static_graph(request)
    if not library.ahead_of_time:
        require_gpu()

    log = Log()
    logger = make_logger(library, log)
    builder = start(trt.Builder, logger, log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        errors = [_describe(parser.get_error(index)) for index in range(parser.num_errors)]
        raise UnsupportedError(f"{library.title} cannot read the graph{in_parentheses(errors or log.errors)}.")
    config = _configure(trt, builder, library, request)

    log.errors.clear()
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        sentence = f"{library.title} could not build an engine of {request.graph}{log.why()}."
        refused = any(word in sentence for word in REFUSED)
        raise UnsupportedError(sentence) if refused else EngineError(sentence)
    about: dict[str, Any] = {"batch_size": request.batch_size, "warnings": log.warnings}
    if not library.ahead_of_time:
        _keep_timing_cache(config, request)
        engine = start(trt.Runtime, logger, log).deserialize_cuda_engine(plan)
        inspector = None if engine is None else engine.create_engine_inspector()
        if inspector is None:
            raise EngineError(f"TensorRT could not load the engine that it built of {request.graph}{log.why()}.")
        about |= describe_layers(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    return Engine({PLAN: np.frombuffer(bytes(plan), np.uint8)}, about)


def require_gpu() -> None:
    """
    Raises:
        DeviceError: PyTorch finds no GPU.
    """
    import torch

    if not torch.cuda.is_available():
        raise DeviceError("TensorRT needs an NVIDIA GPU, but PyTorch finds none here; see what nvidia-smi lists.")


def _describe(error: trt.ParserError) -> str:
    operator = error.node_operator()
    return f"{operator}: {error.desc()}" if operator else error.desc()


def _static_graph(request: BuildRequest) -> bytes:
    """The ONNX graph for the one batch size: a dynamic one would be compiled anew for it after the first calls."""
    from deepgap.build.graph_file import load_graph

    model = load_graph(request.graph)
    if (len(model.graph.input), len(model.graph.output)) != (1, 1):
        raise EngineError(
            f"An engine needs a graph of one input and one output, but {request.graph} has "
            f"{len(model.graph.input)} and {len(model.graph.output)}."
        )
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    found = [size.dim_value for size in sizes[1:]]
    if found != [3, request.image_size, request.image_size]:
        raise EngineError(
            f"{request.graph} takes images of {' x '.join(map(str, found))}, but those of the study are 3 x "
            f"{request.image_size} x {request.image_size}; delete it and run Snakemake again."
        )
    sizes[0].dim_value = request.batch_size
    # It is none of the output's business any more.
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = request.batch_size
    content: bytes = model.SerializeToString()
    return content


def _configure(module: Any, builder: trt.Builder, library: Library, request: BuildRequest) -> trt.IBuilderConfig:
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = module
    config = builder.create_builder_config()
    config.progress_monitor = make_monitor(library, request.say)
    if request.precision == "tf32":
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    if library.ahead_of_time:
        _aim(module, config, request)
        return config
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(request.options["workspace_gib"] * 2**30))
    config.builder_optimization_level = request.options["optimization_level"]
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    _load_timing_cache(config, request)
    return config


def _aim(module: Any, config: Any, request: BuildRequest) -> None:
    """Build for the compute capability of the request's device, and so that a CUDA graph can hold the engine."""
    asked = str(request.identity["compute_capability"])
    name = f"SM{asked.replace('.', '')}"
    capability = getattr(module.ComputeCapability, name, None)
    if capability is None:
        raise UnsupportedError(f"TensorRT for RTX builds no engines for compute capability {asked}.")
    config.num_compute_capabilities = 1
    if not config.set_compute_capability(capability, 0):
        raise EngineError(f"TensorRT for RTX refuses the compute capability {asked}.")
    config.set_flag(module.BuilderFlag.REQUIRE_USER_ALLOCATION)


def _load_timing_cache(config: trt.IBuilderConfig, request: BuildRequest) -> None:
    path = request.timing_cache
    cache = config.create_timing_cache(path.read_bytes() if path.exists() else b"")
    if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
        return
    request.say(f"{path} is damaged or of another GPU or TensorRT; the engine is built without it.")
    if (cache := config.create_timing_cache(b"")) is not None:
        config.set_timing_cache(cache, ignore_mismatch=False)


def _keep_timing_cache(config: trt.IBuilderConfig, request: BuildRequest) -> None:
    if (cache := config.get_timing_cache()) is not None:
        keep(request.timing_cache, bytes(cache.serialize()), request.say)


def keep(path: Path, content: bytes, say: Any) -> None:
    """Write a cache; one that cannot be written costs time and nothing else."""
    try:
        with put_in_place(path) as partial:
            partial.write_bytes(content)
    except OSError as error:
        say(f"The cache {path} cannot be written ({first_line(error)}); the next time takes longer.")
