"""Ways to run a model, one file each.

A file in this folder is a runtime and defines `RUNTIME`. It imports torch and its own libraries inside its
functions only, because the Snakefile reads the capabilities of every runtime and must start fast.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from deepgap.errors import ConfigError
from deepgap.study.cell import Layout

if TYPE_CHECKING:
    import torch

    from deepgap.build.engine_file import Engine

Inputs: TypeAlias = "Sequence[torch.Tensor]"
Call: TypeAlias = "Callable[[int], torch.Tensor]"
"""Enqueue one inference on the input buffer of this index and return its logits, shape (batch, classes)."""

HALF = ("fp16", "bf16")

Source: TypeAlias = Literal["module", "graph", "engine"]


@dataclass(frozen=True)
class BuildRequest:
    """What an engine is built from."""

    graph: Path
    """The ONNX graph in the engine's precision; for int8 the calibrated Q/DQ graph."""
    precision: str
    image_size: int
    batch_sizes: tuple[int, ...]
    """The batch sizes that the engine must serve, ascending."""
    options: Mapping[str, Any]
    timing_cache: Path
    """A file of the runtime's own that makes the next build of a similar engine faster. May be missing."""
    say: Callable[[str], None]
    """Shows progress."""
    identity: Mapping[str, Any] = field(default_factory=dict)
    """The device and the libraries; what was timed for another identity is not reused."""


def refuse_options(options: Mapping[str, Any]) -> None:
    """The check of a runtime that has no options."""
    if options:
        raise ConfigError(
            f"config.yaml: runtime_options: '{min(options)}' was given for a runtime that has no options; remove it."
        )


@dataclass(frozen=True)
class Runtime:
    """What a runtime can do, and how it prepares a model for one batch size.

    `prepare(source, inputs, options)` takes input buffers of shape (batch, 3, height, width) on the device, in the
    type and memory format of the cell, and one of these sources:

    - `module`: the PyTorch model in eval mode, on the device, in the precision of the cell;
    - `graph`: the path of the ONNX graph in the precision of the cell;
    - `engine`: what `build` returned for this device and these libraries, read back from its file.

    It returns a `Call`. It may raise `UnsupportedError`.
    """

    precisions: frozenset[str]
    devices: frozenset[str]
    prepare: Callable[[Any, Inputs, Mapping[str, Any]], Call]
    version: int = 1
    """Raised when an edit of the runtime can change a number; its cells are then measured anew."""
    source: Source = "module"
    int8_form: Literal["qdq", "u8s8"] = "qdq"
    """Which quantised graph the runtime takes: with int8 activations for GPUs, or uint8 ones for x86."""
    build: Callable[[BuildRequest], Engine] | None = None
    """Builds an engine on the device that will run it; for the source `engine` alone."""
    check_options: Callable[[Mapping[str, Any]], object] = refuse_options
    """Raises `ConfigError` for `runtime_options` of the config that the runtime does not have."""
    preload: Callable[[], None] = lambda: None
    """Imports that each cell's process would do; called in the process that they are forked from. It must not touch
    CUDA, which a fork could not use then."""
    libraries: Callable[[], Mapping[str, str]] = dict
    """The versions of the libraries that an engine is bound to.

    Raises `MissingLibraryError` when one is absent; called once before any work of a run that needs it.
    """

    def graph_form(self, precision: str) -> str:
        """Which form of the ONNX graph it takes in a precision."""
        return self.int8_form if precision == "int8" else "fp16" if precision == "fp16" else "fp32"

    def usual_layout(self, precision: str) -> Layout:
        """The layout of activations that a mode has when its name says none: NHWC is what Tensor cores want in half
        precision, and PyTorch's own is NCHW."""
        return "nhwc" if self.source == "module" and precision in HALF else "nchw"

    def layouts(self, precision: str) -> frozenset[Layout]:
        """The layouts that a mode can be asked for."""
        return frozenset(get_args(Layout)) if self.source == "module" else frozenset({self.usual_layout(precision)})

    def fill_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """All options with their defaults.

        Raises:
            ConfigError: an option is unknown, or its value is not allowed.
        """
        filled = self.check_options(options)
        return dict(filled) if isinstance(filled, Mapping) else dict(options)


@cache
def runtime_names() -> tuple[str, ...]:
    """The names of all runtimes: the files of this folder, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load_runtimes() -> dict[str, Runtime]:
    """All runtimes by name."""
    return {name: load_runtime(name) for name in runtime_names()}


def load_runtime(name: str) -> Runtime:
    """The runtime of this name; the name must be one of `runtime_names()`."""
    runtime = importlib.import_module(f"{__name__}.{name}").RUNTIME
    assert isinstance(runtime, Runtime), f"runtimes/{name}.py does not define RUNTIME"
    return runtime
