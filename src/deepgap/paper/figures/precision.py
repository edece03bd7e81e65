"""The bits of a number in each precision."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import altair as alt

from deepgap.analyse.summary import Summary
from deepgap.paper.charts.layout import inline, nothing_to_draw, overlay
from deepgap.paper.charts.legend import Entry, draw_legend
from deepgap.paper.charts.theme import COLUMN_WIDTH, CONFIG, INK, QUIET, tint
from deepgap.study.gpus import Gpu
from deepgap.study.words import BITS, PRECISION_KEYS

DEVICES = ()
SPAN = "column"
SHOWS = ()
CAPTION = (
    "Conceptual, not measured: the bits of a number by precision. fp32 and fp16 are IEEE 754 binary32 and binary16; "
    "tf32 computes with the stated bits of a number that is stored in the width of fp32; int8 is a signed integer "
    "with a scale beside it. The words name the GPUs of the hardware table whose data sheets give the precision a "
    "rate."
)

PARTS = {
    "sign": INK,
    "exponent": tint("#00487c", 0.55),
    "mantissa or value": tint("#56b4e9", 0.35),
    "stored, not used": "white",
}
NAMES = 24
LINE = 9
GAP = 8
CELL = 6.6
LETTERS = 48
"""The most of a line of keys, which are capitals and digits and so wider than other words."""


def draw(summary: Summary) -> alt.VConcatChart:
    """One row a precision, one box a bit, from the most significant."""
    gpus = [gpu for gpu in summary.kinds if gpu.device == "cuda"]
    present = [name for name in PRECISION_KEYS if any(name in gpu.peak_tops for gpu in gpus)]
    if not present:
        return nothing_to_draw("config/gpus.yaml names no GPU with a precision.")
    boxes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    top = 0
    for precision in present:
        for line in _describe(precision, gpus):
            notes.append({"precision": precision, "x": NAMES, "y": top + LINE / 2, "text": line})
            top += LINE
        notes.append({"precision": precision, "x": 0, "y": top + LINE / 2, "text": precision})
        bit = 0
        for (part, colour), count in zip(PARTS.items(), astuple(BITS[precision]), strict=True):
            for _ in range(count):
                boxes.append(
                    {
                        "precision": precision,
                        "part": part,
                        "colour": colour,
                        "left": NAMES + bit * CELL,
                        "right": NAMES + (bit + 1) * CELL,
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
        alt.Chart(inline(notes))
        .mark_text(align="left", baseline="middle")
        .encode(alt.X("x:Q", scale=None, axis=None), alt.Y("y:Q", scale=None, axis=None), text="text:N"),
    ]
    panel = overlay(layers, COLUMN_WIDTH, top).properties(view=alt.ViewBackground(stroke=None))
    entries = [
        Entry(part, colour, "square", size=44, outlined=True)
        for part, colour in PARTS.items()
        if any(box["part"] == part for box in boxes)
    ]
    return alt.vconcat(draw_legend(entries, COLUMN_WIDTH), panel, spacing=4, config=CONFIG)


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
