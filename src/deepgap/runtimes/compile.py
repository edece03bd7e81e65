"""torch.compile: the network as fused kernels made by TorchInductor for one batch size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deepgap.runtimes import Call, Inputs, Runtime

if TYPE_CHECKING:
    import torch


def prepare(model: torch.nn.Module, inputs: Inputs, options: Mapping[str, Any]) -> Call:
    import torch

    compiled = torch.compile(model, fullgraph=True, dynamic=False, mode=options.get("mode", "default"))

    def call(index: int) -> torch.Tensor:
        logits: torch.Tensor = compiled(inputs[index])
        return logits

    return call


RUNTIME = Runtime(
    precisions=frozenset({"fp32", "tf32", "fp16"}),
    devices=frozenset({"cpu", "cuda"}),
    prepare=prepare,
)
