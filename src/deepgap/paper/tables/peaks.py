"""Peak throughput, and throughput at matched operating points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from deepgap.analyse.peaks import Peak, best_within_latency, family_points, find_peaks, saturation
from deepgap.analyse.summary import Summary
from deepgap.paper.wording import failures_in_words, gpu_label
from deepgap.published.values import CPU, sweep_batch_sizes, table1_peaks
from deepgap.study.words import by_mode, model_label


def context(summary: Summary) -> dict[str, Any]:
    """The rows of the table, measured and published apart.

    Returns:
        measured: rows with platform, mode and model; batch, tied and at_edge of the peak; its throughput,
            low and high in images a second, latency_ms and clock (the mean over its maximum, in percent); saturated,
            the smallest batch size within 5 % of the best;
            matched, the throughput at `matched_batch_size`; bounded and bounded_batch, the highest
            throughput whose median latency is at most `matched_latency_ms`. What there is not is None.
        models: labels of those with published peaks. published: rows with platform, mode and cells, for each
            of models batch, at_edge and throughput, or None.
        failures: sentences on what was tried and has no numbers.
        matched_batch_size, matched_latency_ms: the operating points.
    """
    peaks = find_peaks(summary.measured)
    models, published = _published_rows(summary)
    return {
        "measured": _first_only([_measured_row(summary, key, peak) for key, peak in _ordered(summary, peaks)]),
        "models": models,
        "published": published,
        "failures": _failures(summary),
        "matched_batch_size": summary.reporting["matched_batch_size"],
        "matched_latency_ms": summary.reporting["matched_latency_ms"],
    }


Key = tuple[str, str, str]


def _ordered(summary: Summary, peaks: Mapping[Key, Peak]) -> list[tuple[Key, Peak]]:
    """Modes of a GPU together, in each its models."""
    gpus = summary.order_gpus({gpu for gpu, _, _ in peaks})
    return sorted(
        peaks.items(),
        key=lambda item: (gpus.index(item[0][0]), by_mode(item[0][2]), summary.place_model(item[0][1])),
    )


def _measured_row(summary: Summary, key: Key, peak: Peak) -> dict[str, Any]:
    gpu, model, mode = key
    curve = summary.measured.filter(pl.col("throughput_img_s").is_not_null(), gpu=gpu, model=model, mode=mode)
    points = family_points(curve)
    matched = {point.batch_size: point.throughput for point in points}.get(summary.reporting["matched_batch_size"])
    bounded = best_within_latency(points, summary.reporting["matched_latency_ms"])
    clock = dict(curve.select("batch_size", "sm_clock_share").iter_rows())[peak.point.batch_size]
    return {
        "platform": gpu_label(gpu),
        "mode": mode,
        "model": model_label(model),
        "batch": peak.point.batch_size,
        "tied": ", ".join(map(str, peak.tied)),
        "at_edge": peak.at_edge,
        "throughput": peak.point.throughput,
        "low": peak.point.low,
        "high": peak.point.high,
        "latency_ms": peak.point.latency_ms,
        "clock": None if clock is None else 100 * clock,
        "saturated": saturation(points).batch_size,
        "matched": matched,
        "bounded": None if bounded is None else bounded.throughput,
        "bounded_batch": None if bounded is None else bounded.batch_size,
    }


def _published_rows(summary: Summary) -> tuple[list[str], list[dict[str, Any]]]:
    """The models with published peaks, and a row a platform and mode."""
    largest = max(sweep_batch_sizes(summary.published), default=None)
    peaks = table1_peaks(summary.published)
    models = summary.order_models(peaks["model"])
    rows = []
    for (gpu, runtime, precision), here in peaks.group_by("gpu", "runtime", "precision", maintain_order=True):
        of_model = {row["model"]: row for row in here.iter_rows(named=True)}
        cells = [
            {
                "batch": row["batch_size"],
                # The processor was swept over other batch sizes, which are not printed.
                "at_edge": gpu != CPU and row["batch_size"] == largest,
                "throughput": row["throughput_img_s"],
            }
            if (row := of_model.get(model)) is not None
            else None
            for model in models
        ]
        rows.append({"platform": gpu_label(str(gpu)), "mode": f"{runtime}-{precision}", "cells": cells})
    return [model_label(model) for model in models], rows


def _first_only(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, with `show_platform` and `show_mode` where they differ from the row before."""
    before: dict[str, Any] = {"platform": None, "mode": None}
    marked = []
    for row in rows:
        new_platform = row["platform"] != before["platform"]
        marked.append(
            row | {"show_platform": new_platform, "show_mode": new_platform or row["mode"] != before["mode"]}
        )
        before = row
    return marked


def _failures(summary: Summary) -> list[str]:
    lost = summary.failed
    return [
        f"{gpu}, {model_label(str(model))}: {failures_in_words(rows.iter_rows(named=True))}."
        for (gpu, model), rows in lost.group_by("gpu", "model", maintain_order=True)
    ]
