"""Operations a second against operations a byte, under each GPU's roofs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from deepgap.analyse.schemas import MEASURED, PUBLISHED
from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import Axis, log_axis
from deepgap.paper.charts.layout import (
    PANEL_WIDTH,
    Panel,
    Place,
    Row,
    inline,
    nothing_at_all,
    nothing_to_draw,
    overlay,
)
from deepgap.paper.charts.legend import Entry, common_entries, mode_entries
from deepgap.paper.charts.marks import (
    OUTLINE,
    failed_points,
    failure_note,
    fill_colour,
    hollow_points,
    large_first,
    measured_points,
    mode_colour,
    mode_dash,
    mode_shape,
    published_points,
)
from deepgap.paper.charts.panels import draw_grid
from deepgap.paper.charts.theme import INK, QUIET, precision_colour
from deepgap.published.networks import GMAC_PER_IMAGE, Traffic, find_traffic
from deepgap.published.values import table1_peaks
from deepgap.study.gpus import Gpu
from deepgap.study.words import BYTES_PER_ELEMENT

CAPTION = (
    "Operations a second (two a multiply-add, median over sweeps) against arithmetic intensity: operations a byte "
    "of the least traffic, counted from the model's graph: every fused layer reads its inputs and writes its output "
    "once and weights are read once a call, all in the element size of the mode; one point a batch size. The sloped "
    "roof is DRAM bandwidth, the level ones are the dense peaks by precision, both the vendor's. A white dot marks "
    "the largest batch size of a mode at which the largest activation of a call fits in the L2 cache, and each "
    "published peak of which it does; the capacity is the vendor's or, where it prints none, the driver's, and "
    "without one nothing is marked. No bandwidth of an L2 cache is known here, so there is no roof for it. A mark "
    "above the slope took less than this traffic from DRAM: caches held a part, or layers were fused. Hollow marks "
    "are the published peaks; their FP32 left TF32 at its default."
)

HEIGHT = 120
ROOF = Entry("DRAM bandwidth and dense peak by precision", QUIET, dash=(1, 0), stroke_width=0.8)
IN_CACHE = Entry("to here the largest activation fits in L2", "white", "circle", size=5, outlined=True)


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are the GPUs that have roofs, columns models; both axes are logarithmic, in operations a byte and 10^12
    operations a second."""
    everything = [
        *measured_points(summary.measured, "throughput_img_s", "throughput_low_img_s", "throughput_high_img_s"),
        *published_points(summary, table1_peaks(summary.published), "throughput_img_s"),
    ]
    roofed = {key for key, gpu in summary.gpus.items() if any(gpu.peak_tops.values()) and gpu.memory_bandwidth_gb_s}
    facts = {(row["gpu"], row["model"]): row for row in summary.facts.iter_rows(named=True)}
    points = [
        placed
        for row in everything
        if row["gpu"] in roofed
        and (placed := place_point(row, summary.gpus[row["gpu"]], facts.get((row["gpu"], row["model"]))))
    ]
    failed = [row for row in failed_points(summary) if row["gpu"] in roofed]
    others = summary.order_gpus({row["gpu"] for row in everything} - roofed)
    notes = [f"{', '.join(others)}: no peak or no bandwidth in config/gpus.yaml, so no roofs."] if others else []
    if not points:
        return nothing_to_draw(notes[0]) if notes else nothing_at_all("the roofline")
    # Room for the words on the roofs, right of the last ridge.
    ridge = 1.8 * max(ridge for row in points for ridge in find_ridges(summary.gpus[row["gpu"]], [row]))
    x = log_axis("Arithmetic intensity (op/byte)", [*(row["intensity"] for row in points), ridge], horizontal=True)

    def panel(here: Sequence[Row], lost: Sequence[Row], in_row: Sequence[Row], place: Place) -> Panel:
        gpu = summary.gpus[in_row[0]["gpu"]]
        roofs = peak_roofs(gpu, in_row)
        levels = [row[key] for row in in_row for key in ("value", "low", "high")]
        y = log_axis("Achieved (Tops/s)", [*levels, *(1.3 * tops for tops in roofs.values())])
        return draw_plane(here, lost, gpu, roofs, x.at(place), y.at(place), place.height)

    entries = [*mode_entries(points), ROOF] + ([IN_CACHE] if any(row["in_cache"] for row in points) else [])
    entries += common_entries(points, [])
    return draw_grid(summary, points, failed, panel, entries, "the roofline", most=HEIGHT, below=notes)


def find_ridges(gpu: Gpu, rows: Sequence[Row]) -> list[float]:
    """Where the slope meets the peaks of these rows' precisions, in operations a byte."""
    bandwidth = gpu.memory_bandwidth_gb_s
    return [] if bandwidth is None else [1000 * tops / bandwidth for tops in peak_roofs(gpu, rows).values()]


def place_point(row: Row, gpu: Gpu, facts: Row | None = None) -> dict[str, Any] | None:
    """A throughput as a point of the roofline; None where the model's operations or traffic are not known.

    intensity: operations a byte. value, low, high: 10^12 operations a second. in_cache: the call's largest activation
    fits in the L2 cache; null where its capacity is not known.

    Args:
        facts: a row of `schemas.FACTS`; a published model without one counts as it is known by hand.
    """
    found = find_work(row["model"], facts)
    if found is None or row["precision"] not in BYTES_PER_ELEMENT:
        return None
    traffic, multiply_adds = found
    scale = 2e-12 * multiply_adds
    bytes_per_image = traffic.bytes_per_image(row["precision"], row["batch_size"])
    capacity = None if gpu.l2_cache_mib is None else gpu.l2_cache_mib * 2**20
    size = traffic.largest_bytes(row["precision"], row["batch_size"])
    return {
        **row,
        "intensity": 2 * multiply_adds / bytes_per_image,
        **{key: None if row[key] is None else row[key] * scale for key in ("value", "low", "high")},
        "in_cache": None if capacity is None else size <= capacity,
    }


