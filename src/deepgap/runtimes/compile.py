"""torch.compile: the network as fused kernels made by TorchInductor for one batch size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


def compile_model(model: torch.nn.Module, options: Mapping[str, Any]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The model as kernels that are made at its first call, for the shape of that call."""
    import torch

    compiled: Callable[[torch.Tensor], torch.Tensor] = torch.compile(
        model, fullgraph=True, dynamic=False, mode=Options(**options).mode
    )
    return compiled


def prepare(model: torch.nn.Module, inputs: Inputs, options: Mapping[str, Any]) -> Call:
    compiled = compile_model(model, options)

    def call(index: int) -> torch.Tensor:
        return compiled(inputs[index])

    return call


def preload() -> None:
    """torch.compile imports its compilers at its first call."""
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
