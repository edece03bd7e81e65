"""Figure 7: median latency by model and mode at stated batch sizes."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from deepgap.panels import (
    GAP,
    Columns,
    Panel,
    Place,
    Row,
    common_entries,
    draw_grid,
    failed_points,
    hollow_points,
    inline,
    log_axis,
    measured_points,
    mode_colour,
    mode_entries,
    mode_shape,
    order_modes,
    overlay,
    published_points,
)
from deepgap.published import median_latencies
from deepgap.summary import MEASURED, PUBLISHED, Summary
from deepgap.theme import PAGE_WIDTH
from deepgap.wording import MODELS, model_label

CAPTION = (
    "Median device latency of one call by model and mode, a column a batch size, from the pooled calls of "
    "all runs (their number stands above each row), with the 95 % bootstrap interval over runs; each "
    "panel has its own logarithmic axis. Hollow marks are published medians at the same batch size."
)

NAMES_WIDTH = 48
LINE_HEIGHT = 7


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are GPUs, columns the batch sizes of `reporting.latency_batch_sizes`; models downwards."""
    batch_sizes = list(summary.reporting["latency_batch_sizes"])
    points = [
        row
        for row in [
            *measured_points(summary.measured, "median_ms", "median_low_ms", "median_high_ms"),
            *published_points(median_latencies(summary.published), "median_ms"),
        ]
        if row["batch_size"] in batch_sizes
    ]
    failed = [row for row in failed_points(summary) if row["batch_size"] in batch_sizes]
    width = (PAGE_WIDTH - NAMES_WIDTH - (len(batch_sizes) - 1) * GAP) // len(batch_sizes)
    columns = Columns("batch_size", {size: f"Batch size {size}" for size in batch_sizes}, width)

    def panel(here: Sequence[Row], lost: Sequence[Row], in_row: Sequence[Row], place: Place) -> Panel:
        return draw_latencies(here, lost, in_row, place, width)

    entries = mode_entries(points, line=False) + common_entries(points, [])
    return draw_grid(summary, points, failed, panel, entries, "latency by model", columns=columns)


def draw_latencies(
    here: Sequence[Row], lost: Sequence[Row], in_row: Sequence[Row], place: Place, width: int
) -> Panel:
    """Latency to the right, a band a model and in it a line a mode; a failure is told in its line."""
    rows = [*in_row, *lost]
    modes = order_modes(rows)
    models = [model_label(model) for model in MODELS if any(row["model"] == model for row in rows)]
    x = log_axis("Median latency (ms)", [row[k] for row in here for k in ("value", "low", "high")], horizontal=True)
    x = x.at(place)
    y = alt.Y(
        "label:N",
        title=None,
        scale=alt.Scale(domain=models, paddingInner=0.15, paddingOuter=0.1),
        axis=alt.Axis(labels=not place.inner, ticks=False, grid=False),
    )
    offset = alt.YOffset("mode:N", scale=alt.Scale(domain=modes, paddingOuter=0.3))
    colour, shape = mode_colour(rows), mode_shape(rows)

    def data(chosen: Sequence[Row]) -> alt.Chart:
        return alt.Chart(inline([{**row, "label": model_label(row["model"])} for row in chosen])).encode(y, offset)

    measured = [row for row in here if row["source"] == MEASURED]
    published = [row for row in here if row["source"] == PUBLISHED]
    spans = [row for row in measured if row["low"] is not None]
    layers = []
    if spans:
        layers.append(data(spans).mark_rule(strokeWidth=0.9).encode(x.x("low"), alt.X2("high:Q"), colour))
    if measured:
        layers.append(data(measured).mark_point(filled=True, size=24, opacity=1).encode(x.x("value"), colour, shape))
    if published:
        layers.append(hollow_points(data(published), colour, shape).encode(x.x("value")))
    if lost:
        told = [{**row, "words": f"{row['mode']}: {row['status'].replace('_', ' ')}"} for row in lost]
        layers.append(data(told).mark_text(align="left", baseline="middle").encode(x=alt.value(4), text="words:N"))
    height = len(models) * max(len(modes) * LINE_HEIGHT + 4, 16)
    return overlay(layers, width, height)
