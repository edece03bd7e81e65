"""How a workload is run, one file a runtime of the second study; other modules help those.

A module of this package is a runtime when it defines `FRAMEWORK`. All import torch, Keras and what is below it inside
their functions only, because the Snakefile reads what each can do, and because a cell runs in the interpreter that
has its framework and need not have the others.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal, TypeAlias

from deepgap.measure.arms.timer import TimedCall, Timer
from deepgap.runtimes.options import NoOptions, fill_options
from deepgap.study.cell import Layout
from deepgap.training.workloads import Workload

Name: TypeAlias = Literal["pytorch", "keras-tensorflow", "keras-jax"]


@dataclass(frozen=True)
class Job:
    """What a cell runs: a workload by a recipe, on a device of this kind."""

    workload: Workload
    recipe: Mapping[str, Any]
    on_gpu: bool
    threads: int

    @property
    def trains(self) -> bool:
        return bool(self.recipe["phase"] == "train")


@dataclass(frozen=True)
class Prepared:
    """A workload that is ready to be timed.

    call: enqueue a call of the cell's phase, on the input buffer of this index.
    parts: makes the call of an arm of parts, by the arm's name, when it comes.
    loss: of the last call, waiting for it; null in the phase inference. finite: whether all of it is finite.
    wait: until the device has done all its work.
    memory: the framework's own peaks on the device, as keys of `observed.memory`; empty on a processor.
    """

    timer: Timer
    call: TimedCall
    loss: Callable[[], float | None]
    finite: Callable[[], bool]
    wait: Callable[[], None]
    weights_sha256: str
    parts: Mapping[str, Callable[[], TimedCall]] = field(default_factory=dict)
    memory: Callable[[], dict[str, int | None]] = dict


@dataclass(frozen=True)
class Framework:
    """What a runtime of the second study can do.

    preload: imports, before a cell's memory counts; its argument says whether a GPU is measured. It touches none.
    start: settings of the process, such as its number of threads, and the device's context.
    around: in what a cell is prepared and timed, such as a stream.
    prepare: networks with seeded weights and inputs on the device; it may raise `UnsupportedError`.
    libraries: the versions of what computes; raises `MissingLibraryError` when one is absent.
    environment: of the file in envs/ that has its packages, and of the folder `.venv-<environment>`; null where the
    workflow's own interpreter has them.
    """

    framework: Name
    label: str
    precisions: frozenset[str]
    devices: frozenset[str]
    prepare: Callable[[Job], Prepared]
    libraries: Callable[[], Mapping[str, str]]
    preload: Callable[[bool], None] = lambda on_gpu: None
    start: Callable[[Job], None] = lambda job: None
    around: Callable[[Job], AbstractContextManager[Any]] = lambda job: nullcontext()
    environment: str | None = None
    version: int = 1
    """Raised when an edit of the runtime can change a number; its cells are then measured anew."""
    options: type = NoOptions
    channels_last: frozenset[str] = frozenset()
    """The precisions whose usual layout is NHWC."""
    both_layouts: bool = False
    name: str = ""
    """Set by `load_frameworks`."""

    def usual_layout(self, precision: str) -> Layout:
        """The layout of a mode whose name says none."""
        return "nhwc" if precision in self.channels_last else "nchw"

    def layouts(self, precision: str) -> frozenset[Layout]:
        """The layouts in which a mode can be asked for."""
        return frozenset({"nchw", "nhwc"}) if self.both_layouts else frozenset({self.usual_layout(precision)})

    def fill_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """All options with their defaults, as JSON values.

        Raises:
            ConfigError: an option is unknown or its value is not allowed.
        """
        return fill_options(self.options, self.name, options)


@cache
def load_frameworks() -> Mapping[str, Framework]:
    """All runtimes of the second study by their names, which are those of their files, sorted."""
    found = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        framework = getattr(importlib.import_module(f"{__name__}.{module.name}"), "FRAMEWORK", None)
        if isinstance(framework, Framework):
            found[module.name] = replace(framework, name=module.name)
    return found
