"""The structure of the benchmark, from axes to files."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence, Sized
from dataclasses import dataclass, field
from typing import Any

import altair as alt
import polars as pl

from deepgap.analyse.summary import Summary
from deepgap.paper.charts.layout import Row, inline, nothing_to_draw, overlay
from deepgap.paper.charts.theme import COLUMN_WIDTH, CONFIG, GRID, INK, QUIET, SMALL_FONT_SIZE, tint
from deepgap.study.words import by_mode, model_label

SHOWS = ()
CAPTION = (
    "Structure of the benchmark as it was run: for each device with cells the axes that these span, the sessions in "
    "which they were measured, what one cell is, and the files that hold the cells. Devices of which all of this is "
    "the same share a block."
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
    """A block a group of alike devices with cells: axes, cell and files; and what all files flow into."""
    found = dict(summary.coverage.group_by("gpu").agg(pl.col("found").sum()).iter_rows())
    asked = {row["gpu"]: row for row in summary.design.iter_rows(named=True)}
    there = [gpu for gpu in summary.order_gpus(set(asked) & set(summary.families["gpu"])) if found.get(gpu)]
    if not there:
        return nothing_to_draw("No device has cells yet, so there is no benchmark to draw.")
    blocks: dict[str, tuple[Block, list[str]]] = {}
    for gpu in there:
        block = _block(summary, gpu, asked[gpu])
        blocks.setdefault(repr(block), (block, []))[1].append(gpu)
    sheet, y = Sheet(), 0.0
    joins: list[float] = []
    for block, gpus in blocks.values():
        names = "; ".join(f"{gpu}: {found[gpu]:,} cells" for gpu in gpus)
        y, join = _draw_block(sheet, y + (6 if y else 0), names, block)
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


@dataclass(frozen=True)
class Block:
    """What is said of a device: the lines of its four axes, of its cell and of its files."""

    axes: tuple[tuple[str, ...], ...]
    cell: tuple[str, ...]
    files: tuple[str, ...]


CELL_WIDTH = WIDTH * 0.62


def _block(summary: Summary, gpu: str, asked: Row) -> Block:
    """The block of one device; the names of its files leave out which device it is."""
    widths = [share * (WIDTH - 3 * GUTTER) for share in AXES]
    files = _files(not summary.is_processor(gpu), WIDTH - CELL_WIDTH - GUTTER)
    return Block(_axes(summary, gpu, widths), tuple(_cell(asked, CELL_WIDTH)), tuple(files))


def _draw_block(sheet: Sheet, y: float, names: str, block: Block) -> tuple[float, float]:
    """The block from this height, under the names of its devices; returns its end, and the height at which its files
    flow out."""
    for line in wrap(names, WIDTH):
        sheet.text(0, y + 6, line, 8)
        y += 10
    y += 3
    widths = [share * (WIDTH - 3 * GUTTER) for share in AXES]
    height = box_height(*block.axes)
    for place, (width, lines) in enumerate(zip(widths, block.axes, strict=True)):
        left = sum(widths[:place]) + place * GUTTER
        sheet.box(left, y, width, height, lines, GRID)
        if place:
            sheet.text(left - GUTTER / 2 - 2, y + height / 2, "×", 9)
    y += height
    sheet.arrow(CELLS, y, CELLS, y + DROP)
    sheet.text(CELLS + 7, y + DROP / 2, "each sweep in a random order")
    y += DROP
    height = box_height(block.cell, block.files)
    middle = y + height / 2
    sheet.box(0, y, CELL_WIDTH, height, block.cell, "white")
    sheet.arrow(CELL_WIDTH, middle, CELL_WIDTH + GUTTER, middle)
    sheet.box(CELL_WIDTH + GUTTER, y, WIDTH - CELL_WIDTH - GUTTER, height, block.files, tint(QUIET, 0.12))
    sheet.line(WIDTH, middle, FILES, middle)
    return y + height, middle


def _axes(summary: Summary, gpu: str, widths: Sequence[float]) -> tuple[tuple[str, ...], ...]:
    """The lines of the four axes that the cells of a device span, each with its count first."""
    cells = summary.families.filter(gpu=gpu)
    models = summary.order_models(cells["model"])
    modes = sorted(set(cells["mode"]), key=by_mode)
    threads = {mode: sorted(set(cells.filter(mode=mode)["threads"])) for mode in modes}
    told = [mode if len(threads[mode]) == 1 else f"{mode} ({len(threads[mode])} thread counts)" for mode in modes]
    sizes = sorted(set(cells["batch_size"]))
    return (
        (_count(models, "model"), *(line for name in models for line in wrap(model_label(name), widths[0]))),
        (_count(modes, "mode"), *(line for mode in told for line in wrap(mode, widths[1]))),
        (_count(sizes, "batch size"), *wrap(", ".join(map(str, sizes)), widths[2])),
        tuple(_sessions(summary, gpu, widths[3])),
    )


def _sessions(summary: Summary, gpu: str, width: float) -> list[str]:
    """The sweeps of a device, and in how many sessions, on how many hosts and cards they were measured."""
    sessions = summary.sessions.filter(gpu=gpu)
    sweeps = sessions["sweeps"].explode().drop_nulls().unique()
    parts = [_count(sweeps, "sweep")]
    parts.append(f"in {_count(sessions['session'].unique(), 'session')}")
    hosts, cards = sessions["host"].drop_nulls().unique(), sessions["cards"].explode().drop_nulls().unique()
    parts += [f"{_count(hosts, 'host')}"] if len(hosts) else []
    parts += [f"{_count(cards, 'card')}"] if len(cards) else []
    return [line for part in parts for line in wrap(part, width)]


def _count(items: Sized, name: str) -> str:
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


def _files(sampled: bool, width: float) -> list[str]:
    """What holds the cells. sampled: telemetry lies beside them, as on a GPU."""
    parts = ["A file a cell, never changed:", "cells/*.parquet"]
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
