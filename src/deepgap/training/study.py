"""The second study: from its config to its cells, in the order in which they are measured."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, ClassVar

from deepgap.cells.cell_file import PARTS
from deepgap.study.cell import Mode
from deepgap.study.gpus import Gpu
from deepgap.study.modes import parse_mode
from deepgap.study.platforms import Platforms
from deepgap.study.study import thread_counts
from deepgap.training.cell import Phase, TrainingCell
from deepgap.training.frameworks import Framework
from deepgap.training.workloads import Workload


@dataclass(frozen=True)
class Grid:
    """All combinations of some workloads, image sizes, modes, phases and batch sizes."""

    models: tuple[str, ...]
    image_sizes: tuple[int, ...]
    modes: tuple[Mode, ...]
    phases: tuple[Phase, ...]
    batch_sizes: tuple[int, ...]

    @property
    def points(self) -> Iterator[tuple[str, int, Mode, Phase, int]]:
        return product(self.models, self.image_sizes, self.modes, self.phases, self.batch_sizes)


@dataclass(frozen=True)
class TrainingStudy(Platforms):
    """A checked configuration; `training.checks.load_training_study` makes one.

    gpus: all that are known, sites included. found: the GPUs that have results.
    """

    AXES: ClassVar = ("models", "image_sizes", "modes", "phases", "batch_sizes", "grids", "protocol", "thread_counts")
    config: Mapping[str, Any]
    gpus: Mapping[str, Gpu]
    frameworks: Mapping[str, Framework]
    workloads: Mapping[str, Workload]
    found: Sequence[str] = ()
    _cells: dict[str, Sequence[TrainingCell]] = field(default_factory=dict, repr=False, compare=False)

    def grids(self, gpu: str) -> list[Grid]:
        """The products whose union a GPU measures, in the order of the config."""
        axes = self.axes(gpu)
        return [
            Grid(
                tuple(grid["models"]),
                tuple(grid["image_sizes"]),
                tuple(parse_mode(text, self.frameworks) for text in grid["modes"]),
                tuple(grid["phases"]),
                tuple(grid["batch_sizes"]),
            )
            for grid in axes["grids"] or [axes]
        ]

    def protocol(self, gpu: str) -> dict[str, Any]:
        """The protocol of one GPU: its counts with their defaults."""
        counts = {"throughput_s": 2, "arms": [], "stop": None} | self.config["protocols"][self.axes(gpu)["protocol"]]
        return {**counts, "arms": list(counts["arms"])}

    def cells(self, gpu: str) -> Sequence[TrainingCell]:
        """All cells of one GPU, sweep by sweep, in the order of the config."""
        if gpu not in self._cells:
            self._cells[gpu] = tuple(self._make_cells(gpu))
        return self._cells[gpu]

    def _make_cells(self, gpu: str) -> Iterator[TrainingCell]:
        axes, points = self.axes(gpu), dict.fromkeys(point for grid in self.grids(gpu) for point in grid.points)
        for sweep in range(1, self.protocol(gpu)["sweeps"] + 1):
            for model, image_size, mode, phase, batch_size in points:
                framework = self.frameworks[mode.runtime].framework
                settings = self._settings(gpu, model, mode, phase)
                for threads in thread_counts(axes, mode):
                    yield TrainingCell(
                        gpu, model, image_size, mode, framework, phase, batch_size, threads, sweep, settings
                    )

    def _settings(self, gpu: str, model: str, mode: Mode, phase: Phase) -> str:
        """JSON of what gives a cell its meaning beside its place in the grid."""
        workload, framework, protocol = self.workloads[model], self.frameworks[mode.runtime], self.protocol(gpu)
        protocol.pop("sweeps")
        if phase == "inference":
            protocol["arms"] = [arm for arm in protocol["arms"] if arm not in PARTS]
        settings = {
            "workload_version": workload.version,
            "runtime_version": framework.version,
            "options": framework.fill_options(self.config["runtime_options"].get(mode.runtime, {})),
            "weights": {"source": "seeded", "seed": self.config["seed"]},
            "protocol": protocol,
        }
        if phase == "train":
            settings["optimizer"] = workload.optimizer.recipe
        return json.dumps(settings, sort_keys=True)

    def is_asked_for(self, cell: TrainingCell) -> bool:
        """Whether the run measures this cell: `only` of the config admits it."""
        of_cell = {
            "models": cell.model,
            "image_sizes": cell.image_size,
            "modes": cell.mode.name,
            "phases": cell.phase,
            "batch_sizes": cell.batch_size,
            "sweeps": cell.sweep,
        }
        return all(of_cell[name] in allowed for name, allowed in (self.config["only"] or {}).items())

    def run_order(self, gpu: str) -> list[TrainingCell]:
        """The cells of one GPU in the order in which they are measured: sweeps outermost, then blocks, then the modes
        of a block, in seeded random orders, as in the first study."""
        blocks: dict[tuple[Any, ...], list[TrainingCell]] = {}
        for cell in self.cells(gpu):
            blocks.setdefault(cell.block, []).append(cell)
        keys, shuffled = list(blocks), random.Random(0)
        shuffled.shuffle(keys)
        for block in blocks.values():
            shuffled.shuffle(block)
        return [cell for key in sorted(keys, key=lambda block: block[0]) for cell in blocks[key]]

    def left_out(self, gpu: str) -> list[str]:
        """What of the published set-up a GPU's grid does not have, in sentences."""
        points = {(m, size, batch) for grid in self.grids(gpu) for m, size, _, _, batch in grid.points}
        sentences = []
        for name, workload in self.workloads.items():
            size, batch = workload.published.image_size, workload.published.batch_size
            here = sorted((s, b) for m, s, b in points if m == name)
            if (size, batch) not in here:
                said = ", ".join(f"{b} of {s} px" for s, b in here) or "nothing"
                sentences.append(f"{workload.label}: batch {batch} of {size} px is left out; measured: {said}.")
        return sentences
