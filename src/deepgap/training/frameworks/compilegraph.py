"""torch.compile and CUDA graphs of whole steps: fused kernels, and one launch for forward, backward and optimiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from deepgap.measure.arms.timer import TimedCall
from deepgap.runtimes.capture import capture
from deepgap.runtimes.compile import Options
from deepgap.runtimes.packages import first_installed, pytorch
from deepgap.training.frameworks import Framework, Job, Prepared
from deepgap.training.frameworks.compile import compile_network
from deepgap.training.frameworks.pytorch import (
    NARROW,
    PRECISIONS,
    Run,
    around,
    preload,
    prepare_trainer,
    start_pytorch,
)
from deepgap.training.workloads import Arrays

if TYPE_CHECKING:
    import torch


def replay(run: Run, batches: Sequence[Arrays]) -> TimedCall:
    """The run as replays of CUDA graphs, one for each batch, which `capture` hands on as it is."""
    of_batch: Callable[[Any], torch.Tensor] = run
    return capture(of_batch, cast("Sequence[torch.Tensor]", batches))


def prepare(job: Job) -> Prepared:
    return prepare_trainer(job, lambda module: compile_network(job, module), replay=replay)


FRAMEWORK = Framework(
    framework="pytorch",
    label="torch.compile in a CUDA graph",
    precisions=PRECISIONS,
    devices=frozenset({"cuda"}),
    prepare=prepare,
    libraries=lambda: pytorch("compilegraph", "torchvision") | first_installed(("triton",)),
    preload=preload,
    start=start_pytorch,
    around=around,
    options=Options,
    channels_last=frozenset(NARROW),
    both_layouts=True,
)
