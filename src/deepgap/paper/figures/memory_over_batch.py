"""Device memory over batch size."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import batch_axis, zero_axis
from deepgap.paper.charts.layout import Panel, Place, Row, inline
from deepgap.paper.charts.legend import Entry, common_entries, mode_entries
from deepgap.paper.charts.marks import (
    failed_points,
    level_lines,
    measured_points,
    mode_colour,
    mode_dash,
    published_points,
)
from deepgap.paper.charts.panels import draw_grid, draw_series
from deepgap.paper.charts.theme import QUIET
from deepgap.published.values import device_memory

CAPTION = (
    "Device memory over batch size (marks): the most that the driver counted while a cell ran, above the idle "
    "device, as samples show it, each cell in a fresh process; a point is the most of a family's cells, whose number "
    "stands above each row. Thin lines: the most that PyTorch's allocator had given out at any time of the cell, "
    "which leaves out the context and the libraries; samples can miss a peak between two of them. Modes of one "
    "precision mostly share a thin line. On a CPU the memory is what the resident set grew by from before the "
    "model was loaded, at its peak. Hollow marks are published driver readings of a long-lived process, in decimal "
    "GB turned to GiB; where the study names no batch size they are dashed lines."
)

ALLOCATED = Entry("thin line: allocator's peak", QUIET, dash=(1, 0), stroke_width=0.6)
PUBLISHED_LEVEL = Entry("dashed: published, batch size not stated", QUIET, dash=(2, 2))


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are GPUs, columns models; memory in GiB from zero."""
    measured = summary.measured.with_columns(
        memory_gib=pl.col("memory_bytes") / 2**30, allocated_gib=pl.col("memory_allocated_bytes") / 2**30
    )
    points = [
        *measured_points(measured, "memory_gib", None, None, "allocated_gib"),
        *published_points(summary, device_memory(summary.published), "memory_gib"),
    ]
    failed = failed_points(summary)

    def panel(here: Sequence[Row], lost: Sequence[Row], in_row: Sequence[Row], place: Place) -> Panel:
        x = batch_axis(summary, [*points, *failed], in_row[0]["gpu"]).at(place)
        most = [row.get(key) for row in in_row for key in ("value", "allocated_gib")]
        y = zero_axis("Memory (GiB)", most).at(place)
        levels = [row for row in here if row["batch_size"] is None]
        allocated = [{**row, "value": row["allocated_gib"]} for row in here if row.get("allocated_gib") is not None]
        before = []
        if allocated:
            data = alt.Chart(inline(allocated)).mark_line(strokeWidth=ALLOCATED.stroke_width)
            xs, ys, colour, dash = x.x("batch_size", "d"), y.y("value"), mode_colour(here), mode_dash(here)
            before.append(data.encode(xs, ys, colour, dash, detail="mode:N"))
        if levels:
            before.append(level_lines(levels, x, y, strokeDash=[2, 2], strokeWidth=1.1).encode(mode_colour(here)))
        return draw_series([row for row in here if row not in levels], lost, x, y, place.height, before)

    entries = mode_entries(points)
    entries += [ALLOCATED] if any(row.get("allocated_gib") is not None for row in points) else []
    entries += common_entries(points, failed)
    entries += [PUBLISHED_LEVEL] if any(row["batch_size"] is None for row in points) else []
    notes = {key: ", peak resident set" for key, gpu in summary.gpus.items() if gpu.device == "cpu"}
    return draw_grid(summary, points, failed, panel, entries, "memory over batch size", notes, of="cell")
