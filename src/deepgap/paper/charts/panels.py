"""A panel of values over batch size, and the grid of GPU by model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import altair as alt
import polars as pl

from deepgap.analyse.schemas import MEASURED, PUBLISHED
from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import Axis
from deepgap.paper.charts.layout import (
    APART,
    AXIS_WIDTH,
    GAP,
    PANEL_HEIGHT,
    TALL,
    Panel,
    Place,
    Row,
    add_heading,
    draw_notes,
    grid_width,
    inline,
    nothing_at_all,
    overlay,
    panel_width,
    row_height,
    words,
)
from deepgap.paper.charts.legend import (
    PEAK,
    Entry,
    draw_legend,
)
from deepgap.paper.charts.marks import (
    OUTLINE,
    crosses,
    fill_colour,
    hollow_points,
    hollow_stroke,
    large_first,
    mark_size,
    mode_colour,
    mode_dash,
    mode_shape,
    shade_ranges,
)
from deepgap.paper.charts.theme import (
    CONFIG,
    INK,
)
from deepgap.paper.wording import failures_in_words
from deepgap.published.values import CPU_LABEL
from deepgap.study.words import model_label

UNDER_GAP = 24
"""Height of the labels of an axis between two rows of panels and of the gap, in points."""
FEW_DEVICES, FLATTER = 2, 0.5
"""With more devices than these the second rows are this much flatter."""

DrawPanel: TypeAlias = Callable[[Sequence[Row], Sequence[Row], Sequence[Row], "Place"], Panel]
"""A panel from its points, its failures, all points that share its scales, and its place."""


def draw_series(
    points: Sequence[Row],
    failed: Sequence[Row],
    x: Axis,
    y: Axis,
    place: Place,
    before: Sequence[alt.Chart] = (),
    shaded: bool = True,
) -> Panel:
    """A panel of values over batch size: measured lines with intervals, published points hollow, failures
    crossed.

    Args:
        points: rows with batch_size, value, low, high, runtime, precision, mode, source, if measured `fill`, where it
            is a peak `peak`, where its mark is to be open `hollow`, and where the study states it `approx`.
        failed: rows with batch_size, runtime, precision and mode.
        place: the size of the panel.
        before: layers to put under the points.
        shaded: draw the grounds of `shade_ranges`.
    """
    measured = large_first(row for row in points if row["source"] == MEASURED)
    published = [row for row in points if row["source"] == PUBLISHED]
    modes = [*points, *failed]
    colour, shape, dash = mode_colour(modes), mode_shape(modes), mode_dash(modes)
    xs, ys = x.x("batch_size", "d"), y.y("value")
    layers: list[alt.Chart] = [*(shade_ranges(measured, xs, ys) if shaded else []), *before]
    if measured:
        data = alt.Chart(inline(measured))
        layers.append(data.mark_line().encode(xs, ys, colour, dash, detail="mode:N"))
        spans = [row for row in measured if row["low"] is not None]
        if spans:
            rules = alt.Chart(inline(spans)).mark_rule(strokeWidth=0.8)
            layers.append(rules.encode(xs, y.y("low"), alt.Y2("high:Q"), colour))
        full = [row for row in measured if not row.get("hollow")]
        if full:
            marks = alt.Chart(inline(full)).mark_point(filled=True, size=mark_size(place.width), opacity=1)
            layers.append(marks.encode(xs, ys, fill_colour(), shape))
        if open_ones := [row for row in measured if row.get("hollow")]:
            look: dict[str, Any] = {"fill": "white", "opacity": 1, "strokeWidth": 0.8, "size": mark_size(place.width)}
            layers.append(alt.Chart(inline(open_ones)).mark_point(**look).encode(xs, ys, hollow_stroke(), shape))
        peaks = [row for row in measured if row.get("peak")]
        if peaks:
            layers.append(
                alt.Chart(inline(peaks))
                .mark_point(
                    filled=True, size=mark_size(place.width, PEAK.size), opacity=1, stroke=INK, strokeWidth=OUTLINE
                )
                .encode(xs, ys, fill_colour(), shape)
            )
    if published:
        layers += hollow_points(published, xs, ys, colour, shape)
    if failed:
        layers.append(crosses(failed, xs, colour, place.height))
    return overlay(layers, place.width, place.height)


def row_title(summary: Summary, gpu: str, note: str = "", of: str | None = "sweep", published: bool = False) -> str:
    """What a row of panels holds: the device, and how many of what a point is from.

    Args:
        published: the row has published values; those beside a processor are of another one, whose name is told.
        of: `sweep`, or what else the values that a point is from are called; there is one a sweep. None: a mark is a
            process.
    """
    if summary.families.filter(pl.col("gpu") == gpu).is_empty():
        return f"{gpu}{f' ({CPU_LABEL})' if gpu == summary.processor else ''}: published, not measured here"
    counts = summary.measured.filter(pl.col("gpu") == gpu)["sweeps"]
    if counts.is_empty():
        return f"{gpu}: no cell has numbers"
    if of is None:
        return f"{gpu}: a mark a process{note}"
    low, high = min(counts), max(counts)
    count = f"{low}" if low == high else f"{low} to {high}"
    other = f"; hollow: published, {CPU_LABEL}" if published and gpu == summary.processor else ""
    return f"{gpu}: {count} {of}{'' if high == 1 else 's'} a point{note}{other}"


@dataclass(frozen=True)
class Columns:
    """The columns of a grid: the values of `key`, each with its heading, and points at the left for names or an
    axis."""

    key: str
    headings: Mapping[Any, str]
    names: int = AXIS_WIDTH

    @property
    def width(self) -> int:
        """Of each panel in points."""
        return panel_width(max(1, len(self.headings)), self.names)

    @property
    def across(self) -> int:
        """Of all panels in points."""
        return grid_width(len(self.headings)) + AXIS_WIDTH - self.names


def model_columns(summary: Summary, rows: Iterable[Row], names: int = AXIS_WIDTH) -> Columns:
    """A column for each model that is in these rows."""
    models = summary.order_models(row["model"] for row in rows)
    return Columns("model", {model: model_label(model) for model in models}, names)


def alike(summary: Summary, gpu: str, rows: Iterable[Row]) -> list[Row]:
    """The rows of the devices that share their scales with this one: all GPUs, or all processors."""
    processor = summary.is_processor(gpu)
    return [row for row in rows if summary.is_processor(row["gpu"]) == processor]


@dataclass(frozen=True)
class Under:
    """A further row of panels below that of each device, with the same columns: a panel of this height in points of
    the same points. continues: its horizontal axis is that of the panels above."""

    draw_panel: DrawPanel
    height: int
    continues: bool = True


def draw_grid(
    summary: Summary,
    points: Sequence[Row],
    failed: Sequence[Row],
    draw_panel: DrawPanel,
    entries: Sequence[Entry],
    what: str,
    notes: Mapping[str, str] | None = None,
    columns: Columns | None = None,
    of: str | None = "sweep",
    most: int = PANEL_HEIGHT,
    below: Sequence[str] = (),
    under: Under | None = None,
) -> alt.VConcatChart:
    """Rows of devices and columns of models, with one legend above; as wide as a column of the page where there is
    one column of panels.

    Args:
        points, failed: rows with gpu, model and source.
        draw_panel: makes a panel; see `DrawPanel`.
        entries: the legend.
        what: what the figure shows, for the sentence when there is nothing.
        notes: words to add to the title of a device's row.
        columns: other columns than the models.
        of: see `row_title`.
        most: height of a row where the page has room.
        below: sentences to put below.
        under: a second row of panels for each device.
    """
    present = {row["gpu"] for row in [*points, *failed]}
    if not present:
        return nothing_at_all(what)
    columns = columns or model_columns(summary, [*points, *failed])
    gpus = summary.order_gpus(present)
    legend, notes_below = draw_legend(entries, columns.across), draw_notes(below, columns.across)
    tall = TALL if len(columns.headings) == 1 and len(gpus) == 1 else 1
    under_height = 0 if under is None else under.height if len(gpus) <= FEW_DEVICES else round(FLATTER * under.height)
    extra = len(gpus) * (under_height + UNDER_GAP) if under else 0
    height = row_height(len(gpus), [legend, *notes_below], round(most * tall), extra)
    lowest = {row[columns.key]: gpu for gpu in gpus for row in points if row["gpu"] == gpu}
    continued = under is not None and under.continues
    charts: list[alt.HConcatChart] = []
    for gpu in gpus:
        places = {
            value: Place(
                inner=False, bottom=lowest[value] == gpu and not continued, height=height, width=columns.width
            )
            for value in lowest
        }
        panels = _draw_row(summary, gpu, points, failed, draw_panel, columns, places, height)
        if not charts:
            panels = [add_heading(p, h) for p, h in zip(panels, columns.headings.values(), strict=True)]
        published = any(row["gpu"] == gpu and row["source"] == PUBLISHED for row in points)
        told = row_title(summary, gpu, (notes or {}).get(gpu, ""), of, published)
        title = alt.Title(told, anchor="start", frame="group", offset=5)
        charts.append(alt.hconcat(*panels, spacing=GAP, title=title, bounds="flush", resolve=APART))
        if under:
            places = {
                value: replace(places[value], bottom=lowest[value] == gpu, height=under_height) for value in lowest
            }
            second = _draw_row(summary, gpu, points, [], under.draw_panel, columns, places, under_height, silent=True)
            charts.append(alt.hconcat(*second, spacing=GAP, bounds="flush", resolve=APART))
    return alt.vconcat(legend, *charts, *notes_below, spacing=7, resolve=APART, config=CONFIG)


def _draw_row(
    summary: Summary,
    gpu: str,
    points: Sequence[Row],
    failed: Sequence[Row],
    draw_panel: DrawPanel,
    columns: Columns,
    places: Mapping[Any, Place],
    height: int,
    silent: bool = False,
) -> list[Panel]:
    """A panel for each column of a device's row: its points, or in words why there are none.

    Args:
        places: by the columns that have points in any row.
        height: of a panel of words where the row has no other.
        silent: leave an empty panel without words.
    """
    scaled = alike(summary, gpu, points)
    drawn: dict[Any, Panel] = {}
    reasons: dict[Any, str] = {}
    for value, heading in columns.headings.items():
        here, lost = (
            [row for row in rows if row["gpu"] == gpu and row[columns.key] == value] for rows in (points, failed)
        )
        if here:
            drawn[value] = draw_panel(here, lost, scaled, replace(places[value], inner=bool(drawn)))
        else:
            reasons[value] = "" if silent else why_empty(summary, gpu, columns.key, value, heading, lost)
    highest = max((panel.height for panel in drawn.values()), default=height)
    first = next((value for value in columns.headings if value in drawn), None)
    panels: list[Panel] = []
    for value in columns.headings:
        # The words of an axis stand left of the first panel that has one.
        free = AXIS_WIDTH if first is not None and first not in list(columns.headings)[: len(panels) + 1] else 0
        panels.append(drawn.get(value) or words(reasons[value], columns.width, highest, free))
    return panels


def why_empty(summary: Summary, gpu: str, key: str, value: Any, heading: str, failed: Sequence[Row]) -> str:
    """Why the panel of a device has nothing to draw under the heading of this value of `key`, model or batch_size."""
    if failed:
        return f"{failures_in_words(failed)}."
    cells = summary.families.filter(pl.col("gpu") == gpu)
    if cells.is_empty():
        return f"Nothing published for {gpu} ({heading})."
    if not cells.filter(pl.col(key) == value).is_empty():
        return f"The cells of {gpu} here ({heading}) do not have this value."
    asked = summary.design.filter(pl.col("gpu") == gpu)[f"{key}s"].explode().to_list()
    if value not in asked:
        return f"The study asks for no cells of {gpu} here ({heading})."
    return f"The cells of {gpu} here ({heading}) are missing."
