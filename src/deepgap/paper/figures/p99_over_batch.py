"""The tail of latency: the 99th percentile over the median, process by process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from deepgap.analyse.schemas import KEY, MEASURED
from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import Axis
from deepgap.paper.charts.layout import Panel, Place, Row, inline, overlay, pixels, words
from deepgap.paper.charts.legend import Entry, common_entries, mode_entries
from deepgap.paper.charts.marks import (
    failed_points,
    fill_colour,
    mark_size,
    mode_shape,
    order_modes,
    point_fill,
)
from deepgap.paper.charts.panels import draw_grid
from deepgap.paper.charts.theme import QUIET
from deepgap.paper.wording import failures_in_words
from deepgap.study.cell import ALL_THREADS
from deepgap.study.words import model_label

SHOWS = ("measured",)
CAPTION = (
    "Tail of the device latency: the 99th percentile of the calls of one process over their median, logarithmic; a "
    "dot a process, and a vertical line from the lowest to the highest of a batch size. The modes stand side by "
    "side in the order of the legend, and in each its batch sizes, from the smallest at the left. Pale dots have a "
    "flag that keeps them out of the primary set. A process with fewer than 100 calls has no dot; each panel says "
    "how many there are. The grey line is a call that always takes its median. All devices have one scale. "
    "Percentiles of processes are not pooled: where processes differ a pooled one is that of none. The published "
    "study states no tail by process."
)

LEVEL = Entry("p99 equal to the median", QUIET, dash=(1, 0), stroke_width=0.8)
TICKS = (1.0, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0)
SHARE = 0.8
"""Of the room of a mode, in which its batch sizes stand side by side."""


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are devices, columns models."""
    points = tail_points(summary)
    failed = failed_points(summary)
    modes, sizes = order_modes(points), sorted({row["batch_size"] for row in points})
    y = tail_axis([row["value"] for row in points if row["value"] is not None])

    def panel(here: Sequence[Row], lost: Sequence[Row], scaled: Sequence[Row], place: Place) -> Panel:
        known = [row for row in here if row["value"] is not None]
        note = left_out(here)
        if not known:
            return words(f"{model_label(here[0]['model'])}: {note}", width=place.width, height=place.height)
        return draw_tails(place_tails(known, modes, sizes, place.width), lost, y.at(place), note, place)

    seen = [row for row in points if row["value"] is not None]
    entries = [*mode_entries(seen, line=False), *([LEVEL] if seen else []), *common_entries(seen, [])]
    return draw_grid(summary, points, failed, panel, entries, "the tail of latency", of=None)


def tail_axis(values: Sequence[float]) -> Axis:
    """From just under one, which no tail falls below by much, to the highest, with room for words above it."""
    low, high = 0.97 * min([1.0, *values]), 1.35 * max([1.2, *values])
    within = tuple(tick for tick in TICKS if tick <= high / (high / low) ** 0.05)
    return Axis("p99 over median", low, high, within if len(within) <= 7 else within[::2], 10)


def place_tails(rows: Sequence[Row], modes: Sequence[str], sizes: Sequence[int], width: int) -> list[dict[str, Any]]:
    """The rows with `at`, their place in points: by mode, and in the room of a mode by batch size."""
    room = width / len(modes)
    inner = SHARE * room / len(sizes)
    return [
        {
            **row,
            "at": (modes.index(row["mode"]) + 0.5) * room
            + (sizes.index(row["batch_size"]) - (len(sizes) - 1) / 2) * inner,
        }
        for row in rows
    ]


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


def left_out(rows: Sequence[Row]) -> str:
    """How many of these processes have no p99; empty when all have one."""
    without = sum(row["value"] is None for row in rows)
    return f"{without} of {len(rows)} processes: under 100 calls" if without else ""


def draw_tails(here: Sequence[Row], lost: Sequence[Row], y: Axis, note: str, place: Place) -> Panel:
    """The marks of the processes, a line over those of a mode and batch size, and what has none in words."""
    spans: dict[tuple[str, float], list[Row]] = {}
    for row in here:
        spans.setdefault((row["mode"], row["at"]), []).append(row)
    ranges = [
        {**rows[0], "low": min(row["value"] for row in rows), "high": max(row["value"] for row in rows)}
        for rows in spans.values()
    ]
    xs, shape = pixels("at"), mode_shape(here)
    ends = [{"value": 1.0, "at": 0, "right": place.width}]
    level = alt.Chart(inline(ends)).mark_rule(color=QUIET, strokeWidth=LEVEL.stroke_width)
    layers = [
        level.encode(xs, y.y("value", "~g"), alt.X2("right:Q")),
        alt.Chart(inline(ranges))
        .mark_rule(strokeWidth=0.5)
        .encode(xs, y.y("low", "~g"), alt.Y2("high:Q"), fill_colour()),
        alt.Chart(inline(here))
        .mark_point(filled=True, size=mark_size(place.width, 8), opacity=1)
        .encode(xs, y.y("value", "~g"), fill_colour(), shape),
    ]
    lines = [text for text in (note, failures_in_words(lost)) if text]
    if lines:
        text = alt.Chart(inline([{"words": "; ".join(lines)}])).mark_text(
            text=lines, align="right", baseline="top", lineHeight=8, color=QUIET
        )
        layers.append(text.encode(x=alt.value(place.width - 3), y=alt.value(2)))
    return overlay(layers, place.width, place.height)
