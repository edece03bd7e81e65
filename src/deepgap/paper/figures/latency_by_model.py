"""Median latency by model and mode at stated batch sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from deepgap.analyse.schemas import MEASURED, PUBLISHED
from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import Axis, log_axis
from deepgap.paper.charts.layout import Panel, Place, Row, inline, overlay, row_height
from deepgap.paper.charts.legend import Entry, common_entries, draw_legend
from deepgap.paper.charts.marks import (
    BOUNDS,
    HOLLOW_SIZE,
    failed_points,
    fill_colour,
    measured_points,
    mode_colour,
    order_modes,
    published_points,
)
from deepgap.paper.charts.panels import Columns, draw_grid
from deepgap.paper.charts.theme import INK, PAGE_HEIGHT
from deepgap.published.values import median_latencies
from deepgap.study.words import model_label

CAPTION = (
    "Device latency of one call by mode, a column a batch size: a mark a model, and a line from the quickest model "
    "of a mode to its slowest. Marks are the medians over sweeps (their number stands above each row) of a sweep's "
    "median; bars, mostly smaller than the marks, are the exact order-statistic intervals over sweeps, at least 95 "
    "%. The axis is logarithmic, and each column has its own. Pale marks have a flag that keeps them out of the "
    "primary set. Hollow marks are published medians at the same batch size of cards that were measured here; < and "
    "> beside one say on which side of it the median lies where the study states a bound alone."
)

NAMES_WIDTH = 74
LINE_HEIGHT, LEAST_LINE = 11.0, 5.0
"""Height of a mode's line in points where the page has room, and at least."""
MODEL_SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right", "wedge")
MARK_SIZE = 22


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are devices, columns the batch sizes of `reporting.latency_batch_sizes` that have a value; modes
    downwards."""
    wanted = list(summary.reporting["latency_batch_sizes"])
    measured = measured_points(summary.measured, "median_ms", "median_low_ms", "median_high_ms")
    batch_sizes = shown_batches(wanted, [row["batch_size"] for row in measured])
    points = [
        row
        for row in [*measured, *published_points(summary, median_latencies(summary.published), "median_ms", "approx")]
        if row["batch_size"] in batch_sizes
    ]
    failed = [row for row in failed_points(summary) if row["batch_size"] in batch_sizes]
    columns = Columns("batch_size", {size: f"Batch size {size}" for size in batch_sizes}, NAMES_WIDTH)
    models = summary.order_models(row["model"] for row in points)
    modes = {
        gpu: order_modes(row for row in [*points, *failed] if row["gpu"] == gpu) for gpu in {p["gpu"] for p in points}
    }
    entries = [Entry(model_label(model), INK, model_shape(models, model), size=MARK_SIZE) for model in models]
    entries += common_entries([row for row in points if row["source"] == MEASURED], [])
    entries += [PUBLISHED_MARK] if any(row["source"] == PUBLISHED for row in points) else []
    line = fit_lines([len(own) for own in modes.values()], draw_legend(entries, columns.across))

    def panel(here: Sequence[Row], lost: Sequence[Row], scaled: Sequence[Row], place: Place) -> Panel:
        column = [row for row in scaled if row["batch_size"] == here[0]["batch_size"]]
        levels = [row[key] for row in column for key in ("value", "low", "high")]
        x = log_axis("Median latency (ms)", levels, horizontal=True).at(place)
        return draw_latencies(here, lost, models, modes[here[0]["gpu"]], x, place, line)

    return draw_grid(summary, points, failed, panel, entries, "latency by model", columns=columns)


PUBLISHED_MARK = Entry("hollow: published", INK, "circle", filled=False, size=HOLLOW_SIZE)


def shown_batches(wanted: Sequence[int], measured: Sequence[int]) -> list[int]:
    """The batch sizes of the columns: those wanted that were measured, and where one was not the nearest that was."""
    known = sorted(set(measured))
    if not known:
        return list(wanted)
    return list(dict.fromkeys(min(known, key=lambda size: (abs(size - want), size)) for want in wanted))


def fit_lines(counts: Sequence[int], legend: Panel) -> float:
    """Height of a mode's line in points, the same in all rows, so that they fit on a page."""
    if not counts:
        return LINE_HEIGHT
    room = len(counts) * row_height(len(counts), [legend], most=PAGE_HEIGHT)
    return max(LEAST_LINE, min(LINE_HEIGHT, room / sum(counts)))


