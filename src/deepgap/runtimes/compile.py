"""torch.compile: the network as fused kernels made by TorchInductor for one batch size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deepgap.errors import ConfigError
from deepgap.runtimes import Call, Inputs, Runtime

if TYPE_CHECKING:
    import torch

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


def prepare(model: torch.nn.Module, inputs: Inputs, options: Mapping[str, Any]) -> Call:
    import torch

    compiled = torch.compile(model, fullgraph=True, dynamic=False, mode=options.get("mode", "default"))

    def call(index: int) -> torch.Tensor:
        logits: torch.Tensor = compiled(inputs[index])
        return logits

    return call


def preload() -> None:
    """torch.compile imports its compilers at its first call."""
    import torch._inductor.compile_fx  # noqa: F401


def check_options(options: Mapping[str, Any]) -> None:
    """`mode` is torch.compile's.

    Raises:
        ConfigError: an option or its value is unknown.
    """
    for name, value in options.items():
        if name != "mode" or value not in MODES:
            raise ConfigError(
                f"config.yaml: runtime_options.compile.{name} is {value!r}; the runtime has the option mode, one of "
                f"{', '.join(MODES)}."
            )


RUNTIME = Runtime(
    precisions=frozenset({"fp32", "tf32", "fp16"}),
    devices=frozenset({"cpu", "cuda"}),
    prepare=prepare,
    check_options=check_options,
    preload=preload,
)
