"""How every figure looks: type, colours, marks and sizes, for print in two columns."""

from __future__ import annotations

from typing import Any

PAGE_WIDTH = 511
"""Width of a figure over both columns of a US-letter page in points, 7.1 inches. One pixel prints as one
point."""

COLUMN_WIDTH = 244
"""Width of a figure in one of the two columns, in points."""

FONT = "STIX"
FONT_SIZE = 8
SMALL_FONT_SIZE = 7

INK = "#1a1a1a"
QUIET = "#6b6b6b"
GRID = "#e4e4e4"

PRECISION_COLOURS = {"fp32": "#111111", "tf32": "#00487c", "fp16": "#d55e00", "int8": "#56b4e9"}
"""After Okabe and Ito: distinct for all common colour vision, and each lighter than the one before in
grey."""

RUNTIME_MARKS = {
    "eager": ("circle", [1, 0]),
    "graph": ("square", [4, 2]),
    "compile": ("triangle-up", [1, 2]),
    "tensorrt": ("diamond", [6, 2, 1, 2]),
    "cudnn": ("triangle-down", [2, 2]),
    "ort": ("triangle-right", [6, 2]),
}
"""Point shape and line dash of each runtime."""

OTHER_RUNTIME = ("triangle-left", [3, 1])


def tint(colour: str, share: float) -> str:
    """This share of a colour on white. Opacity would make the PDFs of vl-convert differ in every run."""
    parts = (int(colour[index : index + 2], 16) for index in (1, 3, 5))
    return "#" + "".join(f"{round(255 - share * (255 - part)):02x}" for part in parts)


def runtime_mark(runtime: str) -> tuple[str, list[int]]:
    """Point shape and line dash of a runtime, known or not."""
    return RUNTIME_MARKS.get(runtime, OTHER_RUNTIME)


def precision_colour(precision: str) -> str:
    return PRECISION_COLOURS.get(precision, QUIET)


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
