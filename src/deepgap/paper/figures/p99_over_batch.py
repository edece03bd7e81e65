"""The tail of latency: the 99th percentile over the median, process by process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import log2
from typing import Any

import altair as alt
import polars as pl

from deepgap.analyse.schemas import KEY, MEASURED
from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import Axis, batch_axis, log_axis
from deepgap.paper.charts.layout import PANEL_WIDTH, Panel, Place, Row, inline, overlay, words
from deepgap.paper.charts.legend import Entry, common_entries, mode_entries
from deepgap.paper.charts.marks import (
    crosses,
    failed_points,
    fill_colour,
    large_first,
    level_lines,
    mode_colour,
    mode_shape,
    order_modes,
    point_fill,
)
from deepgap.paper.charts.panels import draw_grid, published_without_cells
from deepgap.paper.charts.theme import QUIET
from deepgap.study.cell import ALL_THREADS
from deepgap.study.words import model_label

SHOWS = ("measured",)
CAPTION = (
    "Tail of the device latency over batch size: the 99th percentile of the calls of one process over their median, "
    "both axes logarithmic; a mark a process, so that the marks of a mode show how far processes differ, and a "
    "vertical line from the lowest to the highest. The modes of a batch size stand side by side. A process with "
    "fewer than 100 calls has no mark; each panel says how many there are. The grey line is a call that always takes "
    "its median. Percentiles of processes are not pooled: where processes differ a pooled one is that of none. The "
    "published study states no tail by process."
)

LEVEL = Entry("p99 equal to the median", QUIET, dash=(1, 0), stroke_width=0.8)
ROOM = 1.2
"""For the words above the highest mark."""
SHARE = 0.62
"""Of the room between two batch sizes, in which the modes of one stand side by side."""
WIDEST = 0.9
"""Of that room on the binary logarithm."""


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are GPUs, columns models."""
    points = tail_points(summary)
    failed = failed_points(summary)
    sizes = {row["gpu"]: {other["batch_size"] for other in points if other["gpu"] == row["gpu"]} for row in points}

    def panel(here: Sequence[Row], lost: Sequence[Row], in_row: Sequence[Row], place: Place) -> Panel:
        gpu = in_row[0]["gpu"]
        known = [row for row in here if row["value"] is not None]
        note = left_out(here)
        if not known:
            return words(f"{model_label(here[0]['model'])}: {note}", height=place.height)
        x = batch_axis(summary, [*points, *failed], gpu).at(place)
        x = replace(x, low=x.low / 2 ** (WIDEST / 2), high=x.high * 2 ** (WIDEST / 2))
        levels = [row["value"] for row in in_row if row["value"] is not None]
        y = log_axis("p99 over median", [1.0, *levels, ROOM * max(levels)]).at(place)
        modes, step = order_modes(in_row), mode_step(sizes[gpu], len(order_modes(in_row)))
        middle = (len(modes) - 1) / 2
        placed = [
            {**row, "at": row["batch_size"] * 2 ** (step * (modes.index(row["mode"]) - middle))} for row in known
        ]
        return draw_tails(large_first(placed), lost, x, y, note, place.height)

    seen = [row for row in points if row["value"] is not None]
    entries = [*mode_entries(seen, line=False), *([LEVEL] if seen else []), *common_entries(seen, failed)]
    what, below = "the tail of latency", published_without_cells(summary)
    return draw_grid(summary, points, failed, panel, entries, what, of=None, below=below)


def tail_points(summary: Summary) -> list[dict[str, Any]]:
    """A point a process with all threads: its 99th percentile over its median, the highest of its runs; null where it
    has too few calls."""
    key = [*KEY, "sweep", "session"]
    processes = (
        summary.runs.filter(pl.col("threads") == ALL_THREADS, pl.col("median_ms").is_not_null())
        .group_by(*key, "runtime", "precision", "layout", maintain_order=True)
        .agg(value=(pl.col("p99_ms") / pl.col("median_ms")).max())
        .join(summary.families.select(*KEY, "primary"), on=list(KEY), how="left")
    )
    rows = summary.ordered(processes).with_columns(source=pl.lit(MEASURED)).to_dicts()
    return [{**row, "primary": bool(row["primary"]), "fill": point_fill(row)} for row in rows]


def mode_step(batch_sizes: set[int], modes: int) -> float:
    """The binary logarithm between two modes that stand side by side at one batch size."""
    places = sorted(log2(size) for size in batch_sizes)
    gaps = [after - before for before, after in pairwise(places)]
    return min([WIDEST, *(SHARE * gap for gap in gaps)]) / modes


def left_out(rows: Sequence[Row]) -> str:
    """How many of these processes have no p99; empty when all have one."""
    without = sum(row["value"] is None for row in rows)
    return f"{without} of {len(rows)} processes: under 100 calls" if without else ""


def draw_tails(here: Sequence[Row], lost: Sequence[Row], x: Axis, y: Axis, note: str, height: int) -> Panel:
    """The marks of the processes, a line over those of a mode, and what was left out in words."""
    spans: dict[tuple[str, float], list[Row]] = {}
    for row in here:
        spans.setdefault((row["mode"], row["at"]), []).append(row)
    ranges = [
        {**rows[0], "low": min(row["value"] for row in rows), "high": max(row["value"] for row in rows)}
        for rows in spans.values()
    ]
    xs, shape = x.x("at", "d"), mode_shape(here)
    layers = [
        level_lines([{"value": 1.0}], x, y, color=QUIET, strokeWidth=LEVEL.stroke_width),
        alt.Chart(inline(ranges))
        .mark_rule(strokeWidth=0.6)
        .encode(xs, y.y("low", "~g"), alt.Y2("high:Q"), fill_colour()),
        alt.Chart(inline(here))
        .mark_point(filled=True, size=7, opacity=1)
        .encode(xs, y.y("value", "~g"), fill_colour(), shape),
    ]
    if note:
        text = alt.Chart(inline([{"words": note}])).mark_text(text=note, align="right", baseline="top", color=QUIET)
        layers.append(text.encode(x=alt.value(PANEL_WIDTH - 3), y=alt.value(2)))
    if lost:
        layers.append(crosses(lost, x.x("batch_size", "d"), mode_colour([*here, *lost]), height))
    return overlay(layers, PANEL_WIDTH, height)
