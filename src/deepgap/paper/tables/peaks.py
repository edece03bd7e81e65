"""Peak throughput, and throughput at matched operating points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from deepgap.analyse.peaks import Peak, best_within_latency, family_points, find_peaks
from deepgap.analyse.summary import Summary
from deepgap.paper.wording import failures_in_words, gpu_label
from deepgap.published.values import CPU, sweep_batch_sizes, table1_peaks
from deepgap.study.words import by_mode, model_label


def context(summary: Summary) -> dict[str, Any]:
    """The rows of the table, measured and published apart.

    Returns:
        measured: rows with platform, mode and model; batch, tied and at_edge of the peak; its throughput,
            low and high in images a second; speedup over the measured processor's peak in the same
            mode, None where it does not have one;
            matched, the throughput at `matched_batch_size`; bounded and bounded_batch, the highest
            throughput whose median latency is at most `matched_latency_ms`. What there is not is None.
        published: the printed rows with platform, mode, model, batch, at_edge, throughput and printed speedup.
        processor_cores: logical cores of the measured CPU in words; None where it is not known.
        failures: sentences on what was tried and has no numbers.
        matched_batch_size, matched_latency_ms: the operating points.
    """
    peaks = find_peaks(summary.measured)
    return {
        "measured": _first_only([_measured_row(summary, key, peak, peaks) for key, peak in _ordered(summary, peaks)]),
        "published": _first_only(_published_rows(summary)),
        "failures": _failures(summary),
        "processor_cores": summary.cores(summary.processor),
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


def _measured_row(summary: Summary, key: Key, peak: Peak, peaks: Mapping[Key, Peak]) -> dict[str, Any]:
    gpu, model, mode = key
    here = (pl.col("gpu") == gpu) & (pl.col("model") == model) & (pl.col("mode") == mode)
    points = family_points(summary.measured.filter(here, pl.col("throughput_img_s").is_not_null()))
    matched = {point.batch_size: point.throughput for point in points}.get(summary.reporting["matched_batch_size"])
    bounded = best_within_latency(points, summary.reporting["matched_latency_ms"])
    cpu = peaks.get((summary.processor, model, mode)) if gpu != summary.processor else None
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
        "speedup": None if cpu is None else peak.point.throughput / cpu.point.throughput,
        "matched": matched,
        "bounded": None if bounded is None else bounded.throughput,
        "bounded_batch": None if bounded is None else bounded.batch_size,
    }


def _published_rows(summary: Summary) -> list[dict[str, Any]]:
    largest = max(sweep_batch_sizes(summary.published), default=None)
    return [
        {
            "platform": gpu_label(row["gpu"]),
            "mode": f"{row['runtime']}-{row['precision']}",
            "model": model_label(row["model"]),
            "batch": row["batch_size"],
            # The processor was swept over other batch sizes, which are not printed.
            "at_edge": row["gpu"] != CPU and row["batch_size"] == largest,
            "throughput": row["throughput_img_s"],
            "speedup": row["speedup_vs_cpu"],
        }
        for row in table1_peaks(summary.published).iter_rows(named=True)
    ]


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
