"""The points of figures and their marks: colour, shape and dash by mode, hollow if published, crossed if failed."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt
import polars as pl

from deepgap.analyse.schemas import MEASURED
from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import Axis
from deepgap.paper.charts.layout import (
    PANEL_WIDTH,
    Row,
    inline,
)
from deepgap.paper.charts.theme import (
    QUIET,
    mode_mark,
    precision_colour,
    tint,
)
from deepgap.paper.wording import failures_in_words
from deepgap.published.values import CPU as PUBLISHED_CPU
from deepgap.study.words import by_mode

HOLLOW_SIZE = 38
NARROW_PANEL = 140
"""Below this width in points a panel has smaller marks, so that ten batch sizes stay apart."""
OUTLINE = 0.7
PALE = 0.45
"""How much colour a measured mark has that a flag keeps out of the primary set."""
ARROW, ARROW_SIZE = "M0,1V-1M-0.7,-0.2L0,-1L0.7,-0.2", 30
BOUNDS = {"over": 1, "at_least": 1, "under": -1, "at_most": -1}
"""How a published value is marked of which only a bound is stated, and on which side of it the true one lies."""


def measured_points(
    families: pl.DataFrame, value: str, low: str | None, high: str | None, *extra: str
) -> list[dict[str, Any]]:
    """Rows of `Summary.measured` as points: `value` and its interval, in the unit of that column, their `fill`, and
    extra columns."""
    none = pl.lit(None, pl.Float64)
    rows = (
        families.filter(pl.col(value).is_not_null())
        .select(
            *("gpu", "model", "runtime", "precision", "batch_size", "mode", "primary", "launch_bound", *extra),
            pl.col(value).cast(pl.Float64).alias("value"),
            (none if low is None else pl.col(low)).alias("low"),
            (none if high is None else pl.col(high)).alias("high"),
            power_held=pl.col("flags").list.contains("power_held"),
            source=pl.lit(MEASURED),
        )
        .to_dicts()
    )
    return [{**row, "fill": point_fill(row)} for row in rows]


def point_fill(row: Row) -> str:
    """The colour of a measured mark: that of its precision, pale where it is not of the primary set."""
    colour = precision_colour(row["precision"])
    return colour if row["primary"] else tint(colour, PALE)


def fill_colour() -> alt.Color:
    """Each measured mark in its `fill`."""
    return alt.Color("fill:N", scale=None, legend=None)


def hollow_stroke() -> alt.Stroke:
    """The outline of a measured mark that is open, in its `fill`."""
    return alt.Stroke("fill:N", scale=None, legend=None)


def published_points(summary: Summary, view: pl.DataFrame, value: str, *extra: str) -> list[dict[str, Any]]:
    """Rows of a published view as points; those of the published processor belong to the row of
    `summary.processor`.

    A published value stands inside the panel of its card: those of devices and models without measured cells are left
    out, unless nothing is measured.
    """
    rows = view.select(
        pl.col("gpu").replace(PUBLISHED_CPU, summary.processor),
        *("model", "runtime", "precision", "batch_size", *extra),
        pl.format("{}-{}", "runtime", "precision").alias("mode"),
        pl.col(value).alias("value"),
        pl.lit(None, pl.Float64).alias("low"),
        pl.lit(None, pl.Float64).alias("high"),
        "source",
    )
    families = summary.families
    if not families.is_empty():
        rows = rows.filter(pl.col("gpu").is_in(set(families["gpu"])), pl.col("model").is_in(set(families["model"])))
    return rows.to_dicts()


def failed_points(summary: Summary) -> list[dict[str, Any]]:
    """The cell families that were tried and have no numbers."""
    return summary.failed.select(
        "gpu",
        "model",
        "runtime",
        "precision",
        "batch_size",
        "mode",
        "status",
        "reason",
        source=pl.lit(MEASURED),
    ).to_dicts()


def mode_colour(rows: Sequence[Row]) -> alt.Color:
    """Colour by precision; the legend is drawn apart."""
    precisions = sorted({row["precision"] for row in rows})
    scale = alt.Scale(domain=precisions, range=[precision_colour(name) for name in precisions])
    return alt.Color("precision:N", legend=None, scale=scale)


def mode_shape(rows: Sequence[Row]) -> alt.Shape:
    """Point shape by mode: that of its runtime, but for a few."""
    modes = order_modes(rows)
    scale = alt.Scale(domain=modes, range=[mode_mark(mode)[0] for mode in modes])
    return alt.Shape("mode:N", legend=None, scale=scale)


def mode_dash(rows: Sequence[Row]) -> alt.StrokeDash:
    """Line dash by mode: that of its runtime, but for a few."""
    modes = order_modes(rows)
    scale = alt.Scale(domain=modes, range=[mode_mark(mode)[1] for mode in modes])
    return alt.StrokeDash("mode:N", legend=None, scale=scale)


LAUNCH_GROUND, HELD_GROUND = "#e6e6e6", "#f0c95a"
"""Behind the part of a curve that launching bounds, and behind that which the power limit holds down."""
GROUND_WIDTH = 6.5


def shade_ranges(rows: Sequence[Row], xs: alt.X, ys: alt.Y) -> list[alt.Chart]:
    """A broad ground behind the measured points of each mode that launching bounds, or that the power limit holds
    down: along the curve between two of them, and a spot about each."""
    layers: list[alt.Chart] = []
    for state, colour in (("launch_bound", LAUNCH_GROUND), ("power_held", HELD_GROUND)):
        some = [{**row, "run": run} for row, run in _runs(rows, state) if row[state]]
        if some:
            data = alt.Chart(inline(some))
            line = data.mark_line(strokeWidth=GROUND_WIDTH, color=colour, strokeCap="round", strokeJoin="round")
            layers.append(line.encode(xs, ys, detail="run:N"))
            layers.append(data.mark_point(filled=True, size=42, color=colour, opacity=1).encode(xs, ys))
    return layers


def _runs(rows: Sequence[Row], state: str) -> list[tuple[Row, str]]:
    """Each row by batch size, with the name of the run of neighbours of its mode that are alike in `state`."""
    found: list[tuple[Row, str]] = []
    last: dict[str, tuple[Any, int]] = {}
    for row in sorted(rows, key=lambda row: int(row["batch_size"])):
        before, run = last.get(row["mode"], (row[state], 0))
        run += before != row[state]
        last[row["mode"]] = row[state], run
        found.append((row, f"{row['mode']} {run}"))
    return found


def mark_size(width: float, size: float = 13) -> float:
    """The area of a mark in a panel of this width, both in points, which is `size` where there is room."""
    return size if width >= NARROW_PANEL else 0.6 * size


def large_first(rows: Iterable[Row]) -> list[Row]:
    """The rows in the order in which their marks are drawn: a graph's, which are larger, under all others."""
    return sorted(rows, key=lambda row: row["runtime"] != "graph")


