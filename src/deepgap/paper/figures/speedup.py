"""Throughput over that of eager FP32 at the same batch size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt
import polars as pl

from deepgap.analyse.schemas import PUBLISHED
from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import Axis, batch_axis, log_axis
from deepgap.paper.charts.layout import Panel, Place, Row, inline
from deepgap.paper.charts.legend import Entry, common_entries, mode_entries
from deepgap.paper.charts.marks import failed_points, level_lines, measured_points
from deepgap.paper.charts.panels import draw_grid, draw_series
from deepgap.paper.charts.theme import QUIET, precision_colour, tint
from deepgap.published.values import speedup_ranges
from deepgap.study.gpus import Gpu

CAPTION = (
    "Speedup over batch size: throughput over that of eager-fp32 (TF32 off) on the same GPU, at the same model and "
    "batch size: the median of the ratios of the two modes' cells of one sweep, session and card, with its exact "
    "order-statistic interval, at least 95 %; logarithmic. A hollow mark has an operand that launching bounds: "
    "there the ratio is one of hosts and not of devices. The grey line is the baseline; a dotted line is the ratio "
    "of the data sheet's dense peaks of a precision and of FP32. A cross is a batch size at which a mode, or the "
    "baseline, failed. Bands are the published ranges of cards that were measured here, over that study's eager "
    "FP32, drawn over all batch sizes because most of them name none; its FP32 left TF32 at its default, and its "
    "INT8 changes the runtime as well as the precision."
)

BASELINE = "eager-fp32"
BAND_TINT = 0.35
PUBLISHED_BAND = Entry("band: published range", tint(QUIET, BAND_TINT), dash=(4, 0), stroke_width=5)
BASELINE_LINE = Entry(f"{BASELINE}, the baseline", QUIET, dash=(1, 0), stroke_width=0.8)
LAUNCH_HOLLOW = Entry("hollow: launch-bound", QUIET, "circle", filled=False, size=16)
PEAK_LINE = Entry("ratio of the dense peaks", QUIET, dash=(1, 1.5), stroke_width=0.9)


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are devices, columns models."""
    speedups = measured_points(summary.measured, "speedup_fp32", "speedup_fp32_low", "speedup_fp32_high")
    baselines = {place_of(row): row["launch_bound"] for row in speedups if row["mode"] == BASELINE}
    measured = [
        {**row, "hollow": row["launch_bound"] or baselines.get(place_of(row), False)}
        for row in speedups
        if row["mode"] != BASELINE
    ]
    points = [*measured, *published_bands(summary)]
    failed = failed_points(summary) if measured else []

    def panel(here: Sequence[Row], lost: Sequence[Row], scaled: Sequence[Row], place: Place) -> Panel:
        x = batch_axis(summary, [*measured, *failed], here[0]["gpu"]).at(place)
        lines = peak_lines(summary.gpus.get(here[0]["gpu"]), here)
        values = [row[key] for row in scaled for key in ("value", "low", "high")]
        # Room for the words above the highest band.
        room = [row["high"] * 1.3 for row in scaled if row["source"] == PUBLISHED]
        tops = [
            line["value"]
            for gpu in {row["gpu"] for row in scaled}
            for line in peak_lines(summary.gpus.get(gpu), scaled)
        ]
        y = log_axis("Speedup over eager-fp32", [1.0, *values, *room, *tops]).at(place)
        layers = [level_lines([{"value": 1.0}], x, y, color=QUIET, strokeWidth=0.8)]
        if lines:
            colour = alt.Color("colour:N", scale=None, legend=None)
            layers.append(level_lines(lines, x, y, strokeDash=list(PEAK_LINE.dash or ())).encode(colour))
        stated = [row for row in here if row["source"] == PUBLISHED]
        if stated:
            layers += draw_bands(stated, x, y)
        rest = [row for row in here if row not in stated]
        return draw_series(rest, lost, x, y, place, before=layers, shaded=False)

    entries = [*mode_entries(measured), BASELINE_LINE]
    entries += [PEAK_LINE] if any(peak_lines(summary.gpus.get(row["gpu"]), [row]) for row in measured) else []
    entries += [LAUNCH_HOLLOW] if any(row["hollow"] for row in measured) else []
    entries += common_entries([row for row in measured if not row["hollow"]], failed)
    entries += [PUBLISHED_BAND] if len(measured) < len(points) else []
    return draw_grid(summary, points, failed, panel, entries, "speedup over batch size")


def place_of(row: Row) -> tuple[str, str, int]:
    return row["gpu"], row["model"], row["batch_size"]


def published_bands(summary: Summary) -> list[dict[str, Any]]:
    """The published ranges of the devices and models that were measured; all of them where nothing was."""
    bands = speedup_ranges(summary.published).with_columns(
        pl.format("{}-{}", "runtime", "precision").alias("mode"),
        pl.col("low").alias("value"),
        pl.lit(None, pl.Int64).alias("batch_size"),
    )
    families = summary.families
    if not families.is_empty():
        bands = bands.filter(pl.col("gpu").is_in(set(families["gpu"])), pl.col("model").is_in(set(families["model"])))
    return bands.to_dicts()


def peak_lines(gpu: Gpu | None, rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The ratio of the dense peaks of each of these rows' precisions and of FP32, with its colour."""
    base = gpu.peak_tops.get("fp32") if gpu else None
    if gpu is None or not base:
        return []
    peaks = {row["precision"]: gpu.peak_tops.get(row["precision"]) for row in rows}
    return [
        {"value": peak / base, "colour": precision_colour(name)}
        for name, peak in peaks.items()
        if peak and name != "fp32"
    ]


def draw_bands(rows: Sequence[Row], x: Axis, y: Axis) -> list[alt.Chart]:
    """Published ranges over the whole width, each with its words; a single value is a thin band."""
    bands = [
        {
            **row,
            "bottom": row["low"] / 1.02,
            "top": row["high"] * 1.02,
            "left": x.low,
            "right": x.high,
            "tint": tint(precision_colour(row["precision"]), BAND_TINT),
            "words": f"{row['precision']}: {_span(row['low'], row['high'])}, published",
        }
        for row in rows
    ]
    chart = alt.Chart(inline(bands))
    area = chart.mark_rect(opacity=1).encode(
        x.x("left", "d"), y.y("bottom"), alt.X2("right:Q"), alt.Y2("top:Q"), alt.Color("tint:N", scale=None)
    )
    text = chart.mark_text(align="left", baseline="bottom", dx=3, dy=-1).encode(
        x.x("left", "d"), y.y("top"), text="words:N"
    )
    return [area, text]


def _span(low: float, high: float) -> str:
    return f"{low:g}×" if low == high else f"{low:g} to {high:g}×"
