"""The structure of the benchmark, from axes to files."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import altair as alt
import polars as pl

from deepgap.analyse.summary import Summary
from deepgap.paper.charts.layout import Row, inline, nothing_to_draw, overlay
from deepgap.paper.charts.theme import COLUMN_WIDTH, CONFIG, GRID, INK, QUIET, SMALL_FONT_SIZE, tint
from deepgap.study.words import model_label

SPAN = "column"
SHOWS = ()
CAPTION = (
    "Structure of the benchmark as it was run: for each device with cells the axes that its study spans, what one "
    "cell is, and the files that hold the cells. Axes and counts are the study's own; the first line of a block says "
    "how many of its cells are there."
)

GUTTER = 10
LINE = 8.6
PAD = 4
DROP = 12
"""Height of an arrow downwards."""
RAIL = 8
"""Width of the strip right of the devices in which their files flow down."""
WIDTH = COLUMN_WIDTH - RAIL
AXES = (0.22, 0.32, 0.25, 0.21)
"""The shares of the axes' boxes in the width."""
CELLS, FILES = WIDTH * 0.3, COLUMN_WIDTH - RAIL / 2
"""Where the arrows out of the axes and out of the files are."""
LETTER = 3.35
"""Mean width of a letter in points."""


@dataclass
class Sheet:
    """Boxes, lines of text and arrows, placed in points from the top left."""

    boxes: list[dict[str, Any]] = field(default_factory=list)
    texts: list[dict[str, Any]] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    heads: list[dict[str, Any]] = field(default_factory=list)

    def text(self, x: float, y: float, text: str, size: float = SMALL_FONT_SIZE) -> None:
        self.texts.append({"x": x, "y": y, "text": text, "size": size})

    def box(self, left: float, top: float, width: float, height: float, lines: Sequence[str], fill: str) -> None:
        self.boxes.append({"left": left, "right": left + width, "top": top, "bottom": top + height, "fill": fill})
        for place, line in enumerate(lines):
            self.text(left + PAD, top + PAD + (place + 0.5) * LINE, line)

    def arrow(self, left: float, top: float, right: float, bottom: float) -> None:
        """From left, top to right, bottom; to the right or downwards."""
        self.line(left, top, right, bottom)
        self.heads.append({"right": right, "bottom": bottom, "angle": 90 if top == bottom else 180})

    def line(self, left: float, top: float, right: float, bottom: float) -> None:
        self.lines.append({"left": left, "right": right, "top": top, "bottom": bottom})


def wrap(text: str, width: float) -> list[str]:
    return textwrap.wrap(text, int((width - 2 * PAD) / LETTER))


def box_height(*columns: Sequence[str]) -> float:
    return max(map(len, columns)) * LINE + 2 * PAD


def draw(summary: Summary) -> alt.VConcatChart:
    """A block a device with cells: axes, cell and files; and what all files flow into."""
    counts = summary.coverage.group_by("gpu").agg(pl.col("expected", "found").sum()).filter(pl.col("found") > 0)
    asked = {row["gpu"]: row for row in summary.design.iter_rows(named=True)}
    there = {gpu: (expected, found) for gpu, expected, found in counts.iter_rows() if gpu in asked}
    if not there:
        return nothing_to_draw(
            "No device has cells yet, so there is no benchmark to draw. "
            "Measure this machine's processor with: snakemake --cores 1 --config gpu=CPU"
        )
    sheet, y = Sheet(), 0.0
    joins: list[float] = []
    for gpu in summary.order_gpus(set(there)):
        y, join = _device(sheet, y + (6 if y else 0), asked[gpu], *there[gpu], not summary.is_processor(gpu))
        joins.append(join)
    start = joins[0]
    for words in (
        "The files of all devices, aggregated: runs, cell families with intervals, ratios, fidelity and telemetry, "
        "beside the published values",
        "Tables, figures and numbers of this paper",
    ):
        sheet.arrow(FILES, start, FILES, y + DROP)
        lines = wrap(words, COLUMN_WIDTH)
        sheet.box(0, y + DROP, COLUMN_WIDTH, box_height(lines), lines, tint(QUIET, 0.12))
        y += DROP + box_height(lines)
        start = y
    panel = overlay(_layers(sheet), COLUMN_WIDTH, round(y + 1))
    return alt.vconcat(panel.properties(view=alt.ViewBackground(stroke=None)), config=CONFIG)


