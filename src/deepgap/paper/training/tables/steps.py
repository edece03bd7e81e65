"""What a training step takes in each mode, what that is of the device's peak, and what is faster than what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from deepgap.analyse.training.ratios import BASE
from deepgap.analyse.training.summary import TrainingSummary
from deepgap.cells.cell_file import OK
from deepgap.paper.latex import ABSENT, Latex, interval, rounded
from deepgap.published.audit.training import LABELS
from deepgap.published.democratizing import MODELS
from deepgap.published.training_networks import BATCH, SIDE
from deepgap.study.words import by_mode

DIGITS = 3
FRAMEWORKS = {"pytorch": "PyTorch", "keras-tensorflow": "Keras, TensorFlow", "keras-jax": "Keras, JAX"}


def context(summary: TrainingSummary) -> dict[str, Any]:
    """A group of rows a device and model, in the published set-up or, where it was not measured, in the largest.

    Returns:
        base: the mode of the ratios. rows: with device, model, side, batch, framework, mode, sweeps, step (ms),
            samples (a second) and tflops, each with its interval, share (percent of the peak), over (its ratio to
            `base` on the same device) and processor (its ratio to a processor's in the same mode, and whose); or with
            device, model, side, batch, framework, mode and reason.
    """
    families = summary.families.filter(phase="train")
    rows = []
    for gpu in summary.devices:
        for model in MODELS:
            here = families.filter(gpu=gpu, model=model)
            if here.is_empty():
                continue
            side, batch = set_up(here, model)
            chosen = here.filter(image_size=side, batch_size=batch).to_dicts()
            rows += [_row(summary, row) for row in sorted(chosen, key=lambda row: by_mode(row["mode"]))]
    return {"rows": rows, "base": BASE}


def set_up(here: pl.DataFrame, model: str) -> tuple[int, int]:
    """The image and batch size of the published set-up where it has cells, else those of the most work."""
    published = SIDE[model], BATCH[model]
    found = set(here.select("image_size", "batch_size").iter_rows())
    return published if published in found else max(found, key=lambda pair: (pair[0] ** 2 * pair[1], pair))


def _row(summary: TrainingSummary, row: Mapping[str, Any]) -> dict[str, Any]:
    about = {
        "device": _device(summary, row),
        "model": LABELS.get(row["model"], row["model"]),
        "side": row["image_size"],
        "batch": row["batch_size"],
        "framework": FRAMEWORKS.get(row["framework"], row["framework"]),
        "mode": row["mode"],
        "reason": None if row["status"] == OK else str(row["status"]).replace("_", " "),
    }
    numbers = {
        name: _ranged(row[column], row[f"{column}_low"], row[f"{column}_high"])
        for name, column in (("step", "step_ms"), ("samples", "samples_s"), ("tflops", "tflops"))
    }
    share = ABSENT if row["share"] is None else rounded(100 * row["share"], DIGITS)
    key = {name: row[name] for name in ("gpu", "model", "image_size", "phase", "batch_size", "mode")}
    over = _ratio(summary.over_base_mode.filter(**key))
    return {**about, **numbers, "sweeps": row["sweeps"], "share": share, "over": over, **_processor(summary, key)}


def _device(summary: TrainingSummary, row: Mapping[str, Any]) -> str:
    """A device, and of a processor how many threads and cores were at work."""
    if not summary.is_processor(row["gpu"]):
        return str(row["gpu"])
    return f"{row['gpu']}, {row['intraop_threads'] or '?'} threads of {row['logical_cores'] or '?'} cores"


def _processor(summary: TrainingSummary, key: Mapping[str, Any]) -> dict[str, Any]:
    found = summary.over_processor.filter(**key).head(1)
    return {"processor": _ratio(found), "whose": None if found.is_empty() else found["base_gpu"][0]}


def _ratio(found: pl.DataFrame) -> Latex:
    if found.is_empty():
        return ABSENT
    row = found.row(0, named=True)
    return _ranged(row["ratio"], row["low"], row["high"])


def _ranged(value: float | None, low: float | None, high: float | None) -> Latex:
    if value is None:
        return ABSENT
    return Latex(f"{rounded(value, DIGITS)} {interval(low, high, DIGITS)}".strip())
