"""torch.compile: the network as fused kernels made by TorchInductor for one batch size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from deepgap.runtimes import Call, Inputs, Runtime
from deepgap.runtimes.packages import first_installed, pytorch

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Options:
    """How torch.compile makes kernels; `compilegraph` adds a CUDA graph."""

    mode: Literal["default", "max-autotune-no-cudagraphs"] = "default"


def prepare(model: torch.nn.Module, inputs: Inputs, options: Mapping[str, Any]) -> Call:
    import torch

    compiled = torch.compile(model, fullgraph=True, dynamic=False, mode=Options(**options).mode)

    def call(index: int) -> torch.Tensor:
        logits: torch.Tensor = compiled(inputs[index])
        return logits

    return call


def preload() -> None:
    """torch.compile imports its compilers at its first call."""
    import torch._dynamo
    import torch._inductor.compile_fx  # noqa: F401


RUNTIME = Runtime(
    precisions=frozenset({"fp32", "tf32", "fp16", "bf16"}),
    devices=frozenset({"cpu", "cuda"}),
    prepare=prepare,
    libraries=lambda: pytorch("compile") | first_installed(("triton",)),
    channels_last=frozenset({"fp16", "bf16"}),
    both_layouts=True,
    options=Options,
    preload=preload,
)
