"""INT8 and FP16 without TensorRT: a residual network as one fused kernel a convolution, chosen by timing, in one CUDA
graph. Both precisions have the same steps, candidates and search, so that their ratio is that of the precision.

Each convolution runs the fastest of cuDNN's execution plans and of the tiles of a Triton kernel, found for each batch
size on the device itself. Pooling and the quantisation of the input are Triton kernels; the classifier is an FP16
matrix product of PyTorch.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

import numpy as np

from deepgap.build.engine_file import Engine
from deepgap.runtimes import BuildRequest, Runtime
from deepgap.runtimes.cudnn.layers import network_layers, pack_weight
from deepgap.runtimes.cudnn.running import Options, prepare
from deepgap.runtimes.cudnn.search import choose
from deepgap.runtimes.packages import pytorch


def libraries() -> dict[str, str]:
    return pytorch("cudnn", "nvidia-cudnn-frontend", "triton")


def preload() -> None:
    import cudnn  # noqa: F401

    import deepgap.runtimes.cudnn.convolutions  # noqa: F401
    import deepgap.runtimes.cudnn.kernels  # noqa: F401


def build(request: BuildRequest) -> Engine:
    """Lower the graph, compile and time every candidate of every convolution, keep the fastest.

    Raises:
        GraphError: the graph is damaged, or neither quantised nor in FP16.
        UnsupportedError: it is not a residual network, or a convolution has no kernel on this device.
    """
    from deepgap.build.quantize.network import read_graph
    from deepgap.runtimes.cudnn.lowering import Convolution, lower, lower_half

    half = request.precision == "fp16"
    network = (lower_half if half else lower)(read_graph(request.graph))
    layers = list(network_layers(network, request.image_size, request.precision))
    shapes = {layer.name: layer.shape(request.batch_size) for layer in layers if layer.op == "convolution"}
    found, plans = choose(list(dict.fromkeys(shapes.values())), request)
    choices = {name: found[shape] for name, shape in shapes.items()}

    parts: dict[str, np.ndarray] = {
        "head_weight": network.head.weight.astype(np.float16),
        "head_bias": network.head.bias.astype(np.float16),
    }
    for step, layer in zip(network.steps, layers, strict=True):
        if isinstance(step, Convolution):
            packed = pack_weight(step.weight) if layer.x == "packed" else step.weight
            parts |= {
                f"weight:{step.name}": packed,
                f"multiplier:{step.name}": step.multiplier,
                f"offset:{step.name}": step.offset,
            }
    used = {choice["plan"] for choice in choices.values() if choice["kernel"] == "cudnn"}
    parts |= {f"plan:{key}": np.frombuffer(plans[key], np.uint8) for key in used}
    about = {
        "layers": [asdict(layer) for layer in layers],
        "input_scale": network.input_scale,
        "head": {"x": network.head.x, "scale": network.head.scale},
        "image_size": request.image_size,
        "batch_size": request.batch_size,
        "choices": choices,
        "precision": request.precision,
        "layers_by_precision": {"fp16": len(layers) + 1} if half else {"int8": len(layers), "fp16": 1},
        "kernels": dict(sorted(Counter(choice["kernel"] for choice in choices.values()).items())),
    }
    return Engine(parts, about)


RUNTIME = Runtime(
    precisions=frozenset({"fp16", "int8"}),
    devices=frozenset({"cuda"}),
    prepare=prepare,
    source="engine",
    build=build,
    options=Options,
    preload=preload,
    libraries=libraries,
)