def level_lines(rows: Sequence[Row], x: Axis, y: Axis, **look: Any) -> alt.Chart:
    """Horizontal lines at `value` over the whole width."""
    spans = [{**row, "left": x.low, "right": x.high} for row in rows]
    lines = alt.Chart(inline(spans)).mark_rule(**look)
    chart: alt.Chart = lines.encode(x.x("left", "d"), y.y("value"), alt.X2("right:Q"))
    return chart


def hollow_points(
    rows: Sequence[Row], xs: alt.X, ys: alt.Y, colour: alt.Color, shape: alt.Shape, *more: Any, along: str = "y"
) -> list[alt.Chart]:
    """Published values: outlines only, and an arrow from those of which the study states a bound alone.

    Args:
        more: further channels.
        along: the channel of the value, in whose direction the true one lies from its bound.
    """

    def draw(some: Sequence[Row], **look: Any) -> alt.Chart:
        marks = alt.Chart(inline(some)).mark_point(filled=False, opacity=1, **look)
        chart: alt.Chart = marks.encode(xs, ys, colour, *more)
        return chart

    layers = [draw(rows, size=HOLLOW_SIZE, strokeWidth=1.2).encode(shape)]
    for sign in (1, -1):
        bounds = [row for row in rows if BOUNDS.get(row.get("approx", "")) == sign]
        look: dict[str, Any] = {"xOffset": 7.5 * sign, "angle": 180 - 90 * sign}
        if along == "y":
            look = {"yOffset": -7.5 * sign, "angle": 90 - 90 * sign}
        if bounds:
            layers.append(draw(bounds, shape=ARROW, size=ARROW_SIZE, strokeWidth=1, **look))
    return layers


def arrow_ends(rows: Sequence[Row]) -> list[float]:
    """Values that an axis must hold too, so that the arrows of bounds do not leave it."""
    return [row["value"] * 2.5 ** BOUNDS[row["approx"]] for row in rows if row.get("approx") in BOUNDS]


def crosses(failed: Sequence[Row], xs: alt.X, colour: alt.Color, height: int) -> alt.Chart:
    """A cross at the foot of the panel at each batch size that failed, one line a mode."""
    modes = order_modes(failed)
    rows = [{**row, "foot": height - 5 - 7 * modes.index(row["mode"])} for row in failed]
    foot = alt.Y("foot:Q", scale=None, axis=None)
    marks = alt.Chart(inline(rows)).mark_point(shape="cross", angle=45, filled=True, size=26, opacity=1)
    chart: alt.Chart = marks.encode(xs, foot, colour)
    return chart


def failure_note(
    lost: Sequence[Row], height: int | None = None, letters: int = 18, width: int = PANEL_WIDTH
) -> alt.Chart:
    """What failed in words, in the lower right corner of a panel of this size or, without a height, in the upper left
    one."""
    lines = textwrap.wrap(failures_in_words(lost), width=letters)
    note = alt.Chart(inline([{"words": " ".join(lines)}]))
    if height is None:
        told = note.mark_text(text=lines, align="left", baseline="top", lineHeight=8, color=QUIET)
        corner: alt.Chart = told.encode(x=alt.value(3), y=alt.value(3))
        return corner
    told = note.mark_text(
        text=lines, align="right", baseline="bottom", lineHeight=8, dy=-8 * (len(lines) - 1), color=QUIET
    )
    corner = told.encode(x=alt.value(width - 3), y=alt.value(height - 3))
    return corner


def order_modes(rows: Iterable[Row]) -> list[str]:
    """The modes of these rows, as tables list them."""
    return sorted({row["mode"] for row in rows}, key=by_mode)
