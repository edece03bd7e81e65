"""torch.compile and a CUDA graph of it: fused kernels, and one launch for the whole network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deepgap.runtimes import Call, Inputs, Runtime
from deepgap.runtimes.capture import capture
from deepgap.runtimes.compile import Options, compile_model, preload
from deepgap.runtimes.packages import first_installed, pytorch

if TYPE_CHECKING:
    import torch


def prepare(model: torch.nn.Module, inputs: Inputs, options: Mapping[str, Any]) -> Call:
    """Capture the compiled model with the cell's own buffers: `reduce-overhead` would copy each input into one of its
    own before every replay."""
    return capture(compile_model(model, options), inputs)


RUNTIME = Runtime(
    precisions=frozenset({"fp32", "tf32", "fp16", "bf16"}),
    devices=frozenset({"cuda"}),
    prepare=prepare,
    libraries=lambda: pytorch("compilegraph") | first_installed(("triton",)),
    channels_last=frozenset({"fp16", "bf16"}),
    both_layouts=True,
    options=Options,
    preload=preload,
)
