"""Median latency by model and mode at stated batch sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from deepgap.analyse.schemas import MEASURED, PUBLISHED
from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import log_axis
from deepgap.paper.charts.layout import GAP, Panel, Place, Row, inline, overlay, row_height
from deepgap.paper.charts.legend import common_entries, draw_legend, mode_entries
from deepgap.paper.charts.marks import (
    failed_points,
    fill_colour,
    hollow_points,
    measured_points,
    mode_colour,
    mode_shape,
    order_modes,
    published_points,
)
from deepgap.paper.charts.panels import Columns, draw_grid
from deepgap.paper.charts.theme import PAGE_HEIGHT, PAGE_WIDTH
from deepgap.published.values import median_latencies
from deepgap.study.words import model_label

CAPTION = (
    "Device latency of one call by model and mode, a column a batch size: the median over sweeps (their number "
    "stands above each row) of a sweep's median, with the exact order-statistic interval over sweeps, at least 95 "
    "%; each panel has its own logarithmic axis. Hollow marks are published medians at the same batch size; an "
    "arrow shows on which side of a mark the median lies where the study states a bound alone."
)

NAMES_WIDTH = 48
LINE_HEIGHT = 7.0
"""Height of a mode's line where the page has room, in points."""
LEAST_LINE = 4.0
GAP_HEIGHT = 4
"""Between the lines of two models."""


@dataclass(frozen=True)
class Lines:
    """What has a line in a row of panels: each of the modes in each of the models."""

    models: list[str]
    modes: list[str]


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are GPUs, columns the batch sizes of `reporting.latency_batch_sizes`; models downwards."""
    batch_sizes = list(summary.reporting["latency_batch_sizes"])
    points = [
        row
        for row in [
            *measured_points(summary.measured, "median_ms", "median_low_ms", "median_high_ms"),
            *published_points(summary, median_latencies(summary.published), "median_ms", "approx"),
        ]
        if row["batch_size"] in batch_sizes
    ]
    failed = [row for row in failed_points(summary) if row["batch_size"] in batch_sizes]
    width = (PAGE_WIDTH - NAMES_WIDTH - (len(batch_sizes) - 1) * GAP) // len(batch_sizes)
    columns = Columns("batch_size", {size: f"Batch size {size}" for size in batch_sizes}, width)
    entries = mode_entries(points, line=False) + common_entries(points, [])
    rows = {gpu: find_lines(summary, [*points, *failed], gpu) for gpu in {row["gpu"] for row in [*points, *failed]}}
    line_height = fit_lines(list(rows.values()), draw_legend(entries))

    def panel(here: Sequence[Row], lost: Sequence[Row], in_row: Sequence[Row], place: Place) -> Panel:
        return draw_latencies(here, lost, rows[here[0]["gpu"]], place, width, line_height)

    return draw_grid(summary, points, failed, panel, entries, "latency by model", columns=columns)


def find_lines(summary: Summary, rows: Sequence[Row], gpu: str) -> Lines:
    """The models and modes that have a line in the row of a GPU."""
    here = [row for row in rows if row["gpu"] == gpu]
    return Lines(summary.order_models(row["model"] for row in here), order_modes(here))


def fit_lines(rows: Sequence[Lines], legend: Panel) -> float:
    """Height of a mode's line in points, the same in all rows, so that they fit on a page."""
    if not rows:
        return LINE_HEIGHT
    room = len(rows) * row_height(len(rows), [legend], most=PAGE_HEIGHT)
    bands = sum(len(row.models) for row in rows)
    lines = sum(len(row.models) * len(row.modes) for row in rows)
    return max(LEAST_LINE, min(LINE_HEIGHT, (room - GAP_HEIGHT * bands) / lines))


def draw_latencies(
    here: Sequence[Row], lost: Sequence[Row], lines: Lines, place: Place, width: int, line_height: float
) -> Panel:
    """Latency to the right, a band a model and in it a line a mode; a failure is told in its line."""
    modes, models = lines.modes, [model_label(model) for model in lines.models]
    rows = [*here, *lost]
    x = log_axis("Median latency (ms)", [row[k] for row in here for k in ("value", "low", "high")], horizontal=True)
    x = x.at(place)
    y = alt.Y(
        "label:N",
        title=None,
        scale=alt.Scale(domain=models, paddingInner=0.15, paddingOuter=0.1),
        axis=alt.Axis(labels=not place.inner, ticks=False, grid=False),
    )
    offset = alt.YOffset("mode:N", scale=alt.Scale(domain=modes))
    colour, shape = mode_colour(rows), mode_shape(rows)

    def named(chosen: Sequence[Row]) -> list[dict[str, Any]]:
        return [{**row, "label": model_label(row["model"])} for row in chosen]

    def data(chosen: Sequence[Row]) -> alt.Chart:
        chart: alt.Chart = alt.Chart(inline(named(chosen))).encode(y, offset)
        return chart

    measured = [row for row in here if row["source"] == MEASURED]
    published = [row for row in here if row["source"] == PUBLISHED]
    spans = [row for row in measured if row["low"] is not None]
    layers = []
    if spans:
        layers.append(data(spans).mark_rule(strokeWidth=0.9).encode(x.x("low"), alt.X2("high:Q"), colour))
    if measured:
        # A mark is at most as high as its line; the graph's is the largest.
        size = min(22.0, (line_height / 1.4) ** 2)
        layers.append(
            data(measured).mark_point(filled=True, size=size, opacity=1).encode(x.x("value"), fill_colour(), shape)
        )
    if published:
        layers += hollow_points(named(published), x.x("value"), y, colour, shape, offset, along="x")
    if lost:
        told = [{**row, "words": f"{row['mode']}: {row['status'].replace('_', ' ')}"} for row in lost]
        layers.append(data(told).mark_text(align="left", baseline="middle").encode(x=alt.value(4), text="words:N"))
    return overlay(layers, width, round(len(models) * (len(modes) * line_height + GAP_HEIGHT)))
