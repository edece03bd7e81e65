"""Where each mode saturates, and where it peaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from deepgap.analyse.peaks import SATURATED, family_points, find_peak, saturation
from deepgap.analyse.summary import Summary
from deepgap.paper.wording import gpu_label
from deepgap.published.values import sweep_batch_sizes, table1_peaks
from deepgap.study.words import by_mode, model_label


def context(summary: Summary) -> dict[str, Any]:
    """A row a gpu and mode, a group of columns a model.

    Returns:
        models: their labels. loss_percent: what a saturated sweep may lack of its peak.
        measured: rows with platform, mode and cells, one for each model or None where it was not measured: saturated
            (batch size), its latency_ms, peak (batch size), peak_latency_ms, tied (batch sizes), at_edge, and points,
            the number of batch sizes.
        published: the same rows with peak and at_edge alone.
    """
    swept = summary.measured.filter(pl.col("throughput_img_s").is_not_null())["model"]
    models = summary.order_models([*swept, *table1_peaks(summary.published)["model"]])
    return {
        "models": [model_label(model) for model in models],
        "loss_percent": round(100 * (1 - SATURATED)),
        "measured": _measured(summary, models),
        "published": _published(summary, models),
    }


def _measured(summary: Summary, models: Sequence[str]) -> list[dict[str, Any]]:
    timed = summary.measured.filter(pl.col("throughput_img_s").is_not_null())
    sweeps = {
        (str(gpu), str(mode), str(model)): _cell(sweep)
        for (gpu, mode, model), sweep in timed.group_by("gpu", "mode", "model", maintain_order=True)
    }
    rows = sorted({key[:2] for key in sweeps}, key=lambda key: by_mode(key[1]))
    return [
        {"platform": gpu_label(gpu), "mode": mode, "cells": [sweeps.get((gpu, mode, model)) for model in models]}
        for of_gpu in summary.order_gpus({gpu for gpu, _ in rows})
        for gpu, mode in rows
        if gpu == of_gpu
    ]


def _cell(sweep: pl.DataFrame) -> dict[str, Any]:
    points = family_points(sweep)
    peak, saturated = find_peak(points), saturation(points)
    return {
        "saturated": saturated.batch_size,
        "latency_ms": saturated.latency_ms,
        "peak": peak.point.batch_size,
        "peak_latency_ms": peak.point.latency_ms,
        "tied": _ranges(peak.tied, [point.batch_size for point in points]),
        "at_edge": peak.at_edge,
        "points": len(points),
    }


def _ranges(chosen: Sequence[int], swept: Sequence[int]) -> str:
    """`1, 8, 32--128`: three or more neighbours of the sweep joined."""
    runs: list[list[int]] = []
    for size in chosen:
        if runs and swept.index(size) == swept.index(runs[-1][-1]) + 1:
            runs[-1].append(size)
        else:
            runs.append([size])
    return ", ".join(f"{run[0]}--{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def _published(summary: Summary, models: Sequence[str]) -> list[dict[str, Any]]:
    sweep = sweep_batch_sizes(summary.published)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for row in table1_peaks(summary.published).iter_rows(named=True):
        # The processor was swept over other batch sizes, which are not printed.
        if row["gpu"] in summary.gpus:
            cell = {"peak": row["batch_size"], "at_edge": bool(sweep) and row["batch_size"] == max(sweep)}
            rows.setdefault((row["gpu"], f"{row['runtime']}-{row['precision']}"), {})[row["model"]] = cell
    return [
        {"platform": gpu_label(gpu), "mode": mode, "cells": [cells.get(model) for model in models]}
        for (gpu, mode), cells in rows.items()
    ]
