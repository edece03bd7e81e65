"""Synthetic cells of the second study: invented numbers with the shape of real ones. Nothing here was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from deepgap.cells.cell_file import FORWARD, GRADIENTS, SCHEMA, write_cell
from deepgap.study.cell import ALL_THREADS, Mode
from deepgap.training.cell import Phase, TrainingCell
from tests.unit.synthetic import synthetic_footer, synthetic_rows

PARAMETERS = {"conv6": 2_262_602, "vgg16": 134_301_514, "resnet18": 11_181_642, "cyclegan": 28_285_832}
FORWARD_MULTIPLY_ADDS = {"conv6": 7e9, "vgg16": 15e9, "resnet18": 1.8e9, "cyclegan": 4e11}
"""Of a sample at the published image size, roughly."""
FRAMEWORK = {"tensorflow": "keras-tensorflow", "tensorflow_xla": "keras-tensorflow", "jax": "keras-jax"}
PROTOCOL: dict[str, Any] = {
    "warmup_iterations": 2,
    "timed_iterations": 4,
    "runs": 1,
    "throughput_s": 1.0,
    "stop": None,
}


def synthetic_training_cell(
    model: str = "conv6",
    mode: str = "eager-fp32",
    batch_size: int = 8,
    sweep: int = 1,
    *,
    gpu: str = "H100",
    image_size: int = 224,
    phase: Phase = "train",
    arms: Sequence[str] = (),
    **settings: Any,
) -> TrainingCell:
    """A cell as a study asks for it."""
    runtime, precision = mode.split("-")
    settings = {
        "workload_version": 1,
        "runtime_version": 1,
        "options": {},
        "weights": {"source": "seeded", "seed": 0},
        **({"optimizer": {"name": "adam", "learning_rate": 1e-3}} if phase == "train" else {}),
        "protocol": {**PROTOCOL, "arms": list(arms)},
        **settings,
    }
    return TrainingCell(
        gpu,
        model,
        image_size,
        Mode(mode, runtime, precision, "nchw"),
        FRAMEWORK.get(runtime, "pytorch"),
        phase,
        batch_size,
        ALL_THREADS,
        sweep,
        json.dumps(settings, sort_keys=True),
    )


def write_training_cell(
    root: Path, cell: TrainingCell, call_ms: float = 20.0, rows: pl.DataFrame | None = None, **observed: Any
) -> Path:
    """Write a cell below a project's root; calls of `call_ms`, of which the arms of parts take 30 and 90 %."""
    recipe = cell.recipe
    forward = FORWARD_MULTIPLY_ADDS[cell.model]
    work = {"forward_multiply_adds": forward, "step_multiply_adds": forward * (3 if cell.phase == "train" else 1)}
    training = {"parameters": PARAMETERS[cell.model], **work, "steps": 80, "loss_first": 2.4, "loss_last": 1.9}
    if cell.phase == "inference":
        training |= {"steps": 0, "loss_first": None, "loss_last": None}
    facts = {"multiply_adds": work["step_multiply_adds"]}
    footer = synthetic_footer(recipe, **({"facts": facts, "training": training, "fidelity": None} | observed))
    if rows is None:
        rows = synthetic_rows([[call_ms] * 4], [call_ms], enqueue=None if recipe["gpu"] == "CPU" else 0.1)
        for arm, share in ((FORWARD, 0.3), (GRADIENTS, 0.9)):
            if arm in recipe["protocol"]["arms"]:
                part = rows.filter(pl.col("arm") == "latency").with_columns(
                    pl.col("device_ms", "host_ms", "enqueue_ms") * share, arm=pl.lit(arm)
                )
                rows = pl.concat([rows, part.cast(dict(SCHEMA))])
    path = root / cell.path
    path.parent.mkdir(parents=True, exist_ok=True)
    write_cell(path, rows, replace(footer, weights_sha256="1" * 64))
    return path
