"""Median latency over batch size, and how far it is from a straight line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from deepgap.analyse.lines import affine_time
from deepgap.analyse.schemas import MEASURED
from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import Axis, batch_axis, log_axis
from deepgap.paper.charts.layout import Panel, Place, Row, inline, overlay
from deepgap.paper.charts.legend import Entry, common_entries, mode_entries
from deepgap.paper.charts.marks import (
    arrow_ends,
    failed_points,
    fill_colour,
    large_first,
    level_lines,
    mark_size,
    measured_points,
    mode_colour,
    mode_dash,
    mode_shape,
    published_points,
)
from deepgap.paper.charts.panels import Under, draw_grid, draw_series
from deepgap.paper.charts.theme import QUIET
from deepgap.published.values import median_latencies

CAPTION = (
    "Device latency of one call over batch size, both axes logarithmic, each call synchronised: the median over "
    "sweeps (their number stands above each row) of a sweep's median, with the exact order-statistic interval over "
    "sweeps, at least 95 %. Below, how far each median is from a straight line over batch size, a fixed time a call "
    "plus a time an image, fitted to all batch sizes of a mode with the least sum of squares of relative residuals: "
    "the residual as a share of the line. A mode with fewer than three batch sizes has none, and the fit has two "
    "parameters, so that the residuals of three are small by themselves. All GPUs have one scale, and so have all "
    "processors. Pale marks have a flag that keeps them out of the primary set. Hollow marks are medians that the "
    "published study states in its prose of cards that were measured here; an arrow shows on which side of a mark "
    "the median lies where it states a bound alone."
)

RESIDUAL_HEIGHT = 46
LINE = Entry("on the fitted line", QUIET, dash=(1, 0), stroke_width=0.8)


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are devices and in each latency and residual, columns models."""
    points = [
        *with_residuals(measured_points(summary.measured, "median_ms", "median_low_ms", "median_high_ms")),
        *published_points(summary, median_latencies(summary.published), "median_ms", "approx"),
    ]
    failed = failed_points(summary)
    fitted = [row for row in points if row.get("residual_percent") is not None]

    def panel(here: Sequence[Row], lost: Sequence[Row], scaled: Sequence[Row], place: Place) -> Panel:
        x = batch_axis(summary, [*points, *failed], here[0]["gpu"])
        levels = [row[key] for row in scaled for key in ("value", "low", "high")]
        y = log_axis("Latency (ms)", [*levels, *arrow_ends(scaled)])
        x, y = x.at(place), y.at(place)
        return draw_series(here, lost, x.silent() if fitted else x, y, place)

    def residuals(here: Sequence[Row], lost: Sequence[Row], scaled: Sequence[Row], place: Place) -> Panel:
        x = batch_axis(summary, [*points, *failed], here[0]["gpu"]).at(place)
        return draw_residuals(here, x, residual_axis(scaled).at(place), place)

    entries = mode_entries(points) + ([LINE] if fitted else []) + common_entries(points, failed, shaded=True)
    under = Under(residuals, RESIDUAL_HEIGHT) if fitted else None
    return draw_grid(summary, points, failed, panel, entries, "latency over batch size", under=under)


def with_residuals(points: Sequence[Row]) -> list[dict[str, Any]]:
    """The points with `residual_percent`: how far each is above the line of its mode; null without a line."""
    curves: dict[tuple[str, str, str], list[Row]] = {}
    for row in points:
        curves.setdefault((row["gpu"], row["model"], row["mode"]), []).append(row)
    found = []
    for curve in curves.values():
        line = affine_time([row["batch_size"] for row in curve], [row["value"] for row in curve])
        for row in curve:
            off = None if line is None else 100 * (row["value"] / line.at(row["batch_size"]) - 1)
            found.append({**row, "residual_percent": off})
    return found


def residual_axis(rows: Sequence[Row]) -> Axis:
    """Percent about zero, as far on both sides."""
    known = [abs(row["residual_percent"]) for row in rows if row.get("residual_percent") is not None]
    most = max([2.0, *known]) * 1.15
    step = next(step for step in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000) if step > most / 2.2)
    return Axis("Resid. (%)", -most, most, (-step, 0, step), None)


def draw_residuals(here: Sequence[Row], x: Axis, y: Axis, place: Place) -> Panel:
    """The residuals of the measured points of a panel."""
    rows = [row for row in here if row["source"] == MEASURED and row["residual_percent"] is not None]
    layers = [level_lines([{"value": 0.0}], x, y, color=QUIET, strokeWidth=LINE.stroke_width)]
    if rows:
        data, xs, ys = alt.Chart(inline(large_first(rows))), x.x("batch_size", "d"), y.y("residual_percent", "d")
        layers.append(
            data.mark_line(strokeWidth=0.8).encode(xs, ys, mode_colour(rows), mode_dash(rows), detail="mode:N")
        )
        marks = data.mark_point(filled=True, size=mark_size(place.width, 10), opacity=1)
        layers.append(marks.encode(xs, ys, fill_colour(), mode_shape(rows)))
    return overlay(layers, place.width, place.height)
