"""Figure 9: device memory over batch size."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from deepgap.panels import (
    Entry,
    Panel,
    Place,
    Row,
    batch_axis,
    common_entries,
    draw_grid,
    draw_series,
    failed_points,
    level_lines,
    measured_points,
    mode_colour,
    mode_entries,
    published_points,
    zero_axis,
)
from deepgap.published import device_memory
from deepgap.summary import Summary
from deepgap.theme import QUIET

CAPTION = (
    "Device memory over batch size: the most that a cell family held above the idle device, from the "
    "driver, each cell in a fresh process; on a CPU what the resident set grew by from before the model was "
    "loaded. Hollow marks are published driver readings of a long-lived process, in decimal GB turned to "
    "GiB; where the study names no batch size they are dashed lines."
)

PUBLISHED_LEVEL = Entry("dashed: published, batch size not stated", QUIET, dash=(2, 2))


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are GPUs, columns models; memory in GiB from zero."""
    measured = summary.measured.with_columns(memory_gib=pl.col("memory_bytes") / 2**30)
    points = [
        *measured_points(measured, "memory_gib", None, None),
        *published_points(device_memory(summary.published), "memory_gib"),
    ]
    failed = failed_points(summary)

    def panel(here: Sequence[Row], lost: Sequence[Row], in_row: Sequence[Row], place: Place) -> Panel:
        x = batch_axis(summary, [*points, *failed], in_row[0]["gpu"]).at(place)
        y = zero_axis("Memory (GiB)", [row["value"] for row in in_row]).at(place)
        levels = [row for row in here if row["batch_size"] is None]
        before = []
        if levels:
            before.append(level_lines(levels, x, y, strokeDash=[2, 2], strokeWidth=1.1).encode(mode_colour(here)))
        return draw_series([row for row in here if row not in levels], lost, x, y, before=before)

    unsized = any(row["batch_size"] is None for row in points)
    entries = mode_entries(points) + common_entries(points, failed) + ([PUBLISHED_LEVEL] if unsized else [])
    notes = {"CPU": ", peak resident set"}
    return draw_grid(summary, points, failed, panel, entries, "memory over batch size", notes)
