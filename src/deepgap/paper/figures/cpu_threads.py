"""Throughput over the number of threads of a processor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import Axis, log_axis
from deepgap.paper.charts.layout import Panel, Place, Row, inline, nothing_to_draw, overlay
from deepgap.paper.charts.legend import Entry, mode_entries
from deepgap.paper.charts.marks import measured_points, mode_colour, mode_dash, mode_shape
from deepgap.paper.charts.panels import draw_grid
from deepgap.paper.charts.theme import INK

DEVICES = ("cpu",)
CAPTION = (
    "Throughput of a processor over its number of threads, both axes logarithmic: median over sweeps with its exact "
    "order-statistic interval, at least 95 %; a line a mode and batch size B, which stands at its right end, in the "
    "order of the lines where they are close. Thin lines are ideal: throughput in proportion to the threads, from "
    "the fewest. The last number of threads is that of all cores of the process. The published study states none of "
    "its values over the number of threads."
)

FEWEST_COUNTS = 3
"""With fewer numbers of threads a curve says nothing of how a processor scales: two virtual cores have no such
curve."""
LABEL_HEIGHT = 7
IDEAL = Entry("thin line: in proportion to the threads", INK, dash=(1, 0), stroke_width=0.4)


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are processors, columns models."""
    points = thread_points(summary)
    if not points:
        return nothing_to_draw(
            f"No processor was measured with {FEWEST_COUNTS} numbers of threads or more: there is no scaling to draw."
        )

    def panel(here: Sequence[Row], lost: Sequence[Row], scaled: Sequence[Row], place: Place) -> Panel:
        x = thread_axis([row["threads"] for row in scaled]).at(place)
        levels = [row[key] for row in scaled for key in ("value", "low", "high")]
        y = log_axis("Throughput (img/s)", [*levels, *(row["top"] for row in ideal_lines(scaled))]).at(place)
        return draw_scaling(here, x, y, place)

    return draw_grid(summary, points, [], panel, [*mode_entries(points), IDEAL], "thread scaling")


def thread_points(summary: Summary) -> list[dict[str, Any]]:
    """The families that were measured with several numbers of threads, on processors with enough of them; `threads`
    is how many there really were."""
    real = pl.coalesce("intraop_threads", pl.when(pl.col("threads") > 0).then("threads"))
    families = summary.thread_scaling.with_columns(threads=real).filter(pl.col("threads").is_not_null())
    columns = ("throughput_img_s", "throughput_low_img_s", "throughput_high_img_s")
    points = measured_points(families, *columns, "threads")
    counts: dict[str, set[int]] = {}
    for row in points:
        counts.setdefault(row["gpu"], set()).add(row["threads"])
    return [
        {**row, "line": f"{row['mode']} {row['batch_size']}"}
        for row in points
        if len(counts[row["gpu"]]) >= FEWEST_COUNTS
    ]


def thread_axis(counts: Sequence[int]) -> Axis:
    """Numbers of threads on a binary logarithm, a tick at each, with room for words at the right."""
    ticks = tuple(sorted({float(count) for count in counts}))
    low, high = ticks[0], max(ticks[-1], 2 * ticks[0])
    span = high / low
    return Axis("Threads", low / span**0.08, high * span**0.32, ticks, base=2, horizontal=True)


def ideal_lines(points: Sequence[Row]) -> list[dict[str, Any]]:
    """For each line the proportional one from its fewest threads to its most: left, right (threads), bottom, top
    (images a second)."""
    lines = []
    for name in dict.fromkeys((row["gpu"], row["model"], row["line"]) for row in points):
        of_line = [row for row in points if (row["gpu"], row["model"], row["line"]) == name]
        first, last = (choose(of_line, key=lambda row: row["threads"]) for choose in (min, max))
        top = first["value"] * last["threads"] / first["threads"]
        lines.append({"left": first["threads"], "right": last["threads"], "bottom": first["value"], "top": top})
    return lines


def draw_scaling(here: Sequence[Row], x: Axis, y: Axis, place: Place) -> Panel:
    """The lines of a panel, each with its ideal and its batch size."""
    colour, shape, dash = mode_colour(here), mode_shape(here), mode_dash(here)
    xs, ys = x.x("threads", "d"), y.y("value")
    ends = [
        {"threads": line[side], "value": line[level], "name": place}
        for place, line in enumerate(ideal_lines(here))
        for side, level in (("left", "bottom"), ("right", "top"))
    ]
    ideal = alt.Chart(inline(ends)).mark_line(color=IDEAL.colour, strokeWidth=IDEAL.stroke_width)
    data = alt.Chart(inline(here))
    layers = [
        ideal.encode(xs, ys, detail="name:N"),
        data.mark_line().encode(xs, ys, colour, dash, detail="line:N"),
    ]
    spans = [row for row in here if row["low"] is not None]
    if spans:
        rules = alt.Chart(inline(spans)).mark_rule(strokeWidth=0.8)
        layers.append(rules.encode(xs, y.y("low"), alt.Y2("high:Q"), colour))
    layers.append(data.mark_point(filled=True, size=20, opacity=1).encode(xs, ys, colour, shape))
    text = alt.Chart(inline(end_labels(here, y, place.height))).mark_text(align="left", baseline="middle", dx=5)
    layers.append(text.encode(xs, alt.Y("label_y:Q", scale=None, axis=None), text="words:N"))
    return overlay(layers, place.width, place.height)


def end_labels(here: Sequence[Row], y: Axis, height: int) -> list[dict[str, Any]]:
    """The batch sizes at the right ends of the lines, at `label_y` pixels; those that would overlap are moved apart,
    in the order of the lines."""
    ends = [
        max((row for row in here if row["line"] == line), key=lambda row: int(row["threads"]))
        for line in dict.fromkeys(row["line"] for row in here)
    ]
    groups: list[list[tuple[float, Row]]] = []

    def top_of(group: Sequence[tuple[float, Row]]) -> float:
        """Where the first label of a group stands, so that they are centred on their lines' ends."""
        return sum(end for end, _ in group) / len(group) - LABEL_HEIGHT * (len(group) - 1) / 2

    for row in sorted(ends, key=lambda row: -float(row["value"])):
        end = height * (1 - y.share(row["value"]))
        if groups and end < top_of(groups[-1]) + LABEL_HEIGHT * len(groups[-1]):
            groups[-1].append((end, row))
        else:
            groups.append([(end, row)])
    return [
        {
            "threads": row["threads"],
            "label_y": top_of(group) + LABEL_HEIGHT * place,
            "words": f"B={row['batch_size']}",
        }
        for group in groups
        for place, (_, row) in enumerate(group)
    ]
