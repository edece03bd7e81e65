"""How every figure looks: type, colours, marks and sizes, for print in two columns."""

from __future__ import annotations

from typing import Any

from deepgap.study.words import mode_parts

PAGE_WIDTH = 511
"""Width of a figure over both columns of a US-letter page in points, 7.1 inches. One pixel prints as one
point."""

PAGE_HEIGHT = 590
"""The most that such a figure may be high in points: the rest of a page of 672 points is its caption's."""

COLUMN_WIDTH = 244
"""Width of a figure in one of the two columns, in points."""

FONT = "STIX"
FONT_SIZE = 8
SMALL_FONT_SIZE = 7

INK = "#1a1a1a"
QUIET = "#6b6b6b"
GRID = "#e4e4e4"

PRECISION_COLOURS = {
    "fp32": "#111111",
    "tf32": "#005a96",
    "fp16": "#d55e00",
    "bf16": "#46107c",
    "int8": "#56b4e9",
    "fp8": "#f0e442",
}
"""After Okabe and Ito, but for bf16: distinct for all common colour vision, and in grey."""

LARGE_SQUARE = "M-1.3,-1.3H1.3V1.3H-1.3Z"
HOURGLASS = "M-1.2,-1.2H1.2L-1.2,1.2H1.2Z"
BOW_TIE = "M-1.2,-1.2V1.2L1.2,-1.2V1.2Z"
HOUSE = "M-1,1V-0.2L0,-1.2L1,-0.2V1Z"
TALL_DIAMOND = "M0,-1.5L0.8,0L0,1.5L-0.8,0Z"
HEXAGON = "M0,-1.2L1,-0.6V0.6L0,1.2L-1,0.6V-0.6Z"
PENTAGON = "M0,-1.1L1.1,-0.3L0.7,1H-0.7L-1.1,-0.3Z"
KITE = "M0,1.5L-1,-0.4L0,-1.2L1,-0.4Z"
"""Shapes that Vega has no name for, as paths in a square from -1 to 1, which has the area of a mark."""

RUNTIME_MARKS = {
    "eager": ("circle", [1, 0]),
    # A graph replays eager mode's kernels: where both take the same time, its mark shows around eager's.
    "graph": (LARGE_SQUARE, [4, 2]),
    "compile": ("triangle-up", [1, 2]),
    "compilegraph": (HOUSE, [1, 3]),
    "torchao": ("triangle-left", [3, 1]),
    "tensorrt": ("diamond", [6, 2, 1, 2]),
    "rtx": (TALL_DIAMOND, [4, 1, 1, 1]),
    "cudnn": ("triangle-down", [2, 2]),
    "ort": ("triangle-right", [6, 2]),
    "tensorflow": ("M-1.2,-1H1.2L0.6,1H-0.6Z", [5, 2]),
    "tensorflow_xla": ("M-0.6,-1H0.6L1.2,1H-1.2Z", [5, 2, 1, 2]),
    "jax": ("square", [2, 1]),
}
"""Point shape and line dash of each runtime."""

MODE_MARKS = {
    "eager-tf32": (HOURGLASS, [8, 2]),
    "tensorrt-tf32": (BOW_TIE, [8, 2, 1, 2]),
    "cudnn-int8": (KITE, [6, 1, 1, 1]),
}
"""Those of modes that run where another of their runtime runs and look nearly alike in grey."""

OTHER_LAYOUT = (HEXAGON, [3, 1, 1, 1])
"""Of a mode whose name says its layout, which is not its runtime's usual one."""

OTHER_RUNTIME = (PENTAGON, [5, 1])
"""Of a runtime that is not listed, as QUIET is the colour of such a precision."""


PRECISION_SHAPES = {
    "fp32": "circle",
    "tf32": HOURGLASS,
    "fp16": "square",
    "bf16": "triangle-right",
    "int8": "triangle-down",
    "fp8": "cross",
}
"""Of marks that stand for a precision and no mode."""


def tint(colour: str, share: float) -> str:
    """This share of a colour on white. Opacity would make the PDFs of vl-convert differ in every run."""
    parts = (int(colour[index : index + 2], 16) for index in (1, 3, 5))
    return "#" + "".join(f"{round(255 - share * (255 - part)):02x}" for part in parts)


def mode_mark(mode: str) -> tuple[str, list[int]]:
    """Point shape and line dash of a mode, known or not."""
    if mode_parts(mode).layout:
        return OTHER_LAYOUT
    return MODE_MARKS.get(mode) or RUNTIME_MARKS.get(mode_parts(mode).runtime, OTHER_RUNTIME)


def precision_colour(precision: str) -> str:
    return PRECISION_COLOURS.get(precision, QUIET)


def precision_shape(precision: str) -> str:
    return PRECISION_SHAPES.get(precision, PENTAGON)


TEXT: dict[str, Any] = {
    "labelFont": FONT,
    "titleFont": FONT,
    "labelFontSize": SMALL_FONT_SIZE,
    "titleFontSize": FONT_SIZE,
    "titleFontWeight": "normal",
    "labelFontWeight": "normal",
}

CONFIG: dict[str, Any] = {
    "font": FONT,
    "background": "white",
    "padding": 2,
    "axis": {
        **TEXT,
        "labelColor": INK,
        "titleColor": INK,
        "gridColor": GRID,
        "gridWidth": 0.5,
        "domain": False,
        "tickColor": QUIET,
        "tickWidth": 0.5,
        "tickSize": 3,
        "labelPadding": 2,
        "titlePadding": 3,
    },
    "view": {"stroke": QUIET, "strokeWidth": 0.5},
    "title": {"font": FONT, "fontSize": FONT_SIZE, "fontWeight": "normal", "color": INK, "offset": 3},
    "text": {"font": FONT, "fontSize": SMALL_FONT_SIZE, "fontWeight": "normal", "color": INK},
    "line": {"strokeWidth": 1.1},
    "point": {"strokeWidth": 1},
}
"""Vega-Lite's configuration of every figure.

There is one font weight, because the PDFs of vl-convert are the same bytes in every run only then.
"""
