"""Device memory over batch size, and what an image adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from deepgap.analyse.lines import robust_line
from deepgap.analyse.schemas import MEASURED
from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import Axis, batch_axis, zero_axis
from deepgap.paper.charts.layout import Panel, Place, Row, inline, overlay, pixels
from deepgap.paper.charts.legend import Entry, common_entries, mode_entries
from deepgap.paper.charts.marks import (
    failed_points,
    level_lines,
    mark_size,
    measured_points,
    mode_colour,
    mode_dash,
    mode_shape,
    order_modes,
    published_points,
)
from deepgap.paper.charts.panels import Under, draw_grid, draw_series
from deepgap.paper.charts.theme import QUIET
from deepgap.published.values import device_memory

CAPTION = (
    "Device memory over batch size (marks): the most that the driver counted while a cell ran, above the idle "
    "device, as samples show it, each cell in a fresh process; a point is the most of a family's cells, whose "
    "number stands above each row. Thin lines: the most that PyTorch's allocator had given out at any time of the "
    "cell, which leaves out the context and the libraries; samples can miss a peak between two of them. Below, what "
    "an image adds: the median of the slopes between all pairs of batch sizes of a mode, with its number; a mode "
    "with fewer than three batch sizes has none. On a CPU the memory is what the resident set grew by from before "
    "the model was loaded, at its peak. Hollow marks are published driver readings of a long-lived process, in "
    "decimal GB turned to GiB, of cards that were measured here; where the study names no batch size they are "
    "dashed lines."
)

SLOPE_HEIGHT = 40
MIB = 2**20
ALLOCATED = Entry("thin line: allocator's peak", QUIET, dash=(1, 0), stroke_width=0.6)
PUBLISHED_LEVEL = Entry("dashed: published, batch size not stated", QUIET, dash=(2, 2))


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are devices and in each the memory, in GiB from zero, and the slopes; columns models."""
    measured = summary.measured.with_columns(
        memory_gib=pl.col("memory_bytes") / 2**30, allocated_gib=pl.col("memory_allocated_bytes") / 2**30
    )
    points = [
        *measured_points(measured, "memory_gib", None, None, "allocated_gib"),
        *published_points(summary, device_memory(summary.published), "memory_gib"),
    ]
    failed = failed_points(summary)
    slopes = image_slopes(points)

    def panel(here: Sequence[Row], lost: Sequence[Row], scaled: Sequence[Row], place: Place) -> Panel:
        x = batch_axis(summary, [*points, *failed], here[0]["gpu"]).at(place)
        most = [row.get(key) for row in scaled for key in ("value", "allocated_gib")]
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
        return draw_series([row for row in here if row not in levels], lost, x, y, place, before, shaded=False)

    def added(here: Sequence[Row], lost: Sequence[Row], scaled: Sequence[Row], place: Place) -> Panel:
        devices = {row["gpu"] for row in scaled}
        y = zero_axis("MiB/image", [1.0, *(1.35 * row["mib"] for row in slopes if row["gpu"] in devices)], 2.5)
        own = [row for row in slopes if (row["gpu"], row["model"]) == (here[0]["gpu"], here[0]["model"])]
        return draw_slopes(own, order_modes(slopes), y.at(place), place)

    entries = mode_entries(points)
    entries += [ALLOCATED] if any(row.get("allocated_gib") is not None for row in points) else []
    entries += common_entries(points, failed)
    entries += [PUBLISHED_LEVEL] if any(row["batch_size"] is None for row in points) else []
    notes = {key: ", peak resident set" for key, gpu in summary.gpus.items() if gpu.device == "cpu"}
    under = Under(added, SLOPE_HEIGHT, continues=False) if slopes else None
    return draw_grid(summary, points, failed, panel, entries, "memory over batch size", notes, of="cell", under=under)


def image_slopes(points: Sequence[Row]) -> list[dict[str, Any]]:
    """What an image adds in each gpu, model and mode, in MiB; none of a mode with too few batch sizes."""
    curves: dict[tuple[str, str, str], list[Row]] = {}
    for row in points:
        if row["source"] == MEASURED:
            curves.setdefault((row["gpu"], row["model"], row["mode"]), []).append(row)
    found = []
    for curve in curves.values():
        line = robust_line([row["batch_size"] for row in curve], [row["value"] * 2**30 / MIB for row in curve])
        if line is not None:
            about = {name: curve[0][name] for name in ("gpu", "model", "mode", "runtime", "precision")}
            found.append(
                {**about, "mib": line.each, "words": f"{line.each:.0f}" if line.each >= 10 else f"{line.each:.1f}"}
            )
    return found


def draw_slopes(here: Sequence[Row], modes: Sequence[str], y: Axis, place: Place) -> Panel:
    """A mark a mode, side by side in the order of the legend, each with its number above it."""
    step = place.width / len(modes)
    rows = [{**row, "left": (modes.index(row["mode"]) + 0.5) * step} for row in here]
    if not rows:
        return overlay([level_lines([{"value": 0.0}], _across(place), y, color=QUIET)], place.width, place.height)
    data, ys = alt.Chart(inline(rows)), y.y("mib")
    marks = data.mark_point(filled=True, size=mark_size(place.width, 16), opacity=1)
    text = data.mark_text(align="center", baseline="bottom", dy=-4)
    return overlay(
        [
            marks.encode(pixels("left"), ys, mode_colour(rows), mode_shape(rows)),
            text.encode(pixels("left"), ys, text="words:N"),
        ],
        place.width,
        place.height,
    )


def _across(place: Place) -> Axis:
    return Axis(None, 0, place.width, (), None, horizontal=True)
