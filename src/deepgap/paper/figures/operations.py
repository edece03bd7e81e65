"""Operations a clock cycle and multiprocessor, from the data sheets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import log_axis
from deepgap.paper.charts.layout import AXIS_WIDTH, in_rows, inline, nothing_to_draw, overlay, pixels
from deepgap.paper.charts.legend import Entry, draw_legend
from deepgap.paper.charts.theme import COLUMN_WIDTH, CONFIG, GRID, precision_colour
from deepgap.study.gpus import Gpu
from deepgap.study.words import PRECISION_KEYS

DEVICES = ()
SPAN = "column"
SHOWS = ()
CAPTION = (
    "Conceptual, not measured: operations a clock cycle and streaming multiprocessor (SM) by GPU and precision, the "
    "data sheet's dense peak rate over the number of SMs and the highest SM clock; logarithmic. One multiply-add is "
    "two operations. A value below a power of two means that the data sheet's rate belongs to a lower clock."
)

MOST = 5
"""GPUs side by side; with more, their words would overlap."""
HEIGHT = 120
BAR = 16


def operations_per_cycle(gpu: Gpu) -> dict[str, float]:
    """peak_tops x 10^12 / (sm_count x max_sm_clock_mhz x 10^6) of each precision with a known peak; empty where the
    SMs or their clock are not known."""
    if gpu.sm_count is None or gpu.max_sm_clock_mhz is None:
        return {}
    cycles = gpu.sm_count * gpu.max_sm_clock_mhz * 1e6
    return {name: peak * 1e12 / cycles for name in PRECISION_KEYS if (peak := gpu.peak_tops.get(name)) is not None}


def draw(summary: Summary) -> alt.VConcatChart:
    """One slot a GPU in the order of gpus.yaml, in rows; a bar and its number a precision."""
    found = {gpu.key: operations_per_cycle(gpu) for gpu in summary.kinds}
    found = {key: values for key, values in found.items() if values}
    if not found:
        return nothing_to_draw("config/gpus.yaml names no GPU with SMs, a clock and a peak rate.")
    rows = in_rows(list(found.items()), MOST)
    width = COLUMN_WIDTH - AXIS_WIDTH
    rates = [value for values in found.values() for value in values.values()]
    y = log_axis("Operations a cycle and SM", [*rates, max(rates) * 1.6]).y("value")
    panels = [_panel(row, width / len(rows[0]), y) for row in rows]
    present = [precision for precision in PRECISION_KEYS if any(precision in values for values in found.values())]
    entries = [Entry(name, precision_colour(name), dash=(1, 0), stroke_width=3) for name in present]
    return alt.vconcat(draw_legend(entries, round(width) + 6), *panels, spacing=4, config=CONFIG)


def _panel(found: Sequence[tuple[str, dict[str, float]]], slot: float, y: alt.Y) -> alt.LayerChart:
    """These GPUs and their operations by precision side by side, each `slot` points wide."""
    bars: list[dict[str, Any]] = []
    slots: list[dict[str, Any]] = []
    for place, (gpu, values) in enumerate(found):
        left = place * slot
        slots.append({"gpu": gpu, "left": left, "middle": left + slot / 2, "key": gpu})
        for precision, value in values.items():
            bars.append(
                {
                    "gpu": gpu,
                    "precision": precision,
                    "value": value,
                    "left": left + 3,
                    "right": left + 3 + BAR,
                    "words": left + 5 + BAR,
                    "label": f"{value:.0f}",
                    "colour": precision_colour(precision),
                    "source": "data sheet",
                }
            )
    data = alt.Chart(inline(bars))
    layers = [
        alt.Chart(inline(slots[1:] or slots)).mark_rule(color=GRID).encode(pixels("left")),
        data.mark_rule(strokeWidth=3).encode(
            pixels("left"), y, alt.X2("right:Q"), color=alt.Color("colour:N", scale=None)
        ),
        data.mark_text(align="left", baseline="middle").encode(pixels("words"), y, text="label:N"),
        alt.Chart(inline(slots))
        .mark_text(align="center", baseline="middle")
        .encode(pixels("middle"), y=alt.value(6), text="key:N"),
    ]
    return overlay(layers, round(slot * len(found)), HEIGHT)
