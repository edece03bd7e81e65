"""The legend of a figure, drawn apart from its panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from deepgap.analyse.schemas import MEASURED, PUBLISHED
from deepgap.paper.charts.layout import (
    APART,
    GRID_WIDTH,
    Panel,
    Row,
    inline,
    overlay,
    pixels,
)
from deepgap.paper.charts.marks import (
    ARROW,
    ARROW_SIZE,
    BOUNDS,
    GROUND_WIDTH,
    HELD_GROUND,
    HOLLOW_SIZE,
    LAUNCH_GROUND,
    OUTLINE,
    PALE,
    order_modes,
)
from deepgap.paper.charts.theme import (
    FONT_SIZE,
    INK,
    QUIET,
    mode_mark,
    precision_colour,
    tint,
)
from deepgap.study.words import mode_parts


@dataclass(frozen=True)
class Entry:
    """One entry of the legend: a point, a line, or both, and its words."""

    label: str
    colour: str = INK
    shape: str | None = None
    dash: tuple[float, ...] | None = None
    filled: bool = True
    size: int = 22
    angle: int = 0
    outlined: bool = False
    stroke_width: float = 1.1


def mode_entries(points: Sequence[Row], line: bool = True) -> list[Entry]:
    """An entry for each mode; one that only the published study has is hollow and has no line."""
    measured = {row["mode"] for row in points if row["source"] == MEASURED}
    entries = []
    for mode in order_modes(points):
        precision = mode_parts(mode).precision
        shape, dash = mode_mark(mode)
        if mode in measured:
            entries.append(Entry(mode, precision_colour(precision), shape, tuple(dash) if line else None))
        else:
            entries.append(Entry(mode, precision_colour(precision), shape, filled=False, size=HOLLOW_SIZE))
    return entries


PEAK = Entry("measured peak", QUIET, "circle", size=23, outlined=True)
PUBLISHED_POINT = Entry("hollow: published", QUIET, "circle", filled=False, size=HOLLOW_SIZE)
PUBLISHED_BOUND = Entry("arrow: a bound is published", QUIET, ARROW, filled=False, size=ARROW_SIZE)
FLAGGED = Entry("pale: flagged", tint(QUIET, PALE), "circle", size=26)
LAUNCH_BOUND = Entry("light ground: launch-bound", LAUNCH_GROUND, dash=(1, 0), stroke_width=GROUND_WIDTH)
POWER_HELD = Entry("dark ground: power-held", HELD_GROUND, dash=(1, 0), stroke_width=GROUND_WIDTH)
FAILED = Entry("out of memory or unsupported", QUIET, "cross", size=26, angle=45)


def common_entries(points: Sequence[Row], failed: Sequence[Row], shaded: bool = False) -> list[Entry]:
    """The entries for flagged and published points, bounds and failures, where there are any; and for the grounds of
    `shade_ranges` where these are drawn."""
    entries = [FLAGGED] if any(row.get("primary") is False for row in points) else []
    if shaded:
        entries += [LAUNCH_BOUND] if any(row.get("launch_bound") for row in points) else []
        entries += [POWER_HELD] if any(row.get("power_held") for row in points) else []
    entries += [PUBLISHED_POINT] if any(row["source"] == PUBLISHED for row in points) else []
    entries += [PUBLISHED_BOUND] if any(row.get("approx") in BOUNDS for row in points) else []
    return entries + ([FAILED] if failed else [])


def draw_legend(entries: Sequence[Entry], width: int = GRID_WIDTH) -> Panel:
    """All entries in lines over this width, that of the grid; places are in pixels."""
    line_height = 11
    x, y = 0.0, line_height / 2
    rows: list[dict[str, Any]] = []
    for entry in entries:
        key = 14 if entry.dash is None else 26
        length = key + len(entry.label) * FONT_SIZE * 0.46 + 10
        if x + length > width and x > 0:
            x, y = 0.0, y + line_height
        rows.append(
            {
                "label": entry.label,
                "left": x,
                "middle": x + (key - 4) / 2,
                "right": x + key - 4,
                "words": x + key,
                "y": y,
                "shape": entry.shape,
                "size": entry.size,
                "angle": entry.angle,
                "fill": entry.colour if entry.filled else "transparent",
                "stroke": INK if entry.outlined else entry.colour,
                "line": entry.stroke_width,
                "width": 1.2 if not entry.filled else OUTLINE if entry.outlined else 0,
            }
        )
        x += length
    place = alt.Y("y:Q", scale=None, axis=None)
    layers = [
        _legend_lines(entries, rows, place),
        _legend_points([row for row in rows if row["shape"] is not None], place),
        alt.Chart(inline(rows))
        .mark_text(align="left", baseline="middle", fontSize=FONT_SIZE)
        .encode(pixels("words"), place, text="label:N"),
    ]
    blank = alt.ViewBackground(stroke=None)
    legend = overlay(layers, width, int(y + line_height / 2))
    return legend.properties(view=blank, resolve=APART)


def _legend_lines(entries: Sequence[Entry], rows: Sequence[Row], place: alt.Y) -> alt.Chart:
    lines = [(entry, row) for entry, row in zip(entries, rows, strict=True) if entry.dash is not None]
    labels = [entry.label for entry, _ in lines]

    def look(values: list[Any]) -> alt.Scale:
        return alt.Scale(domain=labels, range=values)

    chart: alt.Chart = (
        alt.Chart(inline([row for _, row in lines]))
        .mark_rule()
        .encode(
            pixels("left"),
            place,
            alt.X2("right:Q"),
            alt.Color("label:N", legend=None, scale=look([entry.colour for entry, _ in lines])),
            alt.StrokeDash("label:N", legend=None, scale=look([list(entry.dash or ()) for entry, _ in lines])),
            strokeWidth=alt.StrokeWidth("line:Q", scale=None),
        )
    )
    return chart


def _legend_points(rows: Sequence[Row], place: alt.Y) -> alt.Chart:
    chart: alt.Chart = (
        alt.Chart(inline(rows))
        .mark_point(opacity=1)
        .encode(
            pixels("middle"),
            place,
            shape=alt.Shape("shape:N", scale=None),
            size=alt.Size("size:Q", scale=None),
            angle=alt.Angle("angle:Q", scale=None),
            fill=alt.Fill("fill:N", scale=None),
            stroke=alt.Stroke("stroke:N", scale=None),
            strokeWidth=alt.StrokeWidth("width:Q", scale=None),
        )
    )
    return chart
