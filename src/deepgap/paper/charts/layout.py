"""Where the parts of a figure stand: sizes, rows of panels, headings, notes, and sentences in the place of panels."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any, TypeAlias, TypeVar

import altair as alt
import polars as pl

from deepgap.paper.charts.theme import (
    COLUMN_WIDTH,
    CONFIG,
    FONT_SIZE,
    PAGE_HEIGHT,
    PAGE_WIDTH,
    QUIET,
    SMALL_FONT_SIZE,
)

Item = TypeVar("Item")
Panel: TypeAlias = alt.LayerChart
Row: TypeAlias = Mapping[str, Any]
PANEL_HEIGHT = 92
LEAST_HEIGHT = 40
ROW_EXTRA = 34
"""Height of a row's title, of the labels of its axis and of the gap above it, in points."""
AROUND = 54
"""Height of the headings, of the lowest axis' title and of the space round a figure."""
LABEL_EXTENT = 20
AXIS_WIDTH = LABEL_EXTENT + 24
GAP = 9
INDEPENDENT: dict[str, Any] = dict.fromkeys(("color", "shape", "strokeDash", "strokeWidth", "yOffset"), "independent")
APART = alt.Resolve(scale=alt.ScaleResolveMap(**INDEPENDENT))
"""Each panel with its own scales: shared ones would unite the domains and mix up colours and shapes."""
LEAST_LETTERS = 12
"""In a line of a sentence, however many panels stand side by side."""
GRID_WIDTH = PAGE_WIDTH - AXIS_WIDTH
PANEL_WIDTH = (GRID_WIDTH - 2 * GAP) // 3
COLUMN_GRID_WIDTH = COLUMN_WIDTH - AXIS_WIDTH
TALL = 1.3
"""How much higher a panel is that stands alone in a column of the page."""
SENTENCE_WIDTH = 150
"""Width in points of a sentence in the place of a figure: less than that of any figure, so that the text, which reads
the width, leaves it out."""


@dataclass(frozen=True)
class Place:
    """Where a panel stands in the grid: inner has an axis left of it, bottom is in the last row; its size in
    points."""

    inner: bool
    bottom: bool
    height: int = PANEL_HEIGHT
    width: int = PANEL_WIDTH


def row_height(rows: int, others: Sequence[Panel], most: int = PANEL_HEIGHT, extra: int = 0) -> int:
    """Height in points of each of so many rows of panels, so that a figure and its caption fit on a page.

    Args:
        others: the legend and what else stands above or below the rows.
        most: the height where there is room.
        extra: further height that is taken.
    """
    around = AROUND + extra + sum(int(panel.height) for panel in others)
    return max(LEAST_HEIGHT, min(most, (PAGE_HEIGHT - around) // rows - ROW_EXTRA))


def inline(rows: Sequence[Row]) -> pl.DataFrame:
    """The data of a layer. A frame, because Altair copies lists anew at each level of a grid."""
    return pl.DataFrame([dict(row) for row in rows], infer_schema_length=None)


def in_rows(items: Sequence[Item], most: int) -> list[Sequence[Item]]:
    """These items in order, in as few rows of at most this many as can be; the first row is a longest one."""
    count = ceil(len(items) / most)
    length, longer = divmod(len(items), count)
    starts = [row * length + min(row, longer) for row in range(count + 1)]
    return [items[start:end] for start, end in pairwise(starts)]


def overlay(layers: Sequence[alt.Chart], width: int, height: int) -> Panel:
    """The layers above each other, the last on top, in a panel of this size in points."""
    return alt.LayerChart(layer=list(layers), width=width, height=height)


def add_heading(panel: Panel, heading: str) -> Panel:
    """The panel with a heading above it; a title would stand higher where an axis title or a mark sticks out."""
    text = alt.Chart(inline([{"heading": heading}])).mark_text(
        text=heading, align="center", baseline="bottom", fontSize=FONT_SIZE
    )
    headed: Panel = panel + text.encode(x=alt.value(panel.width / 2), y=alt.value(-4))
    return headed


def words(text: str, width: int = PANEL_WIDTH, height: int = PANEL_HEIGHT, free: int = 0) -> Panel:
    """A panel that says in words why nothing is drawn; `free` points at its right are left to its neighbour."""
    room = width - free
    lines = textwrap.wrap(text, width=max(LEAST_LETTERS, int(room / (SMALL_FONT_SIZE * 0.5))))
    note = alt.Chart(inline([{"text": text}])).mark_text(
        text=lines,
        align="center",
        baseline="middle",
        lineHeight=SMALL_FONT_SIZE + 2,
        dy=-(len(lines) - 1) * 4.5,
        color=QUIET,
    )
    told = overlay([note.encode(x=alt.value(room / 2))], width, height)
    return told.properties(view=alt.ViewBackground(stroke=None))


def grid_width(columns: int) -> int:
    """Points for the panels of a figure with so many columns: one alone stands in a column of the page."""
    return COLUMN_GRID_WIDTH if columns == 1 else GRID_WIDTH


def panel_width(columns: int, names: int = AXIS_WIDTH) -> int:
    """Width in points of each panel of so many side by side, beside an axis or names of this width."""
    room = grid_width(columns) + AXIS_WIDTH - names
    return (room - (columns - 1) * GAP) // columns


def nothing_at_all(what: str) -> alt.VConcatChart:
    """The figure when there is neither a measured nor a published value."""
    return nothing_to_draw(f"Nothing to draw for {what}: no cells measured and no values published.")


def nothing_to_draw(text: str) -> alt.VConcatChart:
    """A figure that says in words why it is empty; the text of the paper leaves it out."""
    return alt.vconcat(words(text, width=SENTENCE_WIDTH, height=60), config=CONFIG)


def draw_notes(sentences: Sequence[str], width: int = GRID_WIDTH) -> list[Panel]:
    """A panel of sentences, each in lines of its own, or none."""
    lines = [line for text in sentences for line in textwrap.wrap(text, width=int(width / (SMALL_FONT_SIZE * 0.46)))]
    if not lines:
        return []
    rows = [{"text": line, "y": 5.0 + 9 * place} for place, line in enumerate(lines)]
    told = alt.Chart(inline(rows)).mark_text(align="left", baseline="middle", color=QUIET)
    note = overlay(
        [told.encode(x=alt.value(0), y=alt.Y("y:Q", scale=None, axis=None), text="text:N")],
        width,
        9 * len(lines),
    )
    return [note.properties(view=alt.ViewBackground(stroke=None))]


def pixels(field: str) -> alt.X:
    return alt.X(f"{field}:Q", scale=None, axis=None)
