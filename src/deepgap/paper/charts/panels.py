"""The parts that figures share: axes, the marks of a panel, the legend, and the grid of GPU by model."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, floor, log, log10, sqrt
from typing import Any, TypeAlias, TypeVar

import altair as alt
import polars as pl

from deepgap.analyse.summary import MEASURED, PUBLISHED, Summary
from deepgap.paper.charts.theme import (
    CONFIG,
    FONT_SIZE,
    INK,
    PAGE_HEIGHT,
    PAGE_WIDTH,
    QUIET,
    SMALL_FONT_SIZE,
    mode_mark,
    precision_colour,
)
from deepgap.paper.wording import HOST, MODELS, by_precision, failures_in_words, model_label, nothing_measured
from deepgap.published.values import CPU as PUBLISHED_CPU
from deepgap.published.values import CPU_LABEL, sweep_batch_sizes
from deepgap.study.gpus import in_config

Item = TypeVar("Item")
Panel: TypeAlias = alt.LayerChart
Row: TypeAlias = Mapping[str, Any]
DrawPanel: TypeAlias = Callable[[Sequence[Row], Sequence[Row], Sequence[Row], "Place"], Panel]
"""A panel from its points, its failures, all points of its row, and its place."""

PANEL_HEIGHT = 92
LEAST_HEIGHT = 40
ROW_EXTRA = 34
"""Height of a row's title, of the labels of its axis and of the gap above it, in points."""
AROUND = 54
"""Height of the headings, of the lowest axis' title and of the space round a figure."""
LABEL_EXTENT = 20
AXIS_WIDTH = LABEL_EXTENT + 24
GAP = 9
HOLLOW_SIZE = 38
OUTLINE = 0.7
ARROW, ARROW_SIZE = "M0,1V-1M-0.7,-0.2L0,-1L0.7,-0.2", 30
BOUNDS = {"over": 1, "at_least": 1, "under": -1, "at_most": -1}
"""How a published value is marked of which only a bound is stated, and on which side of it the true one lies."""

INDEPENDENT: dict[str, Any] = dict.fromkeys(("color", "shape", "strokeDash", "strokeWidth", "yOffset"), "independent")
APART = alt.Resolve(scale=alt.ScaleResolveMap(**INDEPENDENT))
"""Each panel with its own scales: shared ones would unite the domains and mix up colours and shapes."""
GRID_WIDTH = PAGE_WIDTH - AXIS_WIDTH
PANEL_WIDTH = (GRID_WIDTH - 2 * GAP) // 3


@dataclass(frozen=True)
class Place:
    """Where a panel stands in the grid: inner has an axis left of it, bottom is in the last row, and its height in
    points."""

    inner: bool
    bottom: bool
    height: int = PANEL_HEIGHT


