"""Ways to run a model, one file each.

A file in this folder is a runtime and defines `RUNTIME`. It imports torch inside its functions only, because
the Snakefile reads the capabilities of every runtime and must start fast.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import torch

Inputs: TypeAlias = "Sequence[torch.Tensor]"
Call: TypeAlias = "Callable[[int], torch.Tensor]"
"""Enqueue one inference on the input buffer of this index and return its logits, shape (batch, classes)."""


@dataclass(frozen=True)
class Runtime:
    """What a runtime can do, and how it prepares a model for one batch size.

    `prepare(model, inputs, options)` takes a model in eval mode and input buffers of shape
    (batch, 3, height, width), both already on the device, in the precision and the memory format of the cell.
    It returns a `Call`. It may raise `UnsupportedError`.
    """

    precisions: frozenset[str]
    devices: frozenset[str]
    prepare: Callable[[torch.nn.Module, Inputs, Mapping[str, Any]], Call]


@cache
def runtime_names() -> tuple[str, ...]:
    """The names of all runtimes: the files of this folder, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load_runtime(name: str) -> Runtime:
    """The runtime of this name; the name must be one of `runtime_names()`."""
    runtime = importlib.import_module(f"{__name__}.{name}").RUNTIME
    assert isinstance(runtime, Runtime), f"runtimes/{name}.py does not define RUNTIME"
    return runtime
