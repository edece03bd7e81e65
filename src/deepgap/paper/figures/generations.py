"""Generations of NVIDIA data-centre GPUs, from their data sheets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import log_axis
from deepgap.paper.charts.layout import APART, GAP, add_heading, inline, nothing_to_draw, overlay
from deepgap.paper.charts.legend import Entry, draw_legend
from deepgap.paper.charts.theme import CONFIG, GRID, INK, QUIET, precision_colour, precision_shape
from deepgap.study.gpus import Gpu
from deepgap.study.words import PRECISION_KEYS

SHOWS = ()
CAPTION = (
    "NVIDIA GPUs in order of their year of introduction, with their thermal design power, as their data sheets "
    "state them, both axes logarithmic: at the left the dense peak rate of each precision (one multiply-add is two "
    "operations), at the right the bandwidth of the DRAM. The grey ground marks cards sold for inference, a frame "
    "those of which this study holds measured cells. No rate here is measured."
)

LINE = 10.5
NAMES_WIDTH = 76
WIDTHS = (98, 58)
"""Of the panels of rates and of bandwidths in points."""
SIZE = 24


def draw(summary: Summary) -> alt.VConcatChart:
    """A line a GPU, the oldest at the top; a mark a precision, and one for the bandwidth."""
    gpus = dated_gpus([gpu for key, gpu in summary.gpus.items() if key == gpu.kind])
    if not gpus:
        return nothing_to_draw("config/gpus.yaml names no GPU with a year and a peak rate.")
    measured = {summary.gpus[gpu].kind for gpu in summary.measured["gpu"].unique()}
    slots = [_slot(gpu, gpu.key in measured) for gpu in gpus]
    rates = [
        {"gpu": gpu.key, "name": slot["name"], "precision": name, "rate": rate, "source": "data sheet"}
        for gpu, slot in zip(gpus, slots, strict=True)
        for name, rate in peak_rates(gpu).items()
    ]
    bandwidths = [
        {"gpu": gpu.key, "name": slot["name"], "bandwidth": gpu.memory_bandwidth_gb_s, "source": "data sheet"}
        for gpu, slot in zip(gpus, slots, strict=True)
        if gpu.memory_bandwidth_gb_s is not None
    ]
    panels = [_panel(slots, WIDTHS[0], _rate_marks(rates), labelled=True)]
    panels[0] = add_heading(panels[0], "Dense peak")
    if bandwidths:
        panels.append(add_heading(_panel(slots, WIDTHS[1], _bandwidth_marks(bandwidths)), "Bandwidth"))
    present = [name for name in PRECISION_KEYS if any(name in peak_rates(gpu) for gpu in gpus)]
    entries = [Entry(name, precision_colour(name), precision_shape(name), size=SIZE) for name in present]
    if any(slot["kind"] for slot in slots):
        entries.append(Entry("ground: inference card", GRID, "square", size=44))
    if measured & {gpu.key for gpu in gpus}:
        entries.append(Entry("frame: measured here", INK, "square", filled=False, size=36, stroke_width=0.8))
    row = alt.hconcat(*panels, spacing=GAP, bounds="flush", resolve=APART)
    return alt.vconcat(draw_legend(entries, sum(WIDTHS) + GAP), row, spacing=16, resolve=APART, config=CONFIG)


def dated_gpus(kinds: Sequence[Gpu]) -> list[Gpu]:
    """The GPUs that have a year and a peak rate, the oldest first."""
    known = [gpu for gpu in kinds if gpu.device == "cuda" and gpu.year and peak_rates(gpu)]
    return sorted(known, key=lambda gpu: (gpu.year, gpu.key))


def peak_rates(gpu: Gpu) -> dict[str, float]:
    """The known dense peaks in 10^12 operations a second."""
    return {name: rate for name in PRECISION_KEYS if (rate := gpu.peak_tops.get(name)) is not None}


def gpu_names(gpu: Gpu) -> str:
    """The key, the year and the power of a GPU."""
    return f"{gpu.key}, {gpu.year}" + ("" if gpu.tdp_w is None else f", {gpu.tdp_w:g} W")


def _slot(gpu: Gpu, measured: bool) -> dict[str, Any]:
    return {
        "gpu": gpu.key,
        "name": gpu_names(gpu),
        "kind": "inference card" if gpu.inference_card else "",
        "ground": GRID if gpu.inference_card else "white",
        "state": "measured here" if measured else "not measured here",
    }


def lines_axis(names: Sequence[str], labelled: bool, width: int = NAMES_WIDTH) -> alt.Y:
    """A line a name, from the top, with the names at the left where it is labelled."""
    return alt.Y(
        "name:N",
        title=None,
        scale=alt.Scale(domain=list(names), paddingInner=0, paddingOuter=0),
        axis=alt.Axis(labels=labelled, ticks=False, grid=False, labelLimit=width, minExtent=0),
    )


def _panel(slots: Sequence[dict[str, Any]], width: int, marks: alt.Chart, labelled: bool = False) -> alt.LayerChart:
    """The grounds and frames of the GPUs under these marks."""
    y = lines_axis([slot["name"] for slot in slots], labelled)
    whole = {"x": alt.value(0), "x2": alt.value(width)}
    ground = (
        alt.Chart(inline(slots))
        .mark_rect(opacity=1)
        .encode(y, color=alt.Color("ground:N", scale=None, legend=None), **whole)
    )
    layers = [ground, marks.encode(y)]
    framed = [slot for slot in slots if slot["state"] == "measured here"]
    if framed:
        frames = alt.Chart(inline(framed)).mark_rect(filled=False, stroke=INK, strokeWidth=0.8, opacity=1)
        layers.append(frames.encode(y, **whole))
    return overlay(layers, width, round(LINE * len(slots)))


def _rate_marks(rates: Sequence[dict[str, Any]]) -> alt.Chart:
    x = log_axis("Tops/s", [row["rate"] for row in rates], horizontal=True)
    return precision_marks(rates).encode(x.x("rate"))


def precision_marks(rows: Sequence[dict[str, Any]]) -> alt.Chart:
    """Marks with the colour and the shape of their precision."""
    present = [name for name in PRECISION_KEYS if any(row["precision"] == name for row in rows)]
    colours, shapes = [precision_colour(name) for name in present], [precision_shape(name) for name in present]
    marks = alt.Chart(inline(rows)).mark_point(filled=True, size=SIZE, opacity=1)
    chart: alt.Chart = marks.encode(
        color=alt.Color("precision:N", legend=None, scale=alt.Scale(domain=present, range=colours)),
        shape=alt.Shape("precision:N", legend=None, scale=alt.Scale(domain=present, range=shapes)),
    )
    return chart


def _bandwidth_marks(rows: Sequence[dict[str, Any]]) -> alt.Chart:
    x = log_axis("GB/s", [row["bandwidth"] for row in rows], horizontal=True)
    marks = alt.Chart(inline(rows)).mark_point(filled=True, shape="diamond", size=SIZE, color=QUIET, opacity=1)
    chart: alt.Chart = marks.encode(x.x("bandwidth"))
    return chart
