"""The parts of a training step: forward, backward and optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from deepgap.analyse.training.summary import TrainingSummary
from deepgap.paper.charts.layout import (
    APART,
    GAP,
    GRID_WIDTH,
    Panel,
    add_heading,
    inline,
    nothing_to_draw,
    overlay,
    pixels,
    words,
)
from deepgap.paper.charts.legend import Entry, draw_legend
from deepgap.paper.charts.marks import order_modes
from deepgap.paper.charts.theme import CONFIG, INK
from deepgap.paper.training.grid import MEASURE
from deepgap.paper.training.tables.steps import set_up
from deepgap.published.audit.training import LABELS
from deepgap.published.democratizing import MODELS

CAPTION = (
    "Parts of a training step in percent of it: forward with the loss, backward, and the optimiser; each by the "
    "medians of calls that end there, so that a framework that overlaps its parts shows less of the later ones. "
    "In the published set-up where it was measured, else the largest; the words are the whole step in ms. "
    "CycleGAN has two optimisers in a step, and its parts are those of both. A mode whose framework does not "
    "show its parts has no bar."
)

NAMES = 84
"""Points left of the panels for the names of the modes."""
WIDTH = (GRID_WIDTH - NAMES - (len(MODELS) - 1) * GAP) // len(MODELS)
LINE = 12
PARTS = {"forward": "#005a96", "backward": "#56b4e9", "optimiser": "#d55e00"}


def draw(summary: TrainingSummary) -> alt.VConcatChart:
    """Rows are devices, columns workloads, a bar a mode."""
    rows = []
    for gpu in summary.devices:
        bars = {model: _bars(summary, gpu, model) for model in MODELS}
        modes = order_modes([bar for of_model in bars.values() for bar in of_model])
        if not modes:
            continue
        panels: list[Panel] = [_names(modes)]
        for model, of_model in bars.items():
            height = LINE * len(modes)
            side, batch = (of_model[0]["side"], of_model[0]["batch"]) if of_model else (None, None)
            panel = _panel(of_model, modes) if of_model else words("Not measured here.", WIDTH, height)
            panels.append(add_heading(panel, f"{LABELS[model]}, {side} px, {batch}" if side else LABELS[model]))
        heading = alt.Title(gpu, anchor="start", frame="group", offset=12)
        rows.append(alt.hconcat(*panels, spacing=GAP, title=heading, bounds="flush", resolve=APART))
    if not rows:
        return nothing_to_draw(f"No training step is measured with its parts; {MEASURE}")
    entries = [Entry(part, colour, dash=(1, 0), stroke_width=5) for part, colour in PARTS.items()]
    return alt.vconcat(draw_legend(entries), *rows, spacing=8, resolve=APART, config=CONFIG)


def _bars(summary: TrainingSummary, gpu: str, model: str) -> list[dict[str, Any]]:
    """A row a mode and part, from left to right, in percent of the step."""
    here = summary.families.filter(phase="train", gpu=gpu, model=model)
    if here.is_empty():
        return []
    side, batch = set_up(here, model)
    known = here.filter(
        pl.col("forward_ms", "gradients_ms", "step_ms").is_not_null(), image_size=side, batch_size=batch
    )
    found = []
    for row in known.to_dicts():
        whole = row["step_ms"]
        ends = [0.0, row["forward_ms"], row["gradients_ms"], whole]
        for part, start, end in zip(PARTS, ends[:-1], ends[1:], strict=True):
            share = 100 * max(end - start, 0.0) / whole
            about = {"gpu": gpu, "mode": row["mode"], "side": side, "batch": batch, "step": f"{whole:.3g}"}
            place = {"start": 100 * start / whole, "end": 100 * start / whole + share}
            found.append({**about, **place, "part": part, "share": share, "colour": PARTS[part]})
    return found


def _names(modes: Sequence[str]) -> Panel:
    rows = [{"mode": mode, "y": LINE * (place + 0.5)} for place, mode in enumerate(modes)]
    text = alt.Chart(inline(rows)).mark_text(align="right", baseline="middle", color=INK)
    told = overlay([text.encode(x=alt.value(NAMES - GAP), y=_y(), text="mode:N")], NAMES - GAP, LINE * len(modes))
    return told.properties(view=alt.ViewBackground(stroke=None))


def _panel(bars: Sequence[dict[str, Any]], modes: Sequence[str]) -> Panel:
    scale = (WIDTH - 30) / 100
    rows = [
        {
            **bar,
            "y": LINE * (modes.index(bar["mode"]) + 0.5),
            "left": scale * bar["start"],
            "right": scale * bar["end"],
        }
        for bar in bars
    ]
    data = alt.Chart(inline(rows)).mark_rule(strokeWidth=7)
    drawn = data.encode(pixels("left"), _y(), alt.X2("right:Q"), color=alt.Color("colour:N", scale=None))
    steps = alt.Chart(inline([row for row in rows if row["part"] == "optimiser"]))
    text = steps.mark_text(align="left", baseline="middle").encode(x=alt.value(WIDTH - 26), y=_y(), text="step:N")
    return overlay([drawn, text], WIDTH, LINE * len(modes))


def _y() -> alt.Y:
    return alt.Y("y:Q", scale=None, axis=None)
