"""Calls as replays of CUDA graphs, one for each input buffer, so that replaying copies nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from deepgap.runtimes import Call, Inputs

if TYPE_CHECKING:
    import torch

WARMUP_CALLS = 3


def capture(run: Callable[[torch.Tensor], torch.Tensor], inputs: Inputs) -> Call:
    """Capture `run` on each input buffer, on the current stream, which must not be the default one.

    The warm-up calls before the captures are those that PyTorch's notes on CUDA graphs ask for: algorithm selection
    and compiling must be over, because they may not happen inside a capture.
    """
    import torch

    for _ in range(WARMUP_CALLS):
        for buffer in inputs:
            run(buffer)
    torch.cuda.synchronize()

    graphs: list[torch.cuda.CUDAGraph] = []
    outputs: list[torch.Tensor] = []
    pool = None
    for buffer in inputs:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=torch.cuda.current_stream()):
            outputs.append(run(buffer))
        pool = pool or graph.pool()
        graphs.append(graph)

    # A graph knows bare addresses: `run` keeps the weights that it reads.
    def call(index: int, keep: object = run) -> torch.Tensor:
        graphs[index].replay()
        return outputs[index]

    return call