def model_shape(models: Sequence[str], model: str) -> str:
    return MODEL_SHAPES[models.index(model) % len(MODEL_SHAPES)]


def draw_latencies(
    here: Sequence[Row],
    lost: Sequence[Row],
    models: Sequence[str],
    modes: Sequence[str],
    x: Axis,
    place: Place,
    line_height: float,
) -> Panel:
    """Latency to the right, a line a mode from its quickest model to its slowest; a failure is told in its line."""
    y = alt.Y(
        "mode:N",
        title=None,
        scale=alt.Scale(domain=list(modes), paddingInner=0.1, paddingOuter=0.05),
        axis=alt.Axis(labels=not place.inner, ticks=False, grid=True, labelLimit=NAMES_WIDTH, minExtent=0),
    )
    shape = alt.Shape(
        "model:N",
        legend=None,
        scale=alt.Scale(domain=list(models), range=[model_shape(models, model) for model in models]),
    )
    measured = [row for row in here if row["source"] == MEASURED]
    published = [row for row in here if row["source"] == PUBLISHED]
    layers: list[alt.Chart] = []
    bars = model_bars(measured)
    if bars:
        rules = alt.Chart(inline(bars)).mark_rule(strokeWidth=1.6)
        layers.append(rules.encode(x.x("quickest"), alt.X2("slowest:Q"), y, fill_colour()))
    spans = [row for row in measured if row["low"] is not None]
    if spans:
        rules = alt.Chart(inline(spans)).mark_rule(strokeWidth=0.9)
        layers.append(rules.encode(x.x("low"), alt.X2("high:Q"), y, mode_colour(spans)))
    if measured:
        marks = alt.Chart(inline(measured)).mark_point(
            filled=True, size=min(MARK_SIZE, line_height**2 / 2), opacity=1, stroke="white", strokeWidth=0.4
        )
        layers.append(marks.encode(x.x("value"), y, fill_colour(), shape))
    if published:
        marks = alt.Chart(inline(published)).mark_point(filled=False, size=HOLLOW_SIZE, opacity=1, strokeWidth=1.2)
        layers.append(marks.encode(x.x("value"), y, mode_colour(published), shape))
        bounds = [{**row, "sign": _bound(row)} for row in published if row.get("approx") in BOUNDS]
        if bounds:
            text = alt.Chart(inline(bounds)).mark_text(align="left", baseline="middle", dx=5)
            layers.append(text.encode(x.x("value"), y, text="sign:N"))
    if lost:
        told = [{**row, "words": f"{model_label(row['model'])}: {row['status'].replace('_', ' ')}"} for row in lost]
        text = alt.Chart(inline(told)).mark_text(align="left", baseline="middle")
        layers.append(text.encode(x=alt.value(4), y=y, text="words:N"))
    return overlay(layers, place.width, max(16, round(len(modes) * line_height)))


def _bound(row: Row) -> str:
    return ">" if BOUNDS[row["approx"]] > 0 else "<"


def model_bars(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For each mode of several models the latency of its quickest and of its slowest."""
    found = []
    for mode in order_modes(rows):
        own = [row for row in rows if row["mode"] == mode]
        values = [row["value"] for row in own]
        if len(own) > 1:
            fill = max(own, key=lambda row: bool(row["primary"]))["fill"]
            found.append({"mode": mode, "fill": fill, "quickest": min(values), "slowest": max(values)})
    return found
