"""Throughput over batch size."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from deepgap.analyse.peaks import find_peaks
from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import batch_axis, log_axis
from deepgap.paper.charts.layout import Panel, Place, Row
from deepgap.paper.charts.legend import PEAK, common_entries, mode_entries
from deepgap.paper.charts.marks import failed_points, measured_points, published_points
from deepgap.paper.charts.panels import draw_grid, draw_series
from deepgap.published.values import table1_peaks

CAPTION = (
    "Throughput over batch size, both axes logarithmic: median over sweeps (their number stands above each row) of "
    "images over wall time of queued calls, with the exact order-statistic interval over sweeps, at least 95 %; of "
    "six sweeps it is their range. Inputs are on the device; each sweep is a fresh process. All GPUs have one "
    "scale, and so have all processors. A large mark is a measured peak: the smallest batch size that paired "
    "comparison cannot tell from the one with the highest median. Pale marks have a flag that keeps them out of the "
    "primary set. Published peaks stand hollow in the panel of their card, where it was measured here."
)


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are GPUs, columns models; both axes are logarithmic."""
    peaks = find_peaks(summary.measured)
    measured = [
        {**row, "peak": peaks[row["gpu"], row["model"], row["mode"]].point.batch_size == row["batch_size"]}
        for row in measured_points(
            summary.measured, "throughput_img_s", "throughput_low_img_s", "throughput_high_img_s"
        )
    ]
    published = published_points(summary, table1_peaks(summary.published), "throughput_img_s")
    points, failed = [*measured, *published], failed_points(summary)

    def panel(here: Sequence[Row], lost: Sequence[Row], in_row: Sequence[Row], place: Place) -> Panel:
        x = batch_axis(summary, [*points, *failed], here[0]["gpu"])
        y = log_axis("Throughput (img/s)", [row[key] for row in in_row for key in ("value", "low", "high")])
        return draw_series(here, lost, x.at(place), y.at(place), place)

    entries = mode_entries(points) + ([PEAK] if measured else []) + common_entries(points, failed, shaded=True)
    return draw_grid(summary, points, failed, panel, entries, "throughput over batch size")
