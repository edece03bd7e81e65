"""Figure 10: latency against throughput."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import altair as alt
import polars as pl

from deepgap.panels import (
    PANEL_HEIGHT,
    PANEL_WIDTH,
    Axis,
    Entry,
    Panel,
    Place,
    Row,
    common_entries,
    draw_grid,
    failed_points,
    failure_note,
    hollow_points,
    inline,
    log_axis,
    measured_points,
    mode_colour,
    mode_entries,
    mode_shape,
    overlay,
    published_points,
)
from deepgap.peaks import non_dominated
from deepgap.published import pareto_pairs
from deepgap.summary import MEASURED, PUBLISHED, Summary
from deepgap.theme import QUIET, tint

CAPTION = (
    "Throughput against median latency, one point a batch size, both logarithmic; medians over runs "
    "(their number stands above each row), each point one cell family. The grey steps join the "
    "non-dominated points over all modes; their numbers are batch sizes, left out where they would overlap. "
    "Hollow marks are the published pairs: most of them pair the throughput of one batch size with the "
    "latency of another."
)

STEPS = tint(QUIET, 0.45)
FRONTIER = Entry("non-dominated", STEPS, dash=(1, 0), stroke_width=2.5)


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are GPUs, columns models."""
    measured = summary.measured.filter(pl.col("median_ms").is_not_null())
    pairs = pareto_pairs(summary.published).with_columns(batch_size=pl.lit(None, pl.Int64))
    points = [
        *measured_points(measured, "throughput_img_s", None, None, "median_ms"),
        *published_points(pairs, "throughput_img_s", "median_ms"),
    ]
    failed = failed_points(summary)

    def panel(here: Sequence[Row], lost: Sequence[Row], in_row: Sequence[Row], place: Place) -> Panel:
        x = log_axis("Median latency (ms)", [row["median_ms"] for row in in_row], horizontal=True).at(place)
        y = log_axis("Throughput (img/s)", [row["value"] for row in in_row]).at(place)
        return draw_plane(here, lost, x, y)

    shown = any(row["source"] == MEASURED for row in points)
    entries = mode_entries(points, line=False) + ([FRONTIER] if shown else []) + common_entries(points, [])
    return draw_grid(summary, points, failed, panel, entries, "latency against throughput")


def draw_plane(here: Sequence[Row], lost: Sequence[Row], x: Axis, y: Axis) -> Panel:
    """The points of a panel, its non-dominated set, and what failed in words."""
    measured = [row for row in here if row["source"] == MEASURED]
    published = [row for row in here if row["source"] == PUBLISHED]
    xs, ys, colour, shape = x.x("median_ms"), y.y("value", "~s"), mode_colour(here), mode_shape(here)
    layers: list[alt.Chart] = []
    if measured:
        kept = non_dominated([row["median_ms"] for row in measured], [row["value"] for row in measured])
        frontier = [row for row, keep in zip(measured, kept, strict=True) if keep]
        steps = alt.Chart(inline(frontier)).mark_line(interpolate="step-after", color=STEPS, strokeWidth=2.5)
        layers.append(steps.encode(xs, ys))
        layers.append(
            alt.Chart(inline(measured)).mark_point(filled=True, size=18, opacity=1).encode(xs, ys, colour, shape)
        )
        labels = alt.Chart(inline(readable_labels(frontier, x, y)))
        layers.append(
            labels.mark_text(align="right", baseline="bottom", dx=-2, dy=-1).encode(xs, ys, text="batch_size:N")
        )
    if published:
        layers.append(hollow_points(alt.Chart(inline(published)), colour, shape).encode(xs, ys))
    if lost:
        layers.append(failure_note(lost))
    return overlay(layers, PANEL_WIDTH, PANEL_HEIGHT)


def readable_labels(frontier: Sequence[Row], x: Axis, y: Axis) -> list[Row]:
    """The points whose label, up and left of them, overlaps no label chosen before; the fastest first."""
    chosen: list[Row] = []
    boxes: list[tuple[float, float, float, float]] = []
    for row in sorted(frontier, key=lambda row: -row["value"]):
        right = PANEL_WIDTH * log(row["median_ms"] / x.low) / log(x.high / x.low) - 2
        bottom = PANEL_HEIGHT * (1 - log(row["value"] / y.low) / log(y.high / y.low)) - 1
        box = (right - 3.7 * len(str(row["batch_size"])), right + 1, bottom - 7, bottom + 1)
        if box[2] > 0 and not any(
            box[0] < other[1] and other[0] < box[1] and box[2] < other[3] and other[2] < box[3] for other in boxes
        ):
            boxes.append(box)
            chosen.append(row)
    return chosen
