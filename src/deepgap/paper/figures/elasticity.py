"""How throughput follows memory bandwidth between two kinds of GPU, over batch size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from deepgap.analyse.elasticity import elasticities
from deepgap.analyse.schemas import MEASURED
from deepgap.analyse.summary import Summary
from deepgap.analyse.sweeps import THROUGHPUT
from deepgap.paper.charts.axes import Axis, batch_axis
from deepgap.paper.charts.layout import (
    APART,
    GAP,
    Panel,
    Place,
    Row,
    add_heading,
    inline,
    nothing_to_draw,
    overlay,
)
from deepgap.paper.charts.legend import Entry, common_entries, draw_legend, mode_entries
from deepgap.paper.charts.marks import (
    fill_colour,
    level_lines,
    mark_size,
    mode_colour,
    mode_dash,
    mode_shape,
    point_fill,
    shade_ranges,
)
from deepgap.paper.charts.panels import model_columns
from deepgap.paper.charts.theme import CONFIG, QUIET

DEVICES = ("cuda",)
SHOWS = ("measured",)
CAPTION = (
    "Elasticity of throughput to memory bandwidth over batch size, by mode: the logarithm of the ratio of the two "
    "kinds' throughputs over that of the ratio of their bandwidths on the data sheet, which are the two cards named "
    "above the panels. 1: all that the bandwidth gives arrives; 0: compute, launches or power bound it. Medians "
    "over sweeps; bars are intervals of at least 95 %, not paired, because two cards share no block. On the grey "
    "ground launching bounds one of the two; pale marks have a flag that keeps an operand out of the primary set."
)

HEIGHT = 112
LEVELS = Entry("0: other limits; 1: bandwidth", QUIET, dash=(1, 0), stroke_width=0.8)


def draw(summary: Summary) -> alt.VConcatChart:
    """A panel a model, of the two kinds of `reporting.bandwidth_gpus`."""
    base, gpu = summary.reporting["bandwidth_gpus"]
    points = elastic_points(summary, gpu, base)
    if not points:
        return nothing_to_draw(
            f"Elasticity needs cells of {base} and of {gpu} with the same model, mode and batch size."
        )
    columns = model_columns(summary, points)
    entries = [*mode_entries(points), LEVELS, *common_entries(points, [], shaded=True)]
    y = elastic_axis([row[key] for row in points for key in ("value", "low", "high")])
    panels: list[Panel] = []
    for model, heading in columns.headings.items():
        place = Place(inner=bool(panels), bottom=True, height=HEIGHT, width=columns.width)
        here = [row for row in points if row["model"] == model]
        x = batch_axis(summary, points, gpu).at(place)
        panels.append(add_heading(draw_elasticity(here, x, y.at(place), place), heading))
    told = f"{gpu} over {base}, bandwidths {_ratio(summary, gpu, base):.2f}"
    title = alt.Title(told, anchor="start", frame="group", offset=5)
    row = alt.hconcat(*panels, spacing=GAP, title=title, bounds="flush", resolve=APART)
    return alt.vconcat(draw_legend(entries, columns.across), row, spacing=7, resolve=APART, config=CONFIG)


def _ratio(summary: Summary, gpu: str, base: str) -> float:
    high, low = (summary.gpus[key].memory_bandwidth_gb_s or 0.0 for key in (gpu, base))
    return high / low


def elastic_points(summary: Summary, gpu: str, base: str) -> list[dict[str, Any]]:
    """A point a model, mode and batch size that both kinds have: value, low and high are elasticities."""
    found = elasticities(summary, gpu, base).filter(pl.col("elasticity").is_not_null(), quantity=THROUGHPUT)
    rows = [
        {
            **{
                name: row[name]
                for name in ("model", "mode", "runtime", "precision", "batch_size", "launch_bound", "primary")
            },
            **{"gpu": gpu, "source": MEASURED, "power_held": False, "value": row["elasticity"]},
            **{"low": row["elasticity_low"], "high": row["elasticity_high"]},
        }
        for row in found.iter_rows(named=True)
    ]
    return [{**row, "fill": point_fill(row)} for row in rows]


def elastic_axis(values: Sequence[float | None]) -> Axis:
    """From below 0 to above 1, and as far as the values go."""
    known = [value for value in values if value is not None]
    low, high = min([-0.2, *known]), max([1.1, *known])
    room = 0.04 * (high - low)
    step = next(step for step in (0.5, 1, 2, 5, 10, 20, 50, 100) if (high - low) / step <= 6)
    first = -int(-low / step)
    ticks = tuple(step * place for place in range(first, int(high / step) + 1))
    return Axis("Elasticity", low - room, high + room, ticks, None)


def draw_elasticity(here: Sequence[Row], x: Axis, y: Axis, place: Place) -> Panel:
    """The points of a panel over the levels 0 and 1."""
    xs, ys, colour = x.x("batch_size", "d"), y.y("value", "~g"), mode_colour(here)
    data = alt.Chart(inline(here))
    layers = [
        *shade_ranges(here, xs, ys),
        level_lines([{"value": 0.0}, {"value": 1.0}], x, y, color=QUIET, strokeWidth=LEVELS.stroke_width),
        data.mark_line(strokeWidth=0.8).encode(xs, ys, colour, mode_dash(here), detail="mode:N"),
    ]
    spans = [row for row in here if row["low"] is not None]
    if spans:
        rules = alt.Chart(inline(spans)).mark_rule(strokeWidth=0.6)
        layers.append(rules.encode(xs, y.y("low", "~g"), alt.Y2("high:Q"), fill_colour()))
    marks = data.mark_point(filled=True, size=mark_size(place.width), opacity=1)
    layers.append(marks.encode(xs, ys, fill_colour(), mode_shape(here)))
    return overlay(layers, place.width, place.height)
