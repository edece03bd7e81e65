"""Throughput over that of eager FP32 at the same batch size."""

from __future__ import annotations

from collections.abc import Sequence

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

CAPTION = (
    "Speedup over batch size: throughput over that of eager-fp32 (TF32 off) on the same GPU, at the same "
    "model and batch size: the median of the ratios of the two modes' cells of one sweep, session and card, with its "
    "exact order-statistic interval, at least 95 %; logarithmic. The grey "
    "line is the baseline; a cross is a batch size at which a mode, or the baseline, failed. Bands are "
    "the published ranges over that study's eager FP32, drawn over all batch sizes because most of them "
    "name none; its FP32 left TF32 at its default, and its INT8 changes the runtime as well as the "
    "precision."
)

BASELINE = "eager-fp32"
BAND_TINT = 0.35
PUBLISHED_BAND = Entry("band: published range", tint(QUIET, BAND_TINT), dash=(4, 0), stroke_width=5)
BASELINE_LINE = Entry(f"{BASELINE}, the baseline", QUIET, dash=(1, 0), stroke_width=0.8)


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are GPUs, columns models."""
    measured = [
        row
        for row in measured_points(summary.measured, "speedup_fp32", "speedup_fp32_low", "speedup_fp32_high")
        if row["mode"] != BASELINE
    ]
    bands = speedup_ranges(summary.published).with_columns(
        pl.format("{}-{}", "runtime", "precision").alias("mode"),
        pl.col("low").alias("value"),
        pl.lit(None, pl.Int64).alias("batch_size"),
    )
    points = [*measured, *bands.to_dicts()]
    failed = failed_points(summary) if measured else []

    def panel(here: Sequence[Row], lost: Sequence[Row], in_row: Sequence[Row], place: Place) -> Panel:
        x = batch_axis(summary, [*measured, *failed], in_row[0]["gpu"]).at(place)
        values = [row[key] for row in in_row for key in ("value", "low", "high")]
        # Room for the words above the highest band.
        room = [row["high"] * 1.3 for row in in_row if row["source"] == PUBLISHED]
        y = log_axis("Speedup over eager-fp32", [1.0, *values, *room]).at(place)
        layers = [level_lines([{"value": 1.0}], x, y, color=QUIET, strokeWidth=0.8)]
        stated = [row for row in here if row["source"] == PUBLISHED]
        if stated:
            layers += draw_bands(stated, x, y)
        return draw_series([row for row in here if row not in stated], lost, x, y, place.height, before=layers)

    entries = [*mode_entries(measured), BASELINE_LINE, *common_entries(measured, failed)]
    entries += [PUBLISHED_BAND] if len(measured) < len(points) else []
    return draw_grid(summary, points, failed, panel, entries, "speedup over batch size")


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