def find_work(model: str, facts: Row | None) -> tuple[Traffic, float] | None:
    """The least traffic of an image and its multiply-adds."""
    names = ("activation_elements", "largest_activation_elements", "weight_elements", "multiply_adds")
    if facts is not None and all(facts[name] is not None for name in names):
        activations, largest, weights, multiply_adds = (facts[name] for name in names)
        return Traffic(activations, largest, weights), multiply_adds
    traffic = find_traffic(model)
    return None if traffic is None else (traffic, 1e9 * GMAC_PER_IMAGE[model])


def peak_roofs(gpu: Gpu, rows: Sequence[Row]) -> dict[str, float]:
    """The dense peaks of the precisions of these rows, in 10^12 operations a second."""
    peaks = {row["precision"]: gpu.peak_tops.get(row["precision"]) for row in rows}
    return {precision: tops for precision, tops in peaks.items() if tops is not None}


def draw_plane(
    here: Sequence[Row], lost: Sequence[Row], gpu: Gpu, roofs: dict[str, float], x: Axis, y: Axis, height: int
) -> Panel:
    """The points of a panel and the roofs of its GPU, with what is known of its cache."""
    layers = draw_roofs(gpu, roofs, x, y, height)
    xs, ys = x.x("intensity"), y.y("value")
    colour, shape = mode_colour(here), mode_shape(here)
    measured = large_first(row for row in here if row["source"] == MEASURED)
    published = [row for row in here if row["source"] == PUBLISHED]
    if measured:
        chart = alt.Chart(inline(measured))
        layers.append(
            chart.mark_line(strokeWidth=0.8).encode(
                xs, ys, colour, mode_dash(here), detail="mode:N", order="batch_size:Q"
            )
        )
        layers.append(chart.mark_point(filled=True, size=14, opacity=1).encode(xs, ys, fill_colour(), shape))
    if published:
        layers += hollow_points(published, xs, ys, colour, shape)
    cached = [*last_in_cache(measured), *(row for row in published if row["in_cache"])]
    if cached:
        look: dict[str, Any] = {"fill": IN_CACHE.colour, "stroke": INK, "strokeWidth": OUTLINE, "opacity": 1}
        dots = alt.Chart(inline(cached)).mark_point(shape="circle", size=IN_CACHE.size, **look)
        layers.append(dots.encode(xs, ys))
    if lost:
        layers.append(failure_note(lost))
    return overlay(layers, PANEL_WIDTH, height)


def last_in_cache(rows: Sequence[Row]) -> list[Row]:
    """The point of each mode with the largest batch size whose largest activation fits in the L2 cache."""
    last: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: int(row["batch_size"])):
        if row["in_cache"]:
            last[row["mode"]] = row
    return list(last.values())


def draw_roofs(gpu: Gpu, roofs: dict[str, float], x: Axis, y: Axis, height: int) -> list[alt.Chart]:
    """The level lines from the slope to the right edge, the slope up to the highest of them, and their words."""
    layers: list[alt.Chart] = []
    bandwidth = None if gpu.memory_bandwidth_gb_s is None else gpu.memory_bandwidth_gb_s / 1000
    if roofs:
        levels = [
            {
                "precision": precision,
                "tops": tops,
                "left": x.low if bandwidth is None else min(max(tops / bandwidth, x.low), x.high),
                "right": x.high,
                "colour": precision_colour(precision),
                "words": f"{precision} {tops:g}",
            }
            for precision, tops in roofs.items()
        ]
        lines = alt.Chart(inline(levels)).mark_rule(strokeWidth=0.9)
        colour = alt.Color("colour:N", scale=None, legend=None)
        layers.append(lines.encode(x.x("left"), y.y("tops"), alt.X2("right:Q"), colour))
        text = alt.Chart(inline(levels)).mark_text(align="right", baseline="bottom", dx=-2)
        layers.append(text.encode(x.x("right"), y.y("tops"), text="words:N"))
    if bandwidth is not None and roofs:
        ends = [max(x.low, y.low / bandwidth), min(max(roofs.values()) / bandwidth, x.high)]
        slope = [{"intensity": end, "tops": end * bandwidth} for end in ends]
        line = alt.Chart(inline(slope)).mark_line(strokeWidth=0.9, color=QUIET)
        layers.append(line.encode(x.x("intensity"), y.y("tops")))
    sentences = describe_limits(gpu)
    rows = [{"words": text, "y": height - 5 - 8 * place} for place, text in enumerate(reversed(sentences))]
    note = alt.Chart(inline(rows)).mark_text(align="right", baseline="middle", color=QUIET)
    layers.append(note.encode(x=alt.value(PANEL_WIDTH - 3), y=alt.Y("y:Q", scale=None, axis=None), text="words:N"))
    return layers


def describe_limits(gpu: Gpu) -> list[str]:
    """What the slope is, and what is known of the cache."""
    capacity = "capacity not in gpus.yaml" if gpu.l2_cache_mib is None else f"{gpu.l2_cache_mib:g} MiB"
    return [f"DRAM {gpu.memory_bandwidth_gb_s:g} GB/s", f"L2 {capacity}"]
