"""What one cell of the second study is, and the recipe that names its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

from deepgap.study.cell import ALL_THREADS, Mode, recipe_digest
from deepgap.study.gpus import split_site
from deepgap.study.method import METHOD_VERSION

TRAINING = "training"
TRAINING_VERSION = 1
"""Raised when what measuring a cell of the second study means changes beside `METHOD_VERSION`, which both share."""
RESULTS = "results/training"
"""The folder of the folders of all GPUs."""

Phase: TypeAlias = Literal["train", "inference"]


@dataclass(frozen=True)
class TrainingCell:
    """One process, one file: a phase of a workload in a mode, at an image size and a batch size, in one sweep."""

    gpu: str
    model: str
    image_size: int
    mode: Mode
    framework: str
    phase: Phase
    batch_size: int
    threads: int
    sweep: int
    settings: str
    """JSON of all else that gives the cell its meaning: versions, options, weights, optimiser, protocol."""

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """Everything that defines what the cell means, and nothing about where or when it was measured."""
        return {
            "study": TRAINING,
            "method_version": METHOD_VERSION,
            "training_version": TRAINING_VERSION,
            "gpu": split_site(self.gpu)[0],
            "model": self.model,
            "image_size": self.image_size,
            "mode": self.mode.name,
            "runtime": self.mode.runtime,
            "framework": self.framework,
            "precision": self.mode.precision,
            "layout": self.mode.layout,
            "phase": self.phase,
            "batch_size": self.batch_size,
            "threads": self.threads,
            "sweep": self.sweep,
            **json.loads(self.settings),
        }

    @property
    def block(self) -> tuple[int, str, int, str, int]:
        """What is measured one after another on one card: all modes of a workload, set-up and phase in a sweep."""
        return self.sweep, self.model, self.image_size, self.phase, self.batch_size

    @cached_property
    def stem(self) -> str:
        """The file name without its ending: `<id>.<recipe>`."""
        return f"{training_cell_id(self.recipe)}.{recipe_digest(self.recipe)}"

    @cached_property
    def path(self) -> str:
        """The cell's file below the project's root."""
        return f"{RESULTS}/{self.gpu}/cells/{self.stem}.parquet"

    @cached_property
    def telemetry(self) -> str:
        """The file of the device's samples."""
        return f"{RESULTS}/{self.gpu}/telemetry/{self.stem}.parquet"


def training_cell_id(recipe: Mapping[str, Any]) -> str:
    """What a cell is called: `conv6_224px_eager-fp32_train_b64_s1`, with `_t1` before the sweep for one thread."""
    threads = f"_t{recipe['threads']}" if recipe["threads"] != ALL_THREADS else ""
    place = "{model}_{image_size}px_{mode}_{phase}_b{batch_size}".format(**recipe)
    return f"{place}{threads}_s{recipe['sweep']}"