def row_height(rows: int, others: Sequence[Panel], most: int = PANEL_HEIGHT, extra: int = 0) -> int:
    """Height in points of each of so many rows of panels, so that a figure and its caption fit on a page.

    Args:
        others: the legend and what else stands above or below the rows.
        most: the height where there is room.
        extra: further height that is taken.
    """
    around = AROUND + extra + sum(int(panel.height) for panel in others)
    return max(LEAST_HEIGHT, min(most, (PAGE_HEIGHT - around) // rows - ROW_EXTRA))


@dataclass(frozen=True)
class Axis:
    """One axis: its range and ticks in the unit of its title. `base` is that of a logarithm, None is
    linear."""

    title: str | tuple[str, ...] | None
    """Several strings are lines."""
    low: float
    high: float
    ticks: tuple[float, ...]
    base: int | None
    horizontal: bool = False
    labelled: bool = True
    label_ticks: tuple[float, ...] | None = None
    """The ticks that have a label, where not all have one."""

    def x(self, field: str, form: str = "~s") -> alt.X:
        return alt.X(f"{field}:Q", title=self._title(), scale=self._scale(), axis=self._axis(form))

    def y(self, field: str, form: str = "~s") -> alt.Y:
        """The vertical channel; its labels take a fixed width, so that the panels of all rows stand in
        line."""
        extent = LABEL_EXTENT if self.labelled else 0
        axis = self._axis(form, minExtent=extent, maxExtent=extent)
        return alt.Y(f"{field}:Q", title=self._title(), scale=self._scale(), axis=axis)

    def _title(self) -> str | list[str] | None:
        return list(self.title) if isinstance(self.title, tuple) else self.title

    def _scale(self) -> alt.Scale:
        kind: dict[str, Any] = {"type": "linear"} if self.base is None else {"type": "log", "base": self.base}
        return alt.Scale(domain=[self.low, self.high], nice=False, zero=False, **kind)

    def share(self, value: float) -> float:
        """How far along the axis a value stands: 0 is its low end, 1 its high one."""
        if self.base is None:
            return (value - self.low) / (self.high - self.low)
        return log(value / self.low) / log(self.high / self.low)

    def _axis(self, form: str, **options: Any) -> alt.Axis:
        if self.label_ticks is not None:
            options["labelExpr"] = f"indexof({list(self.label_ticks)}, datum.value) >= 0 ? datum.label : ''"
        elif form == "~s":
            # 1k is shorter than 1000; below one it would write 0.5 as 500m.
            options["labelExpr"] = "abs(datum.value) < 1 ? format(datum.value, '~g') : datum.label"
        return alt.Axis(
            values=list(self.ticks),
            format=form,
            labels=self.labelled,
            labelOverlap="greedy",
            labelSeparation=1,
            **options,
        )

    def at(self, place: Place) -> Axis:
        """The same axis without the words that a panel beside or below has: y without labels, x without a
        title."""
        if self.horizontal:
            return self if place.bottom else replace(self, title=None)
        return replace(self, title=None, labelled=False) if place.inner else self


def batch_axis(summary: Summary, rows: Iterable[Row], gpu: str) -> Axis:
    """Batch sizes on a binary logarithm: one range for the rows of all GPUs, one for the host; a tick at
    each of `gpu`.

    A GPU without measured cells has the ticks of the published sweep.
    """
    sweep = sweep_batch_sizes(summary.published)
    same = [row for row in rows if (row["gpu"] == HOST) == (gpu == HOST) and row["batch_size"] is not None]
    own = {row["batch_size"] for row in same if row["gpu"] == gpu and row["source"] == MEASURED}
    ticks = tuple(sorted(own or set(sweep)))
    known = [*ticks, *(row["batch_size"] for row in same)]
    powers = tuple(tick for tick in ticks if tick & (tick - 1) == 0)
    return Axis(
        "Batch size (images)",
        min(known) / 1.25,
        max(known) * 1.25,
        ticks,
        base=2,
        horizontal=True,
        label_ticks=powers or ticks,
    )


def log_axis(title: str, values: Iterable[float | None], horizontal: bool = False) -> Axis:
    """Positive values on a decimal logarithm: ticks at 1, 2 and 5 of each decade, or at decades where these
    are many."""
    known = [value for value in values if value is not None]
    centre, half = sqrt(min(known) * max(known)), max(sqrt(max(known) / min(known)), 2.0)
    half *= 1.15 * half**0.12
    low, high = centre / half, centre * half
    # A label in the last twentieth would stick out of the panel and push its title up.
    last = high / (high / low) ** 0.05
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    fine, coarse = (
        tuple(t for decade in decades for step in steps if low <= (t := float(f"{step}e{decade}")) <= last)
        for steps in ((1, 2, 5), (1,))
    )
    return Axis(title, low, high, fine if len(fine) <= 6 else coarse, 10, horizontal)


def zero_axis(
    title: str | tuple[str, ...], values: Iterable[float | None], intervals: float = 5.5, horizontal: bool = False
) -> Axis:
    """Values on a linear axis that starts at zero, with ticks for this many intervals at most."""
    high = max(value for value in values if value is not None) * 1.08
    step = next(step for step in _steps() if high / step <= intervals)
    return Axis(title, 0, high, tuple(step * index for index in range(int(high / step) + 1)), None, horizontal)


def _steps() -> Iterable[float]:
    return (float(f"{step}e{decade}") for decade in range(-3, 7) for step in (1, 2, 5))


def measured_points(
    families: pl.DataFrame, value: str, low: str | None, high: str | None, *extra: str
) -> list[dict[str, Any]]:
    """Rows of `Summary.measured` as points: `value` and its interval, in the unit of that column, and extra
    columns."""
    none = pl.lit(None, pl.Float64)
    return (
        families.filter(pl.col(value).is_not_null())
        .select(
            *("gpu", "model", "runtime", "precision", "batch_size", "mode", *extra),
            pl.col(value).cast(pl.Float64).alias("value"),
            (none if low is None else pl.col(low)).alias("low"),
            (none if high is None else pl.col(high)).alias("high"),
            source=pl.lit(MEASURED),
        )
        .to_dicts()
    )


def published_points(view: pl.DataFrame, value: str, *extra: str) -> list[dict[str, Any]]:
    """Rows of a published view as points; those of the published processor belong to the host's row."""
    return view.select(
        pl.col("gpu").replace(PUBLISHED_CPU, HOST),
        *("model", "runtime", "precision", "batch_size", *extra),
        pl.format("{}-{}", "runtime", "precision").alias("mode"),
        pl.col(value).alias("value"),
        pl.lit(None, pl.Float64).alias("low"),
        pl.lit(None, pl.Float64).alias("high"),
        "source",
    ).to_dicts()


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


def draw_series(
    points: Sequence[Row],
    failed: Sequence[Row],
    x: Axis,
    y: Axis,
    height: int,
    before: Sequence[alt.Chart] = (),
    lines: bool = True,
) -> Panel:
    """A panel of values over batch size: measured lines with intervals, published points hollow, failures
    crossed.

    Args:
        points: rows with batch_size, value, low, high, runtime, precision, mode, source, where it is a peak `peak`,
            and where the study states it `approx`.
        failed: rows with batch_size, runtime, precision and mode.
        height: of the panel in points.
        before: layers to put under the points.
        lines: join the points of a mode.
    """
    measured = large_first(row for row in points if row["source"] == MEASURED)
    published = [row for row in points if row["source"] == PUBLISHED]
    modes = [*points, *failed]
    colour, shape, dash = mode_colour(modes), mode_shape(modes), mode_dash(modes)
    xs, ys = x.x("batch_size", "d"), y.y("value")
    layers: list[alt.Chart] = list(before)
    if measured:
        data = alt.Chart(inline(measured))
        if lines:
            layers.append(data.mark_line().encode(xs, ys, colour, dash, detail="mode:N"))
        spans = [row for row in measured if row["low"] is not None]
        if spans:
            rules = alt.Chart(inline(spans)).mark_rule(strokeWidth=0.8)
            layers.append(rules.encode(xs, y.y("low"), alt.Y2("high:Q"), colour))
        layers.append(data.mark_point(filled=True, size=13, opacity=1).encode(xs, ys, colour, shape))
        peaks = [row for row in measured if row.get("peak")]
        if peaks:
            layers.append(
                alt.Chart(inline(peaks))
                .mark_point(filled=True, size=PEAK.size, opacity=1, stroke=INK, strokeWidth=OUTLINE)
                .encode(xs, ys, colour, shape)
            )
    if published:
        layers += hollow_points(published, xs, ys, colour, shape)
    if failed:
        layers.append(crosses(failed, xs, colour, height))
    return overlay(layers, PANEL_WIDTH, height)


def add_heading(panel: Panel, heading: str) -> Panel:
    """The panel with a heading above it; a title would stand higher where an axis title or a mark sticks out."""
    text = alt.Chart(inline([{"heading": heading}])).mark_text(
        text=heading, align="center", baseline="bottom", fontSize=FONT_SIZE
    )
    headed: Panel = panel + text.encode(x=alt.value(panel.width / 2), y=alt.value(-4))
    return headed


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


def failure_note(lost: Sequence[Row], height: int | None = None, letters: int = 18) -> alt.Chart:
    """What failed in words, in the lower right corner of a panel of this height or, without, in the upper left
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
    corner = told.encode(x=alt.value(PANEL_WIDTH - 3), y=alt.value(height - 3))
    return corner


def words(text: str, width: int = PANEL_WIDTH, height: int = PANEL_HEIGHT) -> Panel:
    """A panel that says in words why nothing is drawn."""
    lines = textwrap.wrap(text, width=int(width / (SMALL_FONT_SIZE * 0.5)))
    note = alt.Chart(inline([{"text": text}])).mark_text(
        text=lines,
        align="center",
        baseline="middle",
        lineHeight=SMALL_FONT_SIZE + 2,
        dy=-(len(lines) - 1) * 4.5,
        color=QUIET,
    )
    return overlay([note], width, height)


def nothing_at_all(what: str) -> alt.VConcatChart:
    """The figure when there is neither a measured nor a published value."""
    text = (
        f"Nothing to draw for {what}: no cells measured and no values published. "
        "Measure this machine's processor with: snakemake --cores 1 --config gpu=CPU"
    )
    return nothing_to_draw(text)


def nothing_to_draw(text: str) -> alt.VConcatChart:
    """A figure that says in words why it is empty."""
    return alt.vconcat(words(text, width=GRID_WIDTH, height=60), config=CONFIG)


def draw_notes(sentences: Sequence[str]) -> list[Panel]:
    """A panel of sentences, each in lines of its own, or none."""
    lines = [
        line for text in sentences for line in textwrap.wrap(text, width=int(GRID_WIDTH / (SMALL_FONT_SIZE * 0.46)))
    ]
    if not lines:
        return []
    rows = [{"text": line, "y": 5.0 + 9 * place} for place, line in enumerate(lines)]
    told = alt.Chart(inline(rows)).mark_text(align="left", baseline="middle", color=QUIET)
    note = overlay(
        [told.encode(x=alt.value(0), y=alt.Y("y:Q", scale=None, axis=None), text="text:N")],
        GRID_WIDTH,
        9 * len(lines),
    )
    return [note.properties(view=alt.ViewBackground(stroke=None))]


def published_without_cells(summary: Summary) -> list[str]:
    """A sentence for each GPU of the published study that has no cells here, in the order of gpus.yaml."""
    measured = set(summary.families["gpu"])
    stated = set(summary.published["gpu"].drop_nulls())
    return [f"{nothing_measured(gpu)}." for gpu in summary.gpus if gpu in stated and gpu not in measured]


def row_title(summary: Summary, gpu: str, published: bool, note: str = "", of: str = "run") -> str:
    """What a row of panels holds: the device, how many of what a point is from, and whose values are there.

    Args:
        of: `run`, or `cell` where a point is from the cells of a family and not from each of their runs.
    """
    counts = summary.measured.filter(pl.col("gpu") == gpu)["runs" if of == "run" else "sweeps"]
    of_other_cpu = f" ({CPU_LABEL})" if gpu == HOST else ""
    if summary.families.filter(pl.col("gpu") == gpu).is_empty():
        return f"{gpu}: published only{of_other_cpu}. {nothing_measured(gpu)}"
    if counts.is_empty():
        return f"{gpu}: measured, but no cell has numbers"
    low, high = min(counts), max(counts)
    count = f"{low}" if low == high else f"{low} to {high}"
    title = f"{gpu}: measured, {count} {of}{'' if high == 1 else 's'} a point{note}"
    return f"{title}; hollow: published{of_other_cpu}" if published else title


@dataclass(frozen=True)
class Columns:
    """The columns of a grid: the values of `key`, each with its heading."""

    key: str
    headings: Mapping[Any, str]
    width: int = PANEL_WIDTH


def model_columns(rows: Iterable[Row]) -> Columns:
    """A column for each model that is in these rows."""
    models = {row["model"] for row in rows}
    return Columns("model", {model: model_label(model) for model in MODELS if model in models})


def draw_grid(
    summary: Summary,
    points: Sequence[Row],
    failed: Sequence[Row],
    draw_panel: DrawPanel,
    entries: Sequence[Entry],
    what: str,
    notes: Mapping[str, str] | None = None,
    columns: Columns | None = None,
    of: str = "run",
    most: int = PANEL_HEIGHT,
    below: Sequence[str] = (),
) -> alt.VConcatChart:
    """Rows of GPUs and columns of models, with one legend above.

    Args:
        points, failed: rows with gpu, model and source.
        draw_panel: makes a panel; see `DrawPanel`.
        entries: the legend.
        what: what the figure shows, for the sentence when there is nothing.
        notes: words to add to the title of a GPU's row.
        columns: other columns than the models.
        of: see `row_title`.
        most: height of a row where the page has room.
        below: sentences to put below.
    """
    present = {row["gpu"] for row in [*points, *failed]}
    if not present:
        return nothing_at_all(what)
    columns = columns or model_columns([*points, *failed])
    charts: list[alt.HConcatChart] = []
    gpus = summary.order_gpus(present)
    legend = draw_legend(entries)
    notes_below = draw_notes(below)
    height = row_height(len(gpus), [legend, *notes_below], most)
    lowest = {row[columns.key]: gpu for gpu in gpus for row in points if row["gpu"] == gpu}
    for gpu in gpus:
        in_row = [row for row in points if row["gpu"] == gpu]
        drawn: dict[Any, Panel] = {}
        reasons: dict[Any, str] = {}
        for value, heading in columns.headings.items():
            here = [row for row in in_row if row[columns.key] == value]
            lost = [row for row in failed if row["gpu"] == gpu and row[columns.key] == value]
            if here:
                place = Place(inner=bool(drawn), bottom=lowest[value] == gpu, height=height)
                drawn[value] = draw_panel(here, lost, in_row, place)
            else:
                reasons[value] = why_empty(summary, gpu, columns.key, value, heading, lost)
        highest = max((panel.height for panel in drawn.values()), default=height)
        panels = [
            drawn[value] if value in drawn else words(reasons[value], columns.width, highest)
            for value in columns.headings
        ]
        if not charts:
            panels = [add_heading(p, h) for p, h in zip(panels, columns.headings.values(), strict=True)]
        published = any(row["source"] == PUBLISHED for row in in_row)
        title = alt.Title(
            row_title(summary, gpu, published, (notes or {}).get(gpu, ""), of),
            anchor="start",
            frame="group",
            offset=5,
        )
        charts.append(alt.hconcat(*panels, spacing=GAP, title=title, bounds="flush", resolve=APART))
    return alt.vconcat(legend, *charts, *notes_below, spacing=7, resolve=APART, config=CONFIG)


def why_empty(summary: Summary, gpu: str, key: str, value: Any, heading: str, failed: Sequence[Row]) -> str:
    """Why the panel of a device has nothing to draw under the heading of this value of `key`, model or batch_size."""
    if failed:
        return f"{failures_in_words(failed)}."
    cells = summary.families.filter(pl.col("gpu") == gpu)
    if cells.is_empty():
        return f"{nothing_measured(gpu)}. Nothing published for {heading} either."
    if not cells.filter(pl.col(key) == value).is_empty():
        return f"The cells of {gpu} here ({heading}) do not have this value."
    asked = summary.design.filter(pl.col("gpu") == gpu)[f"{key}s"].explode().to_list()
    if value not in asked:
        return f"The study asks for no cells of {gpu} here ({heading})."
    command = f"snakemake --cores 1 --config {in_config(gpu)}"
    return f"The cells of {gpu} here ({heading}) are missing; measure them with: {command}"


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


def order_modes(rows: Iterable[Row]) -> list[str]:
    """The modes of these rows, as tables list them."""
    return sorted({row["mode"] for row in rows}, key=by_precision)


def mode_entries(points: Sequence[Row], line: bool = True) -> list[Entry]:
    """An entry for each mode; one that only the published study has is hollow and has no line."""
    measured = {row["mode"] for row in points if row["source"] == MEASURED}
    entries = []
    for mode in order_modes(points):
        precision = mode.rpartition("-")[2]
        shape, dash = mode_mark(mode)
        if mode in measured:
            entries.append(Entry(mode, precision_colour(precision), shape, tuple(dash) if line else None))
        else:
            entries.append(Entry(mode, precision_colour(precision), shape, filled=False, size=HOLLOW_SIZE))
    return entries


PEAK = Entry("measured peak", QUIET, "circle", size=23, outlined=True)
PUBLISHED_POINT = Entry("hollow: published", QUIET, "circle", filled=False, size=HOLLOW_SIZE)
PUBLISHED_BOUND = Entry("arrow: a bound is published", QUIET, ARROW, filled=False, size=ARROW_SIZE)
FAILED = Entry("out of memory or unsupported", QUIET, "cross", size=26, angle=45)


def common_entries(points: Sequence[Row], failed: Sequence[Row]) -> list[Entry]:
    """The entries for published points, bounds and failures, where there are any."""
    entries = [PUBLISHED_POINT] if any(row["source"] == PUBLISHED for row in points) else []
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
        .encode(_pixels("words"), place, text="label:N"),
    ]
    blank = alt.ViewBackground(stroke=None)
    legend = overlay(layers, width, int(y + line_height / 2))
    return legend.properties(view=blank, resolve=APART)


def _pixels(field: str) -> alt.X:
    return alt.X(f"{field}:Q", scale=None, axis=None)


def _legend_lines(entries: Sequence[Entry], rows: Sequence[Row], place: alt.Y) -> alt.Chart:
    lines = [(entry, row) for entry, row in zip(entries, rows, strict=True) if entry.dash is not None]
    labels = [entry.label for entry, _ in lines]

    def look(values: list[Any]) -> alt.Scale:
        return alt.Scale(domain=labels, range=values)

    chart: alt.Chart = (
        alt.Chart(inline([row for _, row in lines]))
        .mark_rule()
        .encode(
            _pixels("left"),
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
            _pixels("middle"),
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
