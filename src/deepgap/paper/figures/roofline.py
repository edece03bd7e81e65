"""How near each mode comes to the nearer of its two roofs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import altair as alt

from deepgap.analyse.schemas import MEASURED, PUBLISHED
from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import Axis, batch_axis, zero_axis
from deepgap.paper.charts.layout import (
    APART,
    GAP,
    Panel,
    Place,
    Row,
    add_heading,
    grid_width,
    in_rows,
    inline,
    nothing_at_all,
    nothing_to_draw,
    overlay,
    row_height,
)
from deepgap.paper.charts.legend import FLAGGED, LAUNCH_BOUND, POWER_HELD, PUBLISHED_POINT, Entry, draw_legend
from deepgap.paper.charts.marks import (
    HOLLOW_SIZE,
    fill_colour,
    level_lines,
    mark_size,
    measured_points,
    order_modes,
    published_points,
    shade_ranges,
)
from deepgap.paper.charts.panels import row_title
from deepgap.paper.charts.theme import CONFIG, INK, QUIET, precision_colour
from deepgap.paper.figures.latency_by_model import model_shape
from deepgap.published.networks import GMAC_PER_IMAGE, Traffic, find_traffic
from deepgap.published.values import table1_peaks
from deepgap.study.gpus import Gpu
from deepgap.study.words import BYTES_PER_ELEMENT, model_label

CAPTION = (
    "Share of the nearer roof over batch size, a panel a mode: operations a second (two a multiply-add, median over "
    "sweeps) over the lower of two limits, the data sheet's dense peak of the mode's precision and its DRAM "
    "bandwidth times the operations a byte of the least traffic. That traffic is counted from the model's graph: "
    "every fused layer reads its inputs and writes its output once and weights are read once a call, all in the "
    "element size of the mode. The words in a panel say which roof is the nearer at the largest batch size. A share "
    "of DRAM above 100 % took less than this traffic from DRAM: caches held a part, or layers were fused. All "
    "panels have one scale. Bars are the exact order-statistic intervals, at least 95 %. Pale marks have a flag "
    "that keeps them out of the primary set. Hollow marks are the published peaks of cards that were measured here; "
    "their FP32 left TF32 at its default."
)

HEIGHT = 66
MOST = 5
"""Panels side by side."""
FULL = Entry("at the roof", QUIET, dash=(1, 0), stroke_width=0.8)
DASHES = ((1, 0), (4, 2), (1, 2), (6, 2, 1, 2), (2, 2), (8, 2))
LETTER = 3.5
"""Width of a letter in points."""
DRAM, PEAK = "DRAM", "peak"


def draw(summary: Summary) -> alt.VConcatChart:
    """A block a GPU that has roofs, a panel a mode, a line a model."""
    everything = [
        *measured_points(summary.measured, "throughput_img_s", "throughput_low_img_s", "throughput_high_img_s"),
        *published_points(summary, table1_peaks(summary.published), "throughput_img_s"),
    ]
    facts = {(row["gpu"], row["model"]): row for row in summary.facts.iter_rows(named=True)}
    points = [
        placed
        for row in everything
        if row["gpu"] in summary.gpus
        and (placed := place_point(row, summary.gpus[row["gpu"]], facts.get((row["gpu"], row["model"]))))
    ]
    if not points:
        devices = ", ".join(summary.order_gpus({row["gpu"] for row in everything}))
        return nothing_to_draw(f"No roof is known for {devices}.") if devices else nothing_at_all("the roofline")
    models = summary.order_models(row["model"] for row in points)
    gpus = summary.order_gpus({row["gpu"] for row in points})
    blocks = {gpu: in_rows(order_modes(row for row in points if row["gpu"] == gpu), MOST) for gpu in gpus}
    legend = draw_legend(entries(points, models))
    height = row_height(sum(map(len, blocks.values())), [legend], HEIGHT)
    y = zero_axis("Share of roof (%)", [105.0, *(row[key] for row in points for key in ("value", "high"))], 4.5)
    charts = []
    for gpu, rows in blocks.items():
        for number, modes in enumerate(rows):
            panels: list[Panel] = []
            for mode in modes:
                here = [row for row in points if row["gpu"] == gpu and row["mode"] == mode]
                bottom = gpu == gpus[-1] and number == len(rows) - 1
                width = (grid_width(2) - (len(rows[0]) - 1) * GAP) // len(rows[0])
                place = Place(inner=bool(panels), bottom=bottom, height=height, width=width)
                x = batch_axis(summary, points, gpu).at(place)
                panels.append(add_heading(draw_shares(here, models, x, y.at(place), place), mode))
            title = (
                {}
                if number
                else {"title": alt.Title(row_title(summary, gpu), anchor="start", frame="group", offset=5)}
            )
            charts.append(alt.hconcat(*panels, spacing=GAP, bounds="flush", resolve=APART, **title))
    return alt.vconcat(legend, *charts, spacing=12, resolve=APART, config=CONFIG)


def entries(points: Sequence[Row], models: Sequence[str]) -> list[Entry]:
    found = [
        Entry(model_label(model), INK, model_shape(models, model), model_dash(models, model), size=18)
        for model in models
    ]
    found.append(FULL)
    for entry, shown in (
        (FLAGGED, any(row.get("primary") is False for row in points)),
        (LAUNCH_BOUND, any(row.get("launch_bound") for row in points)),
        (POWER_HELD, any(row.get("power_held") for row in points)),
        (PUBLISHED_POINT, any(row["source"] == PUBLISHED for row in points)),
    ):
        found += [entry] if shown else []
    return found


def model_dash(models: Sequence[str], model: str) -> tuple[float, ...]:
    return DASHES[models.index(model) % len(DASHES)]


def place_point(row: Row, gpu: Gpu, facts: Row | None = None) -> dict[str, Any] | None:
    """A throughput as a share of the nearer roof; None where a roof, the operations or the traffic are not known.

    value, low, high: percent. roof: which is the nearer. intensity: operations a byte.

    Args:
        facts: a row of `schemas.FACTS`; a published model without one counts as it is known by hand.
    """
    found, peak, bandwidth = (
        find_work(row["model"], facts),
        gpu.peak_tops.get(row["precision"]),
        gpu.memory_bandwidth_gb_s,
    )
    if found is None or row["precision"] not in BYTES_PER_ELEMENT or not peak or not bandwidth:
        return None
    traffic, multiply_adds = found
    intensity = 2 * multiply_adds / traffic.bytes_per_image(row["precision"], row["batch_size"])
    limits = {DRAM: 1e9 * bandwidth * intensity, PEAK: 1e12 * peak}
    roof = min(limits, key=lambda name: limits[name])
    scale = 100 * 2 * multiply_adds / limits[roof]
    shares = {key: None if row[key] is None else row[key] * scale for key in ("value", "low", "high")}
    return {**row, **shares, "intensity": intensity, "roof": roof}


def find_work(model: str, facts: Row | None) -> tuple[Traffic, float] | None:
    """The least traffic of an image and its multiply-adds."""
    names = ("activation_elements", "largest_activation_elements", "weight_elements", "multiply_adds")
    if facts is not None and all(facts[name] is not None for name in names):
        activations, largest, weights, multiply_adds = (facts[name] for name in names)
        return Traffic(activations, largest, weights), multiply_adds
    traffic = find_traffic(model)
    return None if traffic is None else (traffic, 1e9 * GMAC_PER_IMAGE[model])


def nearer_roofs(rows: Sequence[Row], models: Sequence[str]) -> str:
    """Which roof is the nearer at the largest batch size: `DRAM`, or `DRAM; ViT-B/16: peak` where models differ."""
    last = {row["model"]: row["roof"] for row in sorted(rows, key=lambda row: int(row["batch_size"]))}
    of_roof = {roof: [model for model in models if last.get(model) == roof] for roof in (DRAM, PEAK)}
    most, least = sorted(of_roof, key=lambda roof: -len(of_roof[roof]))
    others = ", ".join(map(model_label, of_roof[least]))
    return f"{most}; {others}: {least}" if others else most


def draw_shares(here: Sequence[Row], models: Sequence[str], x: Axis, y: Axis, place: Place) -> Panel:
    """The shares of one mode, a line a model, under the line of the roof."""
    xs, ys = x.x("batch_size", "d"), y.y("value", "d")
    present = [model for model in models if any(row["model"] == model for row in here)]
    shape = alt.Shape(
        "model:N", legend=None, scale=alt.Scale(domain=present, range=[model_shape(models, name) for name in present])
    )
    dash = alt.StrokeDash(
        "model:N",
        legend=None,
        scale=alt.Scale(domain=present, range=[list(model_dash(models, name)) for name in present]),
    )
    colour = precision_colour(here[0]["precision"])
    measured = [row for row in here if row["source"] == MEASURED]
    published = [row for row in here if row["source"] == PUBLISHED]
    layers: list[alt.Chart] = []
    for model in present:
        layers += shade_ranges([row for row in measured if row["model"] == model], xs, ys)
    layers.append(level_lines([{"value": 100.0}], x, y, color=QUIET, strokeWidth=FULL.stroke_width))
    if measured:
        data = alt.Chart(inline(measured))
        layers.append(data.mark_line(strokeWidth=0.9, color=colour).encode(xs, ys, dash, detail="model:N"))
        spans = [row for row in measured if row["low"] is not None]
        if spans:
            rules = alt.Chart(inline(spans)).mark_rule(strokeWidth=0.7)
            layers.append(rules.encode(xs, y.y("low", "d"), alt.Y2("high:Q"), fill_colour()))
        marks = data.mark_point(filled=True, size=mark_size(place.width, 16), opacity=1)
        layers.append(marks.encode(xs, ys, fill_colour(), shape))
    if published:
        marks = alt.Chart(inline(published)).mark_point(filled=False, size=HOLLOW_SIZE, opacity=1, color=colour)
        layers.append(marks.encode(xs, ys, shape))
    words = nearer_roofs(here, present)
    lines = textwrap.wrap(words, int(place.width / LETTER))
    note = alt.Chart(inline([{"words": words}])).mark_text(
        text=lines, align="left", baseline="top", lineHeight=8, color=QUIET
    )
    layers.append(note.encode(x=alt.value(3), y=alt.value(2 + place.height * (1 - y.share(100)))))
    return overlay(layers, place.width, place.height)
