"""Images a joule against images a second."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt
import polars as pl

from deepgap.analyse.schemas import MEASURED
from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import Axis, log_axis
from deepgap.paper.charts.layout import Panel, Place, Row, inline, nothing_at_all, nothing_to_draw, overlay
from deepgap.paper.charts.legend import Entry, common_entries, mode_entries
from deepgap.paper.charts.marks import (
    fill_colour,
    large_first,
    mark_size,
    measured_points,
    mode_colour,
    mode_dash,
    mode_shape,
    shade_ranges,
)
from deepgap.paper.charts.panels import draw_grid
from deepgap.paper.charts.theme import QUIET, tint

SHOWS = ("measured",)
CAPTION = (
    "Images a joule against images a second, both axes logarithmic; a line joins the batch sizes of a mode, from "
    "the smallest at the left. Energy and throughput are of the same queued run, so that their ratio is the power "
    "(Eq. 1 of the published study): on a dashed diagonal it is the same, and the last one is the card's TDP. A "
    "mode that rises along a diagonal gains speed at no more power; one that rises steeper saves power, too. All of "
    "the device's energy counts, between two updates of the driver's counter. Marks are medians over sweeps (their "
    "number stands above each row), bars the exact order-statistic intervals of both, at least 95 %, which six "
    "sweeps or more have. Pale marks have a flag that keeps them out of the primary set. All GPUs have one scale. "
    "The published study gives no values."
)

HEIGHT = 112
WATTS = (1, 3, 10, 30, 100, 300)
LABEL_WIDTH = 22
POWER = Entry("of equal power", tint(QUIET, 0.6), dash=(3, 2), stroke_width=0.7)
PER_JOULE = ("images_per_joule", "images_per_joule_low", "images_per_joule_high")
SPEED = ("throughput_img_s", "throughput_low_img_s", "throughput_high_img_s")


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are devices with energy, columns models."""
    if summary.families.is_empty():
        return nothing_at_all("images a joule")
    points = measured_points(summary.measured, *PER_JOULE, *SPEED)
    without = [
        gpu for gpu in summary.order_gpus(set(summary.measured["gpu"])) if gpu not in {p["gpu"] for p in points}
    ]
    below = [f"{gpu}: measured without energy; {reasons(summary, gpu)}." for gpu in without]
    if not points:
        return nothing_to_draw(" ".join(below) or "No cell has an energy.")

    def panel(here: Sequence[Row], lost: Sequence[Row], scaled: Sequence[Row], place: Place) -> Panel:
        x = log_axis("Throughput (img/s)", [row[key] for row in scaled for key in SPEED], horizontal=True)
        y = log_axis("Images a joule", [row[key] for row in scaled for key in ("value", "low", "high")])
        lines = power_lines(here, summary.gpus[here[0]["gpu"]].tdp_w, x, y, place.width)
        return draw_plane(here, lines, x.at(place), y.at(place), place)

    entries = [*mode_entries(points), POWER, *common_entries(points, [], shaded=True)]
    return draw_grid(summary, points, [], panel, entries, "images a joule", most=HEIGHT, below=below)


def power_lines(here: Iterable[Row], tdp_w: float | None, x: Axis, y: Axis, width: float) -> list[dict[str, Any]]:
    """The diagonals of equal power inside a panel of this width in points, from the lowest power of its points to the
    TDP: the ends of each, its watts, and these in words where they do not overlap."""
    least = min(row["throughput_img_s"] / row["value"] for row in here)
    levels = [watts for watts in WATTS if watts >= 0.4 * least and (tdp_w is None or watts < 0.8 * tdp_w)]
    found: list[dict[str, Any]] = []
    start = float(width)
    # From the right, so that the TDP has its words.
    for watts in [*([tdp_w] if tdp_w else []), *reversed(levels)]:
        left, right = max(x.low, y.low * watts), min(x.high, y.high * watts)
        if left < right:
            apart = width * x.share(left) + LABEL_WIDTH <= start
            start = width * x.share(left) if apart else start
            found.append({"watts": watts, "words": f"{watts:g} W" if apart else "", "left": left, "right": right})
            found[-1] |= {"bottom": left / watts, "top": right / watts}
    return found


def draw_plane(here: Sequence[Row], lines: Sequence[Row], x: Axis, y: Axis, place: Place) -> Panel:
    """The points of a panel over the diagonals, which have their watts at their lower ends."""
    xs, ys, shape = x.x("throughput_img_s"), y.y("value"), mode_shape(here)
    data = alt.Chart(inline(large_first(here)))
    layers: list[alt.Chart] = []
    if lines:
        chart = alt.Chart(inline(lines))
        rules = chart.mark_rule(color=POWER.colour, strokeWidth=POWER.stroke_width, strokeDash=list(POWER.dash or ()))
        layers.append(rules.encode(x.x("left"), y.y("bottom"), alt.X2("right:Q"), alt.Y2("top:Q")))
    layers += shade_ranges([row for row in here if row["source"] == MEASURED], xs, ys)
    layers.append(
        data.mark_line(strokeWidth=0.8).encode(
            xs, ys, mode_colour(here), mode_dash(here), detail="mode:N", order="batch_size:Q"
        )
    )
    spans = [row for row in here if row["low"] is not None]
    if spans:
        bars = alt.Chart(inline(spans))
        layers.append(bars.mark_rule(strokeWidth=0.6).encode(xs, y.y("low"), alt.Y2("high:Q"), fill_colour()))
        sides = bars.mark_rule(strokeWidth=0.6)
        layers.append(sides.encode(x.x(SPEED[1]), ys, alt.X2(f"{SPEED[2]}:Q"), color=fill_colour()))
    marks = data.mark_point(filled=True, size=mark_size(place.width, 15), opacity=1)
    layers.append(marks.encode(xs, ys, fill_colour(), shape))
    if lines:
        text = alt.Chart(inline(lines)).mark_text(align="left", baseline="bottom", color=QUIET, dx=9)
        layers.append(text.encode(x.x("left"), y.y("bottom"), text="words:N"))
    return overlay(layers, place.width, place.height)


def reasons(summary: Summary, gpu: str) -> str:
    """Why the families of a device have no energy, each reason once."""
    here = summary.families.filter(pl.col("gpu") == gpu, pl.col("energy_note").is_not_null())
    return "; ".join(here["energy_note"].unique().sort()) or "no reason was recorded"
