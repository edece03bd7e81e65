"""Latency against throughput."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from deepgap.analyse.peaks import non_dominated
from deepgap.analyse.schemas import MEASURED, PUBLISHED
from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import Axis, log_axis
from deepgap.paper.charts.layout import PANEL_WIDTH, Panel, Place, Row, inline, overlay
from deepgap.paper.charts.legend import Entry, common_entries, mode_entries
from deepgap.paper.charts.marks import (
    failed_points,
    failure_note,
    fill_colour,
    hollow_points,
    large_first,
    measured_points,
    mode_colour,
    mode_shape,
    published_points,
)
from deepgap.paper.charts.panels import draw_grid
from deepgap.paper.charts.theme import QUIET, tint
from deepgap.published.values import VALUE_KEY, pareto_pairs, table1_peaks

CAPTION = (
    "Throughput against latency, both logarithmic, one point a batch size and mode: the medians over "
    "sweeps (their number stands above each row) of throughput and of latency. The grey steps join the "
    "non-dominated points over all modes. These are numbered with their batch size where there is room, and so is "
    "each published pair (hollow): with the batch size at which the study prints its throughput as a peak, or "
    "? where it prints none. "
    "Most of the published pairs set the throughput of that batch size against the latency of another."
)

STEPS = tint(QUIET, 0.45)
FRONTIER = Entry("non-dominated", STEPS, dash=(1, 0), stroke_width=2.5)


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are GPUs, columns models."""
    measured = summary.measured.filter(pl.col("median_ms").is_not_null())
    at = table1_peaks(summary.published).select(*VALUE_KEY, "throughput_img_s", "batch_size")
    pairs = pareto_pairs(summary.published).join(
        at, on=[*VALUE_KEY, "throughput_img_s"], how="left", maintain_order="left"
    )
    points = [
        *measured_points(measured, "throughput_img_s", None, None, "median_ms"),
        *published_points(summary, pairs, "throughput_img_s", "median_ms"),
    ]
    failed = failed_points(summary)

    def panel(here: Sequence[Row], lost: Sequence[Row], in_row: Sequence[Row], place: Place) -> Panel:
        x = log_axis("Median latency (ms)", [row["median_ms"] for row in in_row], horizontal=True).at(place)
        # Room for the number of the highest point.
        values = [row["value"] for row in in_row]
        y = log_axis("Throughput (img/s)", [*values, 1.5 * max(values)]).at(place)
        return draw_plane(here, lost, x, y, place.height)

    shown = any(row["source"] == MEASURED for row in points)
    entries = mode_entries(points, line=False) + ([FRONTIER] if shown else []) + common_entries(points, [])
    return draw_grid(summary, points, failed, panel, entries, "latency against throughput")


def draw_plane(here: Sequence[Row], lost: Sequence[Row], x: Axis, y: Axis, height: int) -> Panel:
    """The points of a panel, its non-dominated set, and what failed in words."""
    measured = large_first(row for row in here if row["source"] == MEASURED)
    published = [row for row in here if row["source"] == PUBLISHED]
    xs, ys, colour, shape = x.x("median_ms"), y.y("value"), mode_colour(here), mode_shape(here)
    numbered = list(published)
    layers: list[alt.Chart] = []
    if measured:
        kept = non_dominated([row["median_ms"] for row in measured], [row["value"] for row in measured])
        frontier = [row for row, keep in zip(measured, kept, strict=True) if keep]
        steps = alt.Chart(inline(frontier)).mark_line(interpolate="step-after", color=STEPS, strokeWidth=2.5)
        layers.append(steps.encode(xs, ys))
        layers.append(
            alt.Chart(inline(measured))
            .mark_point(filled=True, size=15, opacity=1)
            .encode(xs, ys, fill_colour(), shape)
        )
        numbered += frontier
    if published:
        layers += hollow_points(published, xs, ys, colour, shape)
    labels = readable_labels(numbered, x, y, height)
    if labels:
        text = alt.Chart(inline(labels)).mark_text(align="right", baseline="bottom", dx=-3, dy=-1)
        layers.append(text.encode(xs, ys, text="number:N"))
    if lost:
        layers.append(failure_note(lost, height))
    return overlay(layers, PANEL_WIDTH, height)


def readable_labels(rows: Sequence[Row], x: Axis, y: Axis, height: int) -> list[Row]:
    """The points with a `number`, up and left of them, that overlaps none chosen before; published ones first, then
    the fastest."""
    chosen: list[Row] = []
    boxes: list[tuple[float, float, float, float]] = []
    for row in sorted(rows, key=lambda row: (row["source"] != PUBLISHED, -row["value"])):
        number = "?" if row["batch_size"] is None else str(row["batch_size"])
        right = PANEL_WIDTH * x.share(row["median_ms"]) - 3
        bottom = height * (1 - y.share(row["value"])) - 1
        box = (right - 3.7 * len(number), right + 1, bottom - 7, bottom + 1)
        if box[2] > 0 and not any(
            box[0] < other[1] and other[0] < box[1] and box[2] < other[3] and other[2] < box[3] for other in boxes
        ):
            boxes.append(box)
            chosen.append({**row, "number": number})
    return chosen
