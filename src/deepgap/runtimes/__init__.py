"""Ways to run a model, one file or folder each.

A module of this package is a runtime when it defines `RUNTIME`; other modules help those. All import torch and other
libraries inside their functions only, because the Snakefile reads what every runtime can do and must start fast.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from deepgap.build.engine_file import Engine, engine_identity
from deepgap.runtimes.options import NoOptions, fill_options
from deepgap.study.cell import Layout

if TYPE_CHECKING:
    import torch

    from deepgap.study.gpus import Device, Gpu

Inputs: TypeAlias = "Sequence[torch.Tensor]"
Call: TypeAlias = "Callable[[int], torch.Tensor]"
"""Enqueue one inference on the input buffer of this index and return its logits, shape (batch, classes)."""

Source: TypeAlias = Literal["module", "graph", "engine"]

Type: TypeAlias = Literal["float32", "float16", "bfloat16"]

ANY_OF_ITS_CAPABILITY = "any of its compute capability"
"""The name of the device of an engine that is built ahead of time."""

TYPES: Mapping[str, Type] = {"fp16": "float16", "bf16": "bfloat16"}
"""The type of a model's images and weights by the precision, where it is not float32."""


@dataclass(frozen=True)
class BuildRequest:
    """What an engine is built from."""

    graph: Path
    """The ONNX graph in the engine's precision; for int8 the calibrated Q/DQ graph."""
    precision: str
    image_size: int
    batch_size: int
    """The one batch size that the engine serves."""
    options: Mapping[str, Any]
    timing_cache: Path
    """A file of the runtime's own that makes the next build of a similar engine faster. May be missing."""
    say: Callable[[str], None]
    """Shows progress."""
    identity: Mapping[str, Any] = field(default_factory=dict)
    """The device and the libraries; what was timed for another identity is not reused."""


def never(model: str, precision: str, batch_size: int, gpu: Gpu) -> str | None:
    """The `skip` of a runtime that runs wherever its precisions and devices are."""
    return None


@dataclass(frozen=True)
class Runtime:
    """What a runtime can do, and how it prepares a model for one batch size.

    `prepare(source, inputs, options)` takes input buffers of shape (batch, 3, height, width) on the device, in the
    type and layout of the cell, and one of these sources:

    - `module`: the PyTorch model in eval mode, on the device, in the type and layout of the cell;
    - `graph`: the path of the ONNX graph in the precision of the cell;
    - `engine`: what `build` returned for this device and these libraries, read back from its file.

    It returns a `Call`. It may raise `UnsupportedError`. `options` are those of `fill_options`.
    """

    precisions: frozenset[str]
    devices: frozenset[str]
    prepare: Callable[[Any, Inputs, Mapping[str, Any]], Call]
    libraries: Callable[[], Mapping[str, str]]
    """The versions of the libraries that run its models, and that an engine is bound to; cheap, without a GPU.

    Raises `MissingLibraryError` when one is absent.
    """
    version: int = 1
    """Raised when an edit of the runtime can change a number; its cells are then measured anew."""
    source: Source = "module"
    options: type = NoOptions
    """A frozen dataclass, see `runtimes.options`."""
    channels_last: frozenset[str] = frozenset()
    """The precisions whose usual layout is NHWC."""
    both_layouts: bool = False
    """Whether it takes models and images in either layout, not in the usual one alone."""
    types: Mapping[str, Type] = field(default_factory=dict)
    """The type of images by the precision, where it is not that of `TYPES`."""
    quantised_forms: Mapping[str, str] = field(default_factory=lambda: {"int8": "qdq"})
    """Which quantised graph it takes by the precision (`build.quantize.forms`); of no use to the source `module`."""
    convert: Callable[[Any, Inputs, str], None] = lambda model, inputs, precision: None
    """Brings a module into the precision of the cell where its type alone does not, in place; then `prepare` gets it.

    It may raise `UnsupportedError`.
    """
    build: Callable[[BuildRequest], Engine] | None = None
    """Builds an engine; for the source `engine` alone."""
    ahead_of_time: bool = False
    """Whether `build` needs no GPU: an engine is then of a compute capability, whatever the device's name."""
    skip: Callable[[str, str, int, Gpu], str | None] = never
    """Why a cell of this model, precision, batch size and GPU cannot be, if that is known before a process."""
    preload: Callable[[], None] = lambda: None
    """Imports that each cell's process would do; called in the process that they are forked from. It must not touch
    CUDA, which a fork could not use then."""
    name: str = ""
    """Set by `load_runtimes`."""

    def usual_layout(self, precision: str) -> Layout:
        """The layout of a mode whose name says none."""
        return "nhwc" if precision in self.channels_last else "nchw"

    def layouts(self, precision: str) -> frozenset[Layout]:
        """The layouts in which a mode can be asked for."""
        return frozenset({"nchw", "nhwc"}) if self.both_layouts else frozenset({self.usual_layout(precision)})

    def input_type(self, precision: str) -> Type:
        """The PyTorch type of the images, and of the weights of a module, by its name."""
        return self.types.get(precision) or TYPES.get(precision, "float32")

    def graph_form(self, precision: str) -> str:
        """Which form of the ONNX graph it takes: the export's type, or that of the quantised graph."""
        return self.quantised_forms.get(precision) or ("fp16" if precision == "fp16" else "fp32")

    def is_calibrated(self, precision: str) -> bool:
        """Whether it runs a quantised graph, whose scales come from a calibration."""
        return self.source != "module" and precision in self.quantised_forms

    def fill_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """All options with their defaults, as JSON values.

        Raises:
            ConfigError: an option is unknown or its value is not allowed.
        """
        return fill_options(self.options, self.name, options)

    def engine_identity(self, device: Device, engine_recipe: Mapping[str, Any]) -> dict[str, Any]:
        """What must be equal where an engine is built and where it is loaded.

        Raises:
            MissingLibraryError: the runtime's library is not installed.
        """
        bound = replace(device, name=ANY_OF_ITS_CAPABILITY) if self.ahead_of_time else device
        return engine_identity(bound, self.libraries(), engine_recipe)


@cache
def load_runtimes() -> Mapping[str, Runtime]:
    """All runtimes by their names, which are those of their files and folders, sorted. Imports no torch."""
    found = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        runtime = getattr(importlib.import_module(f"{__name__}.{module.name}"), "RUNTIME", None)
        if isinstance(runtime, Runtime):
            found[module.name] = replace(runtime, name=module.name)
    return found
