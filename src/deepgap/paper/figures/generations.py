"""Generations of NVIDIA data-centre GPUs, from their data sheets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import log_axis
from deepgap.paper.charts.layout import AXIS_WIDTH, in_rows, inline, nothing_to_draw, overlay, pixels
from deepgap.paper.charts.legend import Entry, draw_legend
from deepgap.paper.charts.theme import CONFIG, GRID, INK, PAGE_WIDTH, precision_colour
from deepgap.study.gpus import Gpu
from deepgap.study.words import PRECISION_KEYS

SHOWS = ()
CAPTION = (
    "NVIDIA data-centre GPUs in order of their year of introduction, as their data sheets state them: the dense peak "
    "rate of each precision (logarithmic; one multiply-add is two operations) and the thermal design power. The grey "
    "ground marks cards sold for inference. No rate here is measured; the words at the foot say for which GPUs this "
    "study holds measured cells."
)

MOST = 6
"""GPUs side by side; with more, the values beside their bars would overlap."""
CHARACTER = 5.2
"""Points that a character of the figure's font needs at most, taken over a word."""
HEIGHT = 138
BAR = 26
HEAD = 7.0
"""Room above the highest rate for three lines of words, as a factor on the axis."""
FOOT = 3.2


def draw(summary: Summary) -> alt.VConcatChart:
    """One slot a GPU, ordered by year, in rows; a bar a precision."""
    gpus = sorted(
        (gpu for gpu in summary.kinds if gpu.device == "cuda" and gpu.year and _rates(gpu)),
        key=lambda gpu: (gpu.year, gpu.key),
    )
    if not gpus:
        return nothing_to_draw("config/gpus.yaml names no GPU with a year and a peak rate.")
    measured = {summary.gpus[gpu].kind for gpu in summary.measured["gpu"].unique()}
    longest = max(len(words) for gpu in gpus for words in (_name(gpu), gpu.architecture))
    room = PAGE_WIDTH - AXIS_WIDTH
    rows = in_rows(gpus, max(1, min(MOST, int(room / (CHARACTER * longest)))))
    slot = room / len(rows[0])
    rates = [rate for gpu in gpus for rate in _rates(gpu).values()]
    y = log_axis("Dense peak, data sheet (Tops/s)", [min(rates) / FOOT, max(rates) * HEAD]).y("rate", "~s")
    panels = [_panel(row, slot, y, measured) for row in rows]
    present = [precision for precision in PRECISION_KEYS if any(precision in _rates(gpu) for gpu in gpus)]
    entries = [Entry(name, precision_colour(name), dash=(1, 0), stroke_width=3) for name in present]
    entries.append(Entry("ground: inference card", GRID, dash=(1, 0), stroke_width=7))
    return alt.vconcat(draw_legend(entries), *panels, spacing=4, config=CONFIG)


def _panel(gpus: Sequence[Gpu], slot: float, y: alt.Y, measured: set[str]) -> alt.LayerChart:
    """These GPUs side by side, each `slot` points wide; `measured`: the keys of those that have cells."""
    bars, slots = [], []
    for place, gpu in enumerate(gpus):
        middle = (place + 0.5) * slot
        slots.append(
            {
                "gpu": gpu.key,
                "left": place * slot,
                "right": (place + 1) * slot,
                "middle": middle,
                "ground": GRID if gpu.inference_card else "white",
                "name": _fit(_name(gpu), slot),
                "about": _fit(gpu.architecture, slot),
                "power": "TDP not known" if gpu.tdp_w is None else f"{gpu.tdp_w:g} W",
                "kind": "inference card" if gpu.inference_card else "",
                "state": "measured here" if gpu.key in measured else "not measured here",
            }
        )
        for precision, rate in _rates(gpu).items():
            bars.append(
                {
                    "gpu": gpu.key,
                    "precision": precision,
                    "rate": rate,
                    "left": middle - BAR / 2,
                    "right": middle + BAR / 2,
                    "words": middle + BAR / 2 + 3,
                    "label": f"{rate:,g}",
                    "colour": precision_colour(precision),
                    "source": "data sheet",
                }
            )
    return overlay([_ground(slots), *_bars(bars, y), *_words(slots)], round(slot * len(gpus)), HEIGHT)


def _name(gpu: Gpu) -> str:
    return f"{gpu.key} ({gpu.year})"


def _fit(words: str, slot: float) -> str:
    """The words, cut in the middle where even a whole row has no room for them."""
    most = int(slot / CHARACTER)
    return words if len(words) <= most else f"{words[: most // 2]}…{words[-(most // 2 - 1) :]}"


def _rates(gpu: Gpu) -> dict[str, float]:
    """The known dense peaks in 10^12 operations a second."""
    return {name: rate for name in PRECISION_KEYS if (rate := gpu.peak_tops.get(name)) is not None}


def _ground(slots: list[dict[str, Any]]) -> alt.Chart:
    chart: alt.Chart = (
        alt.Chart(inline(slots))
        .mark_rect(opacity=1)
        .encode(
            pixels("left"),
            alt.X2("right:Q"),
            y=alt.value(0),
            y2=alt.value(HEIGHT),
            color=alt.Color("ground:N", scale=None),
        )
    )
    return chart


def _bars(bars: list[dict[str, Any]], y: alt.Y) -> list[alt.Chart]:
    data = alt.Chart(inline(bars))
    return [
        data.mark_rule(strokeWidth=3).encode(
            pixels("left"), y, alt.X2("right:Q"), color=alt.Color("colour:N", scale=None)
        ),
        data.mark_text(align="left", baseline="middle").encode(pixels("words"), y, text="label:N"),
    ]


def _words(slots: list[dict[str, Any]]) -> list[alt.Chart]:
    data = alt.Chart(inline(slots))
    lines = {"name": 6, "about": 15, "power": 23, "kind": HEIGHT - 14, "state": HEIGHT - 5}
    return [
        data.mark_text(align="center", baseline="middle", color=INK).encode(
            pixels("middle"), y=alt.value(place), text=f"{field}:N"
        )
        for field, place in lines.items()
    ]
