"""torch.compile: each network's forward and backward pass as fused kernels made by TorchInductor for one batch size.

The optimiser is PyTorch's fused Adam, as in eager, so that the networks alone differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepgap.runtimes.compile import Options
from deepgap.runtimes.packages import first_installed, pytorch
from deepgap.training.frameworks import Framework, Job, Prepared
from deepgap.training.frameworks.pytorch import NARROW, PRECISIONS, around, preload, prepare_trainer, start_pytorch

if TYPE_CHECKING:
    import torch


def compile_network(job: Job, module: torch.nn.Module) -> torch.nn.Module:
    """The network as kernels that are made at its first call, for the shape of that call."""
    import torch

    mode = Options(**job.recipe["options"]).mode
    compiled: torch.nn.Module = torch.compile(module, fullgraph=True, dynamic=False, mode=mode)  # type: ignore[assignment]
    return compiled


def prepare(job: Job) -> Prepared:
    return prepare_trainer(job, lambda module: compile_network(job, module))


FRAMEWORK = Framework(
    framework="pytorch",
    label="torch.compile",
    precisions=PRECISIONS,
    devices=frozenset({"cpu", "cuda"}),
    prepare=prepare,
    libraries=lambda: pytorch("compile", "torchvision") | first_installed(("triton",)),
    preload=preload,
    start=start_pytorch,
    around=around,
    options=Options,
    channels_last=frozenset(NARROW),
    both_layouts=True,
)
