"""A value over batch size in a grid of devices and workloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from deepgap.analyse.training.summary import TrainingSummary
from deepgap.cells.cell_file import OK
from deepgap.paper.charts.axes import Axis, log_axis, zero_axis
from deepgap.paper.charts.layout import (
    APART,
    GAP,
    GRID_WIDTH,
    Panel,
    Row,
    add_heading,
    inline,
    nothing_to_draw,
    overlay,
    words,
)
from deepgap.paper.charts.legend import Entry, draw_legend
from deepgap.paper.charts.marks import crosses, mode_colour, mode_dash, mode_shape, order_modes
from deepgap.paper.charts.theme import CONFIG, QUIET, mode_mark, precision_colour
from deepgap.published.audit.training import LABELS
from deepgap.published.democratizing import MODELS
from deepgap.published.training_networks import SIDE
from deepgap.study.words import mode_parts

HEIGHT = 92
WIDTH = (GRID_WIDTH - (len(MODELS) - 1) * GAP) // len(MODELS)
NARROW = {"mixed_fp16": "fp16", "mixed_bf16": "bf16"}
"""The precision whose colour a mixed one has: that of its products."""
FAILED = Entry("out of memory or unsupported", QUIET, "cross", size=26, angle=45)
MEASURE = "measure this machine's processor with: snakemake --cores 1 --config study=training gpu=CPU"


def draw_over_batch(
    summary: TrainingSummary, value: str, title: str, *, spread: bool = False, factor: float = 1.0, zero: bool = False
) -> alt.VConcatChart:
    """Lines of the modes over batch size, a row a device and a column a workload, at one image size a panel.

    Args:
        value: a column of `TRAINING_FAMILIES`. spread: whether it has an interval. factor: what it is multiplied by.
        title: of the vertical axis. zero: whether that is linear from zero; else it is logarithmic.
    """
    points = training_points(summary, value, spread, factor)
    if not any(row["value"] is not None for row in points):
        return nothing_to_draw(f"No training step is measured that has this value; {MEASURE}")
    entries = [_entry(mode) for mode in order_modes(points)]
    entries += [FAILED] if any(row["value"] is None for row in points) else []
    rows = []
    for gpu in summary.devices:
        here = [row for row in points if row["gpu"] == gpu]
        if not any(row["value"] is not None for row in here):
            continue
        ends = [row[name] for row in here for name in ("value", "low", "high") if row[name] is not None]
        y = zero_axis(title, ends) if zero else log_axis(title, ends)
        panels, drawn = [], False
        for model in MODELS:
            of_model = [row for row in here if row["model"] == model]
            panel = _panel(of_model, y, inner=drawn) if of_model else words("Not measured here.", WIDTH, HEIGHT)
            drawn = drawn or bool(of_model)
            side = f", {of_model[0]['image_size']} px" if of_model else ""
            panels.append(add_heading(panel, f"{LABELS[model]}{side}"))
        heading = alt.Title(_title(summary, gpu), anchor="start", frame="group", offset=12)
        rows.append(alt.hconcat(*panels, spacing=GAP, title=heading, bounds="flush", resolve=APART))
    return alt.vconcat(draw_legend(entries), *rows, spacing=8, resolve=APART, config=CONFIG)


def training_points(summary: TrainingSummary, value: str, spread: bool, factor: float) -> list[dict[str, Any]]:
    """The families of the phase train as points: at the published image size, or else at the largest; `value` is null
    where a family failed."""
    families = summary.families.filter(phase="train")
    found = []
    for (_, model), here in families.group_by("gpu", "model", maintain_order=True):
        sides = here["image_size"].to_list()
        side = SIDE.get(str(model)) if SIDE.get(str(model)) in sides else max(sides)
        for row in here.filter(image_size=side).to_dicts():
            if row["status"] == OK and row[value] is None:
                continue
            ends = {end: row[f"{value}_{end}"] if spread else None for end in ("low", "high")}
            told = {name: None if number is None else factor * number for name, number in ends.items()}
            number = row[value] if row["status"] == OK else None
            found.append(
                {name: row[name] for name in ("gpu", "model", "image_size", "batch_size", "mode", "runtime")}
                | {"precision": NARROW.get(row["precision"], row["precision"]), **told}
                | {"value": None if number is None else factor * number}
            )
    return found


def _entry(mode: str) -> Entry:
    precision = mode_parts(mode).precision
    shape, dash = mode_mark(mode)
    return Entry(mode, precision_colour(NARROW.get(precision, precision)), shape, tuple(dash))


def _title(summary: TrainingSummary, gpu: str) -> str:
    counts = summary.families.filter(pl.col("sweeps") > 0, gpu=gpu, phase="train")["sweeps"].to_list()
    low, high = min(counts), max(counts)
    return f"{gpu}: {low if low == high else f'{low} to {high}'} sweep{'' if high == 1 else 's'} a point"


def _panel(rows: Sequence[Row], y: Axis, inner: bool) -> Panel:
    sizes = sorted({row["batch_size"] for row in rows})
    x = Axis("Batch size", sizes[0] / 1.4, sizes[-1] * 1.4, tuple(sizes), 2, horizontal=True)
    y = Axis(None if inner else y.title, y.low, y.high, y.ticks, y.base, labelled=not inner)
    xs, ys, colour = x.x("batch_size", "d"), y.y("value"), mode_colour(rows)
    shape, dash = mode_shape(rows), mode_dash(rows)
    timed: list[Mapping[str, Any]] = [row for row in rows if row["value"] is not None]
    layers = []
    if timed:
        data = alt.Chart(inline(timed))
        layers.append(data.mark_line().encode(xs, ys, colour, dash, detail="mode:N"))
        spans = [row for row in timed if row["low"] is not None]
        if spans:
            rules = alt.Chart(inline(spans)).mark_rule(strokeWidth=0.8)
            layers.append(rules.encode(xs, y.y("low"), alt.Y2("high:Q"), colour))
        layers.append(data.mark_point(filled=True, size=13, opacity=1).encode(xs, ys, colour, shape))
    lost = [row for row in rows if row["value"] is None]
    if lost:
        layers.append(crosses(lost, xs, colour, HEIGHT))
    return overlay(layers, WIDTH, HEIGHT)
