"""What one cell is: its mode, its protocol, and the recipe that names its file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

from deepgap.study.gpus import split_site
from deepgap.study.method import METHOD_VERSION

ALL_THREADS = 0
"""The number of threads that stands for all cores of the process; `all` in the config."""

Layout: TypeAlias = Literal["nchw", "nhwc"]


@dataclass(frozen=True)
class Mode:
    """A runtime, a precision and the layout of activations in memory.

    name: `runtime-precision`, with the layout behind it where it is not the runtime's usual one: `eager-fp16`,
        `eager-fp16-nchw`. Nothing else is ever read out of it; `study.modes.parse_mode` makes modes.
    """

    name: str
    runtime: str
    precision: str
    layout: Layout

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Stop:
    """When a run's latency calls may end before the protocol's `timed_iterations`.

    half_width: half of the 95 % interval of the run's median, as a part of the median, that is enough.
    minimum_iterations, minimum_ms: what a run has in any case. maximum_s: a run ends after it, converged or not.
    """

    half_width: float
    minimum_iterations: int
    minimum_ms: float
    maximum_s: float


@dataclass(frozen=True)
class Protocol:
    """How a cell is measured.

    timed_iterations: latency calls of a run, at most. runs: warm-ups with timed calls behind them inside a cell.
    fidelity_images: held-out images on which answers are checked. throughput_s: how long calls are queued at least.
    arms: the optional arms, in the order in which they are measured. stop: null where a run has all its calls.
    """

    name: str
    warmup_iterations: int
    timed_iterations: int
    runs: int
    sweeps: int
    fidelity_images: int
    throughput_s: float
    arms: tuple[str, ...] = ()
    stop: Stop | None = None

    @property
    def recipe(self) -> dict[str, Any]:
        """What of it defines a cell: all but its name and the number of sweeps."""
        counts = asdict(self)
        return {name: value for name, value in counts.items() if name not in ("name", "sweeps")}


@dataclass(frozen=True)
class Cell:
    """One process, one file: a model in a mode at a batch size on a GPU, in one sweep.

    The site of a GPU is in the folder of its results and not in the recipe: the same cell of two sites has one name.
    """

    gpu: str
    model: str
    mode: Mode
    batch_size: int
    threads: int
    sweep: int
    settings: str
    """JSON of all else that gives the cell its meaning: weights, image size, options, protocol, calibration."""

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """Everything that defines what the cell means, and nothing about where or when it was measured."""
        return {
            "method_version": METHOD_VERSION,
            "gpu": split_site(self.gpu)[0],
            "model": self.model,
            "mode": self.mode.name,
            "runtime": self.mode.runtime,
            "precision": self.mode.precision,
            "layout": self.mode.layout,
            "batch_size": self.batch_size,
            "threads": self.threads,
            "sweep": self.sweep,
            **json.loads(self.settings),
        }

    @property
    def block(self) -> tuple[int, str, int]:
        """What is measured one after another on one card: all modes of a model and batch size in a sweep."""
        return self.sweep, self.model, self.batch_size

    @cached_property
    def stem(self) -> str:
        """The file name without its ending: `<cell-id>.<recipe>`."""
        return f"{cell_id(self.recipe)}.{recipe_digest(self.recipe)}"

    @cached_property
    def path(self) -> str:
        """The cell's file below the project's root."""
        return f"results/{self.gpu}/cells/{self.stem}.parquet"


def cell_id(recipe: Mapping[str, Any]) -> str:
    """What a cell is called: `resnet18_eager-fp16_b8_s1`, with `_t4` before the sweep where it has four threads."""
    threads = f"_t{recipe['threads']}" if recipe["threads"] != ALL_THREADS else ""
    return f"{recipe['model']}_{recipe['mode']}_b{recipe['batch_size']}{threads}_s{recipe['sweep']}"


def recipe_digest(recipe: Mapping[str, Any]) -> str:
    """First 12 hex digits of the SHA-256 of the sorted, compact JSON of `recipe`."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
