"""CUDA graph replay: one launch for the whole network, so that the host cannot be the limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deepgap.runtimes import Call, Inputs, Runtime
from deepgap.runtimes.capture import capture
from deepgap.runtimes.packages import pytorch

if TYPE_CHECKING:
    import torch


def prepare(model: torch.nn.Module, inputs: Inputs, options: Mapping[str, Any]) -> Call:
    return capture(model, inputs)


RUNTIME = Runtime(
    precisions=frozenset({"fp32", "tf32", "fp16", "bf16"}),
    devices=frozenset({"cuda"}),
    prepare=prepare,
    libraries=lambda: pytorch("graph"),
    channels_last=frozenset({"fp16", "bf16"}),
    both_layouts=True,
)