def _device(sheet: Sheet, y: float, asked: Row, expected: int, found: int, sampled: bool) -> tuple[float, float]:
    """The block of one device from this height; returns its end, and the height at which its files flow out.

    Args:
        sampled: telemetry lies beside the cells, as on a GPU.
    """
    gpu = asked["gpu"]
    sheet.text(0, y + 6, f"{gpu}: {found:,} of {expected:,} cells measured", 8)
    y += 13
    widths = [share * (WIDTH - 3 * GUTTER) for share in AXES]
    axes = _axes(asked, widths)
    height = box_height(*axes)
    for place, (width, lines) in enumerate(zip(widths, axes, strict=True)):
        left = sum(widths[:place]) + place * GUTTER
        sheet.box(left, y, width, height, lines, GRID)
        if place:
            sheet.text(left - GUTTER / 2 - 2, y + height / 2, "×", 9)
    y += height
    sheet.arrow(CELLS, y, CELLS, y + DROP)
    combinations = prod(len(asked[name]) for name in ("models", "modes", "batch_sizes")) * asked["sweeps"]
    chosen = f"{expected:,} of {combinations:,}" if expected < combinations else f"{expected:,}"
    sheet.text(CELLS + 7, y + DROP / 2, f"{chosen} cells, each sweep in a random order")
    y += DROP
    width = WIDTH * 0.62
    cell, files = _cell(asked, width), _files(asked, sampled, WIDTH - width - GUTTER)
    height = box_height(cell, files)
    middle = y + height / 2
    sheet.box(0, y, width, height, cell, "white")
    sheet.arrow(width, middle, width + GUTTER, middle)
    sheet.box(width + GUTTER, y, WIDTH - width - GUTTER, height, files, tint(QUIET, 0.12))
    sheet.line(WIDTH, middle, FILES, middle)
    return y + height, middle


def _axes(asked: Row, widths: Sequence[float]) -> list[list[str]]:
    """The lines of the four axes, each with its count first."""
    modes = [
        mode if threads == "all" else f"{mode} ({threads} threads)"
        for mode, threads in zip(asked["modes"], asked["threads"], strict=True)
    ]
    return [
        [
            _count(asked["models"], "model"),
            *(line for name in asked["models"] for line in wrap(model_label(name), widths[0])),
        ],
        [_count(modes, "mode"), *(line for mode in modes for line in wrap(mode, widths[1]))],
        [
            _count(asked["batch_sizes"], "batch size"),
            *wrap(", ".join(map(str, asked["batch_sizes"])) + " images", widths[2]),
        ],
        [_count(range(asked["sweeps"]), "sweep"), *wrap("each passes over all of these", widths[3])],
    ]


def _count(items: Sequence[Any], name: str) -> str:
    return f"{len(items)} {name}{'' if len(items) == 1 else 's'}"


def _cell(asked: Row, width: float) -> list[str]:
    most, fewest, runs = asked["timed_iterations"], asked["minimum_iterations"], asked["runs"]
    calls = f"{most}" if fewest is None else f"{fewest} to {most}"
    parts = [
        "A cell: one process, one model, one mode",
        f"{runs} run{'' if runs == 1 else 's'} of: warm-up of {asked['warmup_iterations']} calls or more, "
        f"{calls} timed calls, then {asked['throughput_s']:g} s of queued calls for throughput and energy",
    ]
    if asked["arms"]:
        parts.append(f"also in each run: {', '.join(arm.replace('_', ' ') for arm in asked['arms'])}")
    parts.append(f"answers to at most {asked['fidelity_images']} held-out images")
    return [line for part in parts for line in wrap(part, width)]


def _files(asked: Row, sampled: bool, width: float) -> list[str]:
    parts = ["A file a cell, never changed:", f"results/{asked['gpu']}/", "cells/*.parquet"]
    if sampled:
        parts += ["Samples of the device:", "telemetry/*.parquet"]
    return [line for part in parts for line in wrap(part, width)]


def _layers(sheet: Sheet) -> list[alt.Chart]:
    def x(name: str) -> alt.X:
        return alt.X(f"{name}:Q", scale=None, axis=None)

    def y(name: str) -> alt.Y:
        return alt.Y(f"{name}:Q", scale=None, axis=None)

    return [
        alt.Chart(inline(sheet.boxes))
        .mark_rect(opacity=1, stroke=QUIET, strokeWidth=0.6)
        .encode(x("left"), y("top"), alt.X2("right:Q"), alt.Y2("bottom:Q"), alt.Color("fill:N", scale=None)),
        alt.Chart(inline(sheet.lines))
        .mark_rule(color=INK, strokeWidth=0.8)
        .encode(x("left"), y("top"), alt.X2("right:Q"), alt.Y2("bottom:Q")),
        alt.Chart(inline(sheet.heads))
        .mark_point(shape="triangle-up", filled=True, size=16, color=INK, opacity=1)
        .encode(x("right"), y("bottom"), angle=alt.Angle("angle:Q", scale=None)),
        alt.Chart(inline(sheet.texts))
        .mark_text(align="left", baseline="middle", color=INK)
        .encode(x("x"), y("y"), text="text:N", size=alt.Size("size:Q", scale=None)),
    ]
