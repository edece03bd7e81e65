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
    GRID_WIDTH,
    PANEL_HEIGHT,
    PANEL_WIDTH,
    Panel,
    Place,
    Row,
    add_heading,
    draw_notes,
    inline,
    nothing_at_all,
    overlay,
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
    large_first,
    mode_colour,
    mode_dash,
    mode_shape,
)
from deepgap.paper.charts.theme import (
    CONFIG,
    INK,
)
from deepgap.paper.wording import failures_in_words, nothing_measured
from deepgap.published.values import CPU_LABEL
from deepgap.study.gpus import in_config
from deepgap.study.words import model_label

DrawPanel: TypeAlias = Callable[[Sequence[Row], Sequence[Row], Sequence[Row], "Place"], Panel]
"""A panel from its points, its failures, all points of its row, and its place."""


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
        points: rows with batch_size, value, low, high, runtime, precision, mode, source, if measured `fill`, where it
            is a peak `peak`, and where the study states it `approx`.
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
        layers.append(data.mark_point(filled=True, size=13, opacity=1).encode(xs, ys, fill_colour(), shape))
        peaks = [row for row in measured if row.get("peak")]
        if peaks:
            layers.append(
                alt.Chart(inline(peaks))
                .mark_point(filled=True, size=PEAK.size, opacity=1, stroke=INK, strokeWidth=OUTLINE)
                .encode(xs, ys, fill_colour(), shape)
            )
    if published:
        layers += hollow_points(published, xs, ys, colour, shape)
    if failed:
        layers.append(crosses(failed, xs, colour, height))
    return overlay(layers, PANEL_WIDTH, height)


def published_without_cells(summary: Summary) -> list[str]:
    """A sentence for each GPU of the published study that has no cells here, in the order of gpus.yaml."""
    measured = set(summary.families["gpu"])
    stated = set(summary.published["gpu"].drop_nulls())
    return [f"{nothing_measured(gpu)}." for gpu in summary.gpus if gpu in stated and gpu not in measured]


def row_title(summary: Summary, gpu: str, published: bool, note: str = "", of: str | None = "sweep") -> str:
    """What a row of panels holds: the device, how many of what a point is from, and whose values are there.

    Args:
        of: `sweep`, or what else the values that a point is from are called; there is one a sweep. None: a mark is a
            process.
    """
    counts = summary.measured.filter(pl.col("gpu") == gpu)["sweeps"]
    of_other_cpu = f" ({CPU_LABEL})" if gpu == summary.processor else ""
    if summary.families.filter(pl.col("gpu") == gpu).is_empty():
        return f"{gpu}: published only{of_other_cpu}. {nothing_measured(gpu)}"
    if counts.is_empty():
        return f"{gpu}: measured, but no cell has numbers"
    if of is None:
        return f"{gpu}: measured, a mark a process{note}"
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


def model_columns(summary: Summary, rows: Iterable[Row]) -> Columns:
    """A column for each model that is in these rows."""
    models = summary.order_models(row["model"] for row in rows)
    return Columns("model", {model: model_label(model) for model in models})


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
    across: int = GRID_WIDTH,
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
        across: width of the legend in points.
    """
    present = {row["gpu"] for row in [*points, *failed]}
    if not present:
        return nothing_at_all(what)
    columns = columns or model_columns(summary, [*points, *failed])
    charts: list[alt.HConcatChart] = []
    gpus = summary.order_gpus(present)
    legend = draw_legend(entries, across)
    notes_below = draw_notes(below)
    height = row_height(len(gpus), [legend, *notes_below], most)
    lowest = {row[columns.key]: gpu for gpu in gpus for row in points if row["gpu"] == gpu}
    for gpu in gpus:
        in_row = [row for row in points if row["gpu"] == gpu]
        places = {value: Place(inner=False, bottom=lowest[value] == gpu, height=height) for value in lowest}
        lost = [row for row in failed if row["gpu"] == gpu]
        panels = _draw_row(summary, gpu, in_row, lost, draw_panel, columns, places, height)
        if not charts:
            panels = [add_heading(p, h) for p, h in zip(panels, columns.headings.values(), strict=True)]
        published = any(row["source"] == PUBLISHED for row in in_row)
        told = row_title(summary, gpu, published, (notes or {}).get(gpu, ""), of)
        title = alt.Title(told, anchor="start", frame="group", offset=5)
        charts.append(alt.hconcat(*panels, spacing=GAP, title=title, bounds="flush", resolve=APART))
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
) -> list[Panel]:
    """A panel for each column of a device's row: its points, or in words why there are none.

    Args:
        places: by the columns that have points in any row.
        height: of a panel of words where the row has no other.
    """
    drawn: dict[Any, Panel] = {}
    reasons: dict[Any, str] = {}
    for value, heading in columns.headings.items():
        here = [row for row in points if row[columns.key] == value]
        lost = [row for row in failed if row[columns.key] == value]
        if here:
            drawn[value] = draw_panel(here, lost, points, replace(places[value], inner=bool(drawn)))
        else:
            reasons[value] = why_empty(summary, gpu, columns.key, value, heading, lost)
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
        return f"{nothing_measured(gpu)}. Nothing published for {heading} either."
    if not cells.filter(pl.col(key) == value).is_empty():
        return f"The cells of {gpu} here ({heading}) do not have this value."
    asked = summary.design.filter(pl.col("gpu") == gpu)[f"{key}s"].explode().to_list()
    if value not in asked:
        return f"The study asks for no cells of {gpu} here ({heading})."
    command = f"snakemake --cores 1 --config {in_config(gpu)}"
    return f"The cells of {gpu} here ({heading}) are missing; measure them with: {command}"
