"""PyTorch eager: every operator is launched from Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deepgap.runtimes import Call, Inputs, Runtime
from deepgap.runtimes.packages import pytorch

if TYPE_CHECKING:
    import torch


def prepare(model: torch.nn.Module, inputs: Inputs, options: Mapping[str, Any]) -> Call:
    def call(index: int) -> torch.Tensor:
        logits: torch.Tensor = model(inputs[index])
        return logits

    return call


RUNTIME = Runtime(
    precisions=frozenset({"fp32", "tf32", "fp16", "bf16"}),
    devices=frozenset({"cpu", "cuda"}),
    prepare=prepare,
    libraries=lambda: pytorch("eager"),
    channels_last=frozenset({"fp16", "bf16"}),
    both_layouts=True,
)
