"""The study: from config to cells, in the order in which they are measured."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

from deepgap.study.cell import ALL_THREADS, Cell, Mode, Protocol, Stop
from deepgap.study.gpus import Gpu
from deepgap.study.models import ModelSpec
from deepgap.study.modes import RuntimeFacts, parse_mode
from deepgap.study.platforms import Platforms


@dataclass(frozen=True)
class Grid:
    """All combinations of some models, modes and batch sizes."""

    models: tuple[ModelSpec, ...]
    modes: tuple[Mode, ...]
    batch_sizes: tuple[int, ...]

    @property
    def points(self) -> Iterator[tuple[ModelSpec, Mode, int]]:
        return product(self.models, self.modes, self.batch_sizes)


@dataclass(frozen=True)
class Study(Platforms):
    """A checked configuration; `study.checks.load_study` makes one.

    gpus: all that are known, sites included.
    models: all that any GPU of the study has, by the names that the config gives them.
    found: the GPUs that have results.
    describe_calibration, describe_accuracy: the config's `calibration` and `accuracy` as recipes, images told by
        their content.
    """

    AXES: ClassVar = ("models", "modes", "batch_sizes", "grids", "protocol", "thread_counts")
    config: Mapping[str, Any]
    gpus: Mapping[str, Gpu]
    runtimes: Mapping[str, RuntimeFacts]
    models: Mapping[str, ModelSpec]
    describe_calibration: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    describe_accuracy: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    found: Sequence[str] = ()
    _cells: dict[str, Sequence[Cell]] = field(default_factory=dict, repr=False, compare=False)
    """Those asked for so far: naming a cell takes a digest, and there can be many."""

    def grids(self, gpu: str) -> list[Grid]:
        """The products of models, modes and batch sizes whose union a GPU measures, in the order of the config."""
        axes = self.axes(gpu)
        asked = axes["grids"] or [axes]
        return [
            Grid(
                tuple(self.models[entry_name(entry)] for entry in grid["models"]),
                tuple(parse_mode(text, self.runtimes) for text in grid["modes"]),
                tuple(grid["batch_sizes"]),
            )
            for grid in asked
        ]

    def models_of(self, gpu: str) -> list[ModelSpec]:
        """The models of one GPU, in the order of the config."""
        return list(dict.fromkeys(model for grid in self.grids(gpu) for model in grid.models))

    def modes_of(self, gpu: str) -> list[Mode]:
        """The modes of one GPU, in the order of the config."""
        return list(dict.fromkeys(mode for grid in self.grids(gpu) for mode in grid.modes))

    def batch_sizes_of(self, gpu: str) -> list[int]:
        """The batch sizes of one GPU, ascending."""
        return sorted({size for grid in self.grids(gpu) for size in grid.batch_sizes})

    def model(self, key: str) -> ModelSpec:
        """The model of this key."""
        return self._by_key[key]

    @cached_property
    def _by_key(self) -> dict[str, ModelSpec]:
        return {model.key: model for model in self.models.values()}

    @cached_property
    def model_keys(self) -> list[str]:
        """The keys of all models of the study, in the order of the config."""
        return list(dict.fromkeys(model.key for model in self.models.values()))

    def protocol(self, gpu: str) -> Protocol:
        name = self.axes(gpu)["protocol"]
        counts = dict(self.config["protocols"][name])
        stop = counts.pop("stop", None)
        arms = tuple(counts.pop("arms", ()))
        return Protocol(name=name, arms=arms, stop=Stop(**stop) if stop else None, **counts)

    @cached_property
    def calibration(self) -> dict[str, Any]:
        """The recipe of INT8 calibration.

        Raises:
            ImageError: the folder of images is missing, empty or unreadable.
        """
        return self.describe_calibration(self.config["calibration"])

    @cached_property
    def accuracy(self) -> dict[str, Any] | None:
        """The user's labelled images as a recipe; null where the config names none.

        Raises:
            ImageError: the folder is missing, empty or unreadable.
        """
        asked = self.config["accuracy"]
        return None if asked is None else self.describe_accuracy(asked)

    def mode_settings(self, mode: Mode) -> dict[str, Any]:
        """What defines how any model runs in a mode: the runtime's version and options, and the calibration."""
        facts = self.runtimes[mode.runtime]
        options = facts.fill_options(self.config["runtime_options"].get(mode.runtime, {}))
        settings = {"runtime_version": facts.version, "options": options}
        return settings | ({"calibration": self.calibration} if facts.is_calibrated(mode.precision) else {})

    def cells(self, gpu: str) -> Sequence[Cell]:
        """All cells of one GPU, sweep by sweep, in the order of the config."""
        if gpu not in self._cells:
            self._cells[gpu] = tuple(self._make_cells(gpu))
        return self._cells[gpu]

    def _make_cells(self, gpu: str) -> Iterator[Cell]:
        axes, protocol = self.axes(gpu), self.protocol(gpu)
        points = dict.fromkeys(point for grid in self.grids(gpu) for point in grid.points)
        pairs = dict.fromkeys((model, mode) for model, mode, _ in points)
        settings = {
            (model, mode): json.dumps(
                {**model.recipe, **self.mode_settings(mode), "protocol": protocol.recipe}, sort_keys=True
            )
            for model, mode in pairs
        }
        for sweep in range(1, protocol.sweeps + 1):
            for model, mode, batch_size in points:
                for threads in thread_counts(axes, mode):
                    yield Cell(gpu, model.key, mode, batch_size, threads, sweep, settings[model, mode])

    def is_asked_for(self, cell: Cell) -> bool:
        """Whether the run measures this cell: `only` of the config admits it."""
        only = self.config["only"] or {}
        of_cell = {
            "models": cell.model,
            "modes": cell.mode.name,
            "batch_sizes": cell.batch_size,
            "sweeps": cell.sweep,
        }
        return all(of_cell[name] in allowed for name, allowed in only.items())

    def run_order(self, gpu: str) -> list[Cell]:
        """The cells of one GPU in the order in which they are measured.

        Sweeps are outermost. Within a sweep blocks come in a random order, so that time and temperature are not
        aliased with model or batch size; the modes of a block are neighbours in time, in a random order, so that
        their ratios are paired. All orders are seeded.
        """
        blocks: dict[tuple[int, str, int], list[Cell]] = {}
        for cell in self.cells(gpu):
            blocks.setdefault(cell.block, []).append(cell)
        keys, shuffled = list(blocks), random.Random(0)
        shuffled.shuffle(keys)
        for block in blocks.values():
            shuffled.shuffle(block)
        return [cell for key in sorted(keys, key=lambda block: block[0]) for cell in blocks[key]]

    def expected_counts(self) -> list[dict[str, Any]]:
        """How many cells the study asks for, a row for each gpu, model and mode."""
        rows: dict[tuple[str, str, Mode], int] = {}
        for gpu in self.platforms:
            for cell in self.cells(gpu):
                place = (gpu, cell.model, cell.mode)
                rows[place] = rows.get(place, 0) + 1
        return [
            {
                "gpu": gpu,
                "model": model,
                "mode": mode.name,
                "runtime": mode.runtime,
                "precision": mode.precision,
                "layout": mode.layout,
                "expected": count,
            }
            for (gpu, model, mode), count in rows.items()
        ]

    def unlisted_counts(self, results: Path) -> dict[str, int]:
        """How many cell files below `results` the study does not name, by gpu."""
        listed = {Path(cell.path).name for gpu in self.platforms for cell in self.cells(gpu)}
        counts = {
            gpu: sum(file.name not in listed for file in (results / gpu / "cells").glob("*.parquet"))
            for gpu in self.platforms
        }
        return {gpu: count for gpu, count in counts.items() if count}


def entry_name(entry: str | Mapping[str, Any]) -> str:
    """What identifies an entry of `models`: its text, or the JSON of a mapping."""
    return entry if isinstance(entry, str) else json.dumps(entry, sort_keys=True)


def thread_counts(axes: Mapping[str, Any], mode: Mode) -> list[int]:
    """The numbers of threads of a mode; `ALL_THREADS` alone where the config names none."""
    counts = axes["thread_counts"].get(mode.name, ["all"])
    return [ALL_THREADS if count == "all" else count for count in counts]


def present_and_missing(cells: Sequence[Cell], root: Path) -> tuple[list[Cell], list[Cell]]:
    """Split cells by whether their file exists below `root`."""
    # Strings and one listing a folder: there can be many cells.
    folders = {cell.path.rpartition("/")[0] for cell in cells}
    names = {
        f"{folder}/{name}" for folder in folders if (root / folder).is_dir() for name in os.listdir(root / folder)
    }
    present = [cell for cell in cells if cell.path in names]
    missing = [cell for cell in cells if cell.path not in names]
    return present, missing
