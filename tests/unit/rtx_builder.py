"""TensorRT for RTX builds engines for GPUs that are not here: its builder needs none."""

from __future__ import annotations

from typing import Any

import onnx

CAPABILITIES = ("SM75", "SM86", "SM89")
"""T4; A10 and RTX 30; L4 and RTX 40."""


def build_engine(graph: onnx.ModelProto, capability: str, batch_size: int = 2) -> bytes:
    """The engine of a graph for a compute capability of `tensorrt_rtx.ComputeCapability`.

    Raises:
        ValueError: the parser or the builder refuses the graph; the text is theirs.
    """
    import tensorrt_rtx as trt

    # The class is made by the library, which has no types.
    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(graph.SerializeToString()):
        raise ValueError("; ".join(parser.get_error(index).desc() for index in range(parser.num_errors)))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
    profile = builder.create_optimization_profile()
    entry = network.get_input(0)
    shape = (batch_size, *tuple(entry.shape)[1:])
    profile.set_shape(entry.name, shape, shape, shape)
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ValueError("; ".join(log.errors))
    return bytes(engine)
