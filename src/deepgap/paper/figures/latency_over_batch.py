"""Median latency over batch size."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import batch_axis, log_axis
from deepgap.paper.charts.layout import Panel, Place, Row
from deepgap.paper.charts.legend import common_entries, mode_entries
from deepgap.paper.charts.marks import arrow_ends, failed_points, measured_points, published_points
from deepgap.paper.charts.panels import draw_grid, draw_series
from deepgap.published.values import median_latencies

CAPTION = (
    "Device latency of one call over batch size, both axes logarithmic, each call synchronised: the median over "
    "sweeps (their number stands above each row) of a sweep's median, with the exact order-statistic interval over "
    "sweeps, at least 95 %. Hollow marks are the medians that the published study states in its prose, most "
    "of them approximate; an arrow shows on which side of a mark the median lies where it states a bound alone."
)


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are GPUs, columns models."""
    points = [
        *measured_points(summary.measured, "median_ms", "median_low_ms", "median_high_ms"),
        *published_points(summary, median_latencies(summary.published), "median_ms", "approx"),
    ]
    failed = failed_points(summary)

    def panel(here: Sequence[Row], lost: Sequence[Row], in_row: Sequence[Row], place: Place) -> Panel:
        x = batch_axis(summary, [*points, *failed], in_row[0]["gpu"])
        levels = [row[key] for row in in_row for key in ("value", "low", "high")]
        y = log_axis("Median latency (ms)", [*levels, *arrow_ends(in_row)])
        return draw_series(here, lost, x.at(place), y.at(place), place.height)

    entries = mode_entries(points) + common_entries(points, failed)
    return draw_grid(summary, points, failed, panel, entries, "latency over batch size")
