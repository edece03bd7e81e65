"""CUDA graph replay: one launch for the whole network, so that the host cannot be the limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deepgap.runtimes import Call, Inputs, Runtime
from deepgap.runtimes.packages import pytorch

if TYPE_CHECKING:
    import torch

WARMUP_CALLS = 3


def prepare(model: torch.nn.Module, inputs: Inputs, options: Mapping[str, Any]) -> Call:
    """Capture one graph for each input buffer, so that replaying copies nothing.

    The warm-up calls before capture are those that PyTorch's notes on CUDA graphs ask for: algorithm
    selection must be over, because it may not happen inside a capture.
    """
    import torch

    for _ in range(WARMUP_CALLS):
        for buffer in inputs:
            model(buffer)
    torch.cuda.synchronize()

    graphs: list[torch.cuda.CUDAGraph] = []
    outputs: list[torch.Tensor] = []
    pool = None
    for buffer in inputs:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=torch.cuda.current_stream()):
            outputs.append(model(buffer))
        pool = pool or graph.pool()
        graphs.append(graph)

    def call(index: int) -> torch.Tensor:
        graphs[index].replay()
        return outputs[index]

    return call


RUNTIME = Runtime(
    precisions=frozenset({"fp32", "tf32", "fp16", "bf16"}),
    devices=frozenset({"cuda"}),
    prepare=prepare,
    libraries=lambda: pytorch("graph"),
    channels_last=frozenset({"fp16", "bf16"}),
    both_layouts=True,
)
