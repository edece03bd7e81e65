"""The bits of a number in each precision, and the peak rates that the precisions have over FP32's."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import altair as alt

from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import Axis
from deepgap.paper.charts.layout import APART, inline, nothing_to_draw, overlay
from deepgap.paper.charts.legend import Entry, draw_legend
from deepgap.paper.charts.theme import COLUMN_WIDTH, CONFIG, INK, QUIET, precision_colour, precision_shape, tint
from deepgap.paper.figures.generations import SIZE, dated_gpus, lines_axis, peak_rates, precision_marks
from deepgap.study.gpus import Gpu
from deepgap.study.words import BITS, PRECISION_KEYS

DEVICES = ()
SHOWS = ()
CAPTION = (
    "Conceptual, not measured. Above, the bits of a number by precision: fp32, fp16 and bf16 are the formats of "
    "these names, tf32 computes with the stated bits of a number that is stored in the width of fp32, and int8 is a "
    "signed integer with a scale beside it; the words say which GPUs' data sheets give the precision a rate. Below, "
    "the data sheet's dense peak rate of each precision over that of FP32 of the same GPU, logarithmic: what a "
    "shorter format can gain at the most where arithmetic is the limit."
)

PARTS = {
    "sign": INK,
    "exponent": tint("#00487c", 0.55),
    "mantissa or value": tint("#56b4e9", 0.35),
    "stored, not used": "white",
}
NAMES = 46
"""Points left of the boxes for the names of the precisions."""
LINE = 9
GAP = 8
CELL = 6.1
LETTERS = 44
"""The most of a line of keys, which are capitals and digits and so wider than other words."""


NAMES_WIDTH = 46
RATIO_LINE = 9.5


def draw(summary: Summary) -> alt.VConcatChart:
    """Above, one row a precision and one box a bit, from the most significant; below, one line a GPU."""
    gpus = [gpu for gpu in summary.kinds if gpu.device == "cuda"]
    present = [name for name in PRECISION_KEYS if any(name in gpu.peak_tops for gpu in gpus)]
    if not present:
        return nothing_to_draw("config/gpus.yaml names no GPU with a precision.")
    bits, legend = _draw_bits(present, gpus)
    ratios = peak_ratios(dated_gpus(gpus))
    below = _draw_ratios(ratios) if ratios else []
    return alt.vconcat(legend, bits, *below, spacing=5, resolve=APART, config=CONFIG)


def peak_ratios(gpus: Sequence[Gpu]) -> list[dict[str, Any]]:
    """The dense peak of each precision over FP32's, a row a GPU and precision; none of a GPU without FP32's."""
    return [
        {"gpu": gpu.key, "name": gpu.key, "precision": name, "ratio": rate / rates["fp32"], "source": "data sheet"}
        for gpu in gpus
        if (rates := peak_rates(gpu)).get("fp32")
        for name, rate in rates.items()
        if name != "fp32"
    ]


def _draw_ratios(ratios: Sequence[dict[str, Any]]) -> list[alt.LayerChart]:
    """The legend of the marks, and the marks over a line that is FP32's peak."""
    names = list(dict.fromkeys(row["name"] for row in ratios))
    present = [name for name in PRECISION_KEYS if any(row["precision"] == name for row in ratios)]
    width = COLUMN_WIDTH - NAMES_WIDTH
    ends = [row["ratio"] for row in ratios]
    ticks = tuple(
        float(2**power) for power in range(-1, 8) if 2**power <= max(ends) * 1.2 and 2**power >= min([1.0, *ends])
    )
    x = Axis("Dense peak over FP32's", min([1.0, *ends]) / 1.15, max(ends) * 1.2, ticks, 2, horizontal=True)
    level = alt.Chart(inline([{"ratio": 1.0}])).mark_rule(color=QUIET, strokeWidth=0.8).encode(x.x("ratio"))
    marks = precision_marks(ratios).encode(x.x("ratio"), lines_axis(names, labelled=True, width=NAMES_WIDTH))
    entries = [Entry(name, precision_colour(name), precision_shape(name), size=SIZE) for name in present]
    entries.append(Entry("FP32", QUIET, dash=(1, 0), stroke_width=0.8))
    return [draw_legend(entries, width), overlay([level, marks], width, round(RATIO_LINE * len(names)))]


def _draw_bits(present: Sequence[str], gpus: Sequence[Gpu]) -> tuple[alt.LayerChart, alt.LayerChart]:
    """The boxes of the bits, and their legend."""
    boxes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    top = 0
    for precision in present:
        for line in _describe(precision, gpus):
            notes.append({"precision": precision, "x": 0, "y": top + LINE / 2, "text": line})
            top += LINE
        notes.append({"precision": precision, "x": -4, "y": top + LINE / 2, "text": precision})
        bit = 0
        for (part, colour), count in zip(PARTS.items(), astuple(BITS[precision]), strict=True):
            for _ in range(count):
                boxes.append(
                    {
                        "precision": precision,
                        "part": part,
                        "colour": colour,
                        "left": bit * CELL,
                        "right": (bit + 1) * CELL,
                        "top": top,
                        "bottom": top + LINE,
                    }
                )
                bit += 1
        top += LINE + GAP
    data = alt.Chart(inline(boxes))
    layers = [
        data.mark_rect(opacity=1, stroke=QUIET, strokeWidth=0.5).encode(
            alt.X("left:Q", scale=None, axis=None),
            alt.Y("top:Q", scale=None, axis=None),
            alt.X2("right:Q"),
            alt.Y2("bottom:Q"),
            alt.Color("colour:N", scale=None),
        ),
        *(
            alt.Chart(inline([note for note in notes if (note["x"] < 0) == names]))
            .mark_text(align="right" if names else "left", baseline="middle")
            .encode(alt.X("x:Q", scale=None, axis=None), alt.Y("y:Q", scale=None, axis=None), text="text:N")
            for names in (True, False)
        ),
    ]
    panel = overlay(layers, COLUMN_WIDTH - NAMES, top).properties(view=alt.ViewBackground(stroke=None))
    entries = [
        Entry(part, colour, "square", size=44, outlined=True)
        for part, colour in PARTS.items()
        if any(box["part"] == part for box in boxes)
    ]
    return panel, draw_legend(entries, COLUMN_WIDTH - NAMES)


def _describe(precision: str, gpus: Sequence[Gpu]) -> list[str]:
    """The lines over the bits of a precision: their number and parts, and which of these GPUs have it."""
    bits = BITS[precision]
    width = f"{bits.stored} bits" if not bits.unused else f"{bits.used} of {bits.stored} bits"
    exponent = f"{bits.exponent} exponent, {bits.value} mantissa" if bits.exponent else f"{bits.value} value"
    counts = f"{width}: {bits.sign} sign, {exponent}"
    names = [gpu.key for gpu in gpus if precision in gpu.peak_tops]
    if len(names) == len(gpus):
        return [f"{counts}; all GPUs"]
    return [counts, *textwrap.wrap(", ".join(names), LETTERS)]
