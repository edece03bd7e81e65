"""What each GPU did while it was measured: temperature, power, utilisation, SM clock."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from itertools import groupby
from math import floor
from statistics import median
from typing import Any

import altair as alt
import polars as pl

from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import Axis, zero_axis
from deepgap.paper.charts.layout import (
    APART,
    GAP,
    GRID_WIDTH,
    Panel,
    Place,
    Row,
    add_heading,
    inline,
    nothing_at_all,
    overlay,
    words,
)
from deepgap.paper.charts.legend import Entry, draw_legend
from deepgap.paper.charts.panels import row_title
from deepgap.paper.charts.theme import CONFIG, INK, PAGE_HEIGHT, QUIET, precision_colour, tint
from deepgap.published.values import temperature_ranges
from deepgap.study.words import PRECISION_KEYS, mode_parts, model_label

CAPTION = (
    "Temperature, power, utilisation and SM clock of each GPU, by precision. Shown are the seconds between the "
    "first and the last timed call of each cell, warm-ups of later runs included and all preparation left out. "
    "Cells were measured in a random order, on several cards where the table of sessions says so; here those of one "
    "precision are laid end to end, model by model (vertical lines; the numbers are the depths of the ResNets) and "
    "in each model in the order of their start, so a step between neighbours is a change of cell, not of the "
    "device's course. Lines are medians and bands lowest and highest values of equal spans of time; utilisation is "
    "what the driver reports over its own sampling period. Marks at the foot of the clock say that the driver gave "
    "a reason for holding the clocks down. Published temperatures are the range that the study states for all of "
    "its runs, without a time."
)

HEIGHT = 44
"""Height of a quantity's panels where the page has room, in points."""
LEAST = 24
TITLE_LINE = 10
"""Width of the second line of an axis title, in points."""
WIDTH = GRID_WIDTH - TITLE_LINE
STATED_HEIGHT, SENTENCE_HEIGHT, DEVICE_EXTRA = 64, 46, 95
"""Height of the row of a GPU whose range was published, of one without samples, and of all but the panels of one
with samples, in points."""
SPANS = 90
"""Spans of time in a panel: about one a point of its width."""
BAND_TINT = 0.3
REASON_SHAPES = (
    *("triangle-down", "square", "diamond", "cross", "circle", "triangle-up"),
    *("triangle-right", "triangle-left", "wedge", "arrow"),
)
"""As many as NVML has reasons, and one more; beyond, they begin anew."""
LIMIT = Entry("power limit as set", INK, dash=(1, 0), stroke_width=0.7)
TDP = Entry("TDP (data sheet)", INK, dash=(3, 2), stroke_width=0.7)
BOTH = Entry("power limit as set, equal to the TDP (data sheet)", INK, dash=(6, 1.5), stroke_width=0.7)
BAND = Entry("band: lowest to highest", tint(QUIET, BAND_TINT), dash=(1, 0), stroke_width=5)
BOUNDARY = Entry("model boundary", QUIET, dash=(1, 0), stroke_width=0.5)
PUBLISHED_RANGE = Entry("hollow: published range", QUIET, "square", filled=False, size=38)


@dataclass(frozen=True)
class Quantity:
    """A row of panels: a column of `schemas.TELEMETRY`, those of its lowest and highest values, and its axis."""

    name: str
    low: str
    high: str
    title: tuple[str, str]


QUANTITIES = (
    Quantity("temperature_c", "temperature_c", "temperature_c", ("Temp.", "(°C)")),
    Quantity("power_w", "power_w", "power_w", ("Power", "(W)")),
    Quantity("utilisation_percent", "utilisation_percent", "utilisation_percent", ("Util.", "(%)")),
    Quantity("sm_clock_mhz", "sm_clock_min_mhz", "sm_clock_max_mhz", ("Clock", "(MHz)")),
)
WATTS, CLOCK = QUANTITIES[1].name, QUANTITIES[3].name


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are GPUs and in each the quantities, columns precisions."""
    timed = with_precision(summary.telemetry.filter(pl.col("timed")))
    ranges = {row["gpu"]: row for row in temperature_ranges(summary.published).iter_rows(named=True)}
    gpus = summary.order_gpus(set(summary.families["gpu"]) | set(ranges))
    if not gpus:
        return nothing_at_all("telemetry")
    used = set(timed["precision"])
    precisions = [name for name in PRECISION_KEYS if name in used]
    reasons = sorted(set(timed["throttle_reasons"].explode().drop_nulls()))
    sampled = set(timed["gpu"])
    levels = {gpu: power_levels(summary, gpu) for gpu in gpus if gpu in sampled}
    entries: list[Entry] = []
    if precisions:
        drawn = [entry for of_gpu in levels.values() for _, entry in of_gpu]
        entries += [Entry(name, precision_colour(name), dash=(1, 0)) for name in precisions]
        entries += [BAND, BOUNDARY, *(entry for entry in (LIMIT, TDP, BOTH) if entry in drawn)]
        entries += [
            Entry(f"held down: {name.replace('_', ' ')}", QUIET, reason_shape(reasons, name)) for name in reasons
        ]
    if any(gpu in ranges for gpu in gpus):
        entries.append(PUBLISHED_RANGE)
    legend = [draw_legend(entries, WIDTH)] if entries else []
    height = panel_height(legend, gpus, sampled, ranges.keys())
    charts: list[alt.HConcatChart | alt.LayerChart] = []
    for gpu in gpus:
        here = timed.filter(pl.col("gpu") == gpu)
        if here.is_empty():
            charts.append(_without(summary, gpu, ranges.get(gpu)))
        else:
            charts += _device(summary, here, precisions, reasons, levels[gpu], height)
    return alt.vconcat(*legend, *charts, spacing=6, resolve=APART, config=CONFIG)


def with_precision(telemetry: pl.DataFrame) -> pl.DataFrame:
    """Rows of `schemas.TELEMETRY` with the precision of their mode."""
    names = {mode: mode_parts(mode).precision for mode in telemetry["mode"].unique()}
    return telemetry.with_columns(precision=pl.col("mode").replace_strict(names, return_dtype=pl.String))


def panel_height(legend: Sequence[Panel], gpus: Sequence[str], sampled: Set[str], stated: Set[str]) -> int:
    """Height of a quantity's panels in points, so that the figure and its caption fit on a page."""
    if not sampled:
        return HEIGHT
    others = sum(STATED_HEIGHT if gpu in stated else SENTENCE_HEIGHT for gpu in gpus if gpu not in sampled)
    room = PAGE_HEIGHT - sum(panel.height for panel in legend) - others - DEVICE_EXTRA * len(sampled)
    return max(LEAST, min(HEIGHT, int(room) // (len(QUANTITIES) * len(sampled))))


def power_levels(summary: Summary, gpu: str) -> list[tuple[float, Entry]]:
    """The power limits that the cards of a GPU were set to, and its TDP, in W, each with its look."""
    limits = sorted(set(summary.sessions.filter(pl.col("gpu") == gpu)["power_limit_w"].drop_nulls()))
    tdp = summary.gpus[gpu].tdp_w
    levels = [(limit, BOTH if limit == tdp else LIMIT) for limit in limits]
    return levels if tdp is None or tdp in limits else [*levels, (tdp, TDP)]


def _title(text: str) -> alt.Title:
    return alt.Title(text, anchor="start", frame="group", offset=5)


def _without(summary: Summary, gpu: str, stated: Row | None) -> alt.HConcatChart:
    """A device without samples: what the study states of it, and why there is no more."""
    if summary.families.filter(pl.col("gpu") == gpu).is_empty():
        title, why = row_title(summary, gpu, published=True), "No course over time was published."
    elif summary.gpus[gpu].device == "cpu":
        title, why = (
            f"{gpu}: measured, without telemetry",
            "NVML samples NVIDIA GPUs alone: no samples of a processor.",
        )
    else:
        title = f"{gpu}: measured, without telemetry"
        why = f"No samples of {gpu} lie beside its cells; new cells bring theirs into results/{gpu}/telemetry."
    if stated is None:
        panel = words(why, width=WIDTH, height=16)
    else:
        y = Axis(QUANTITIES[0].title, stated["low"] - 12, stated["high"] + 12, (stated["low"], stated["high"]), None)
        row = {**stated, "text": f"published: {stated['low']:g} to {stated['high']:g} °C over all runs. {why}"}
        data = alt.Chart(inline([row]))
        band = data.mark_rect(filled=False, opacity=1, stroke=QUIET, strokeWidth=1.2).encode(
            y.y("low", "d"), alt.Y2("high:Q"), x=alt.value(3), x2=alt.value(WIDTH - 3)
        )
        note = data.mark_text(align="left", baseline="bottom", dx=5, dy=-2, color=INK).encode(
            y.y("high", "d"), x=alt.value(0), text="text:N"
        )
        panel = overlay([band, note], WIDTH, 38)
    return alt.hconcat(panel, title=_title(title), bounds="flush", resolve=APART)


def _device(
    summary: Summary,
    timed: pl.DataFrame,
    precisions: Sequence[str],
    reasons: Sequence[str],
    levels: Sequence[tuple[float, Entry]],
    height: int,
) -> list[alt.HConcatChart]:
    """A row of panels for each quantity of one GPU."""
    gpu = timed["gpu"][0]
    width = (WIDTH - (len(precisions) - 1) * GAP) // len(precisions)
    models = summary.order_models(timed["model"])
    courses = {name: course(timed.filter(pl.col("precision") == name), models) for name in precisions}
    charts = []
    for quantity in QUANTITIES:
        row = [span for spans in courses.values() for span in spans]
        bottom = quantity is QUANTITIES[-1]
        y = _axis(quantity, row, levels)
        panels: list[Panel] = []
        for name, spans in courses.items():
            if all(span[quantity.name] is None for span in spans):
                panels.append(words(f"No samples of {gpu} in {name}.", width, height))
                continue
            place = Place(inner=bool(panels), bottom=bottom, height=height)
            panels.append(_panel(spans, quantity, y, place, width, levels, reasons))
        if quantity is QUANTITIES[0]:
            panels = [add_heading(panel, name) for panel, name in zip(panels, courses, strict=True)]
            chart = alt.hconcat(
                *panels, spacing=GAP, title=_title(_told(summary, timed)), bounds="flush", resolve=APART
            )
        else:
            chart = alt.hconcat(*panels, spacing=GAP, bounds="flush", resolve=APART)
        charts.append(chart)
    return charts


def _told(summary: Summary, timed: pl.DataFrame) -> str:
    """What the rows of one GPU hold: its cells, how many of them were sampled, the cards, and what power is."""
    gpu = timed["gpu"][0]
    key = ["model", "mode", "batch_size", "sweep", "session"]
    sampled, found = timed.select(key).n_unique(), summary.coverage.filter(pl.col("gpu") == gpu)["found"].sum()
    meanings = {"NVML_FI_DEV_POWER_INSTANT": "of the moment", "nvmlDeviceGetPowerUsage": "as the driver averages it"}
    power = " or ".join(meanings[name] for name in sorted(set(timed["power_semantics"])))
    return f"{gpu}: measured, samples of {sampled:,} of {found:,} cells; power {power}"


def course(timed: pl.DataFrame, models: Sequence[str]) -> list[dict[str, Any]]:
    """The cells of one GPU and precision laid end to end and divided into `SPANS` equal times at most.

    In the order of `models`, in each by the cells' start. A span is of one model; it has the medians of what
    `schemas.TELEMETRY` holds, its lowest and highest values, and the names of its reasons.
    """
    rows = sorted(
        timed.iter_rows(named=True),
        key=lambda row: (models.index(row["model"]), row["started_unix_s"], row["time_s"]),
    )
    total = sum(row["duration_s"] for row in rows)
    step = max(total / SPANS, 1.0)
    placed, elapsed = [], 0.0
    for row in rows:
        placed.append({**row, "elapsed_s": elapsed, "span": floor(elapsed / step)})
        elapsed += row["duration_s"]
    spans = []
    for (model, _), group in groupby(placed, key=lambda row: (row["model"], row["span"])):
        members = list(group)
        span: dict[str, Any] = {"model": model, "depth": model_label(model).removeprefix("ResNet-")}
        span["precision"] = members[0]["precision"]
        span["elapsed_s"] = members[0]["elapsed_s"]
        span["end_s"] = members[-1]["elapsed_s"] + members[-1]["duration_s"]
        for quantity in QUANTITIES:
            for name, function, column in (
                (quantity.name, median, quantity.name),
                (f"{quantity.name}_low", min, quantity.low),
                (f"{quantity.name}_high", max, quantity.high),
            ):
                known = [row[column] for row in members if row[column] is not None]
                span[name] = float(function(known)) if known else None
        span["reasons"] = sorted({reason for row in members for reason in row["throttle_reasons"]})
        spans.append(span)
    return spans


def _axis(quantity: Quantity, spans: Sequence[Row], levels: Sequence[tuple[float, Entry]]) -> Axis:
    values = [span[f"{quantity.name}_high"] for span in spans]
    if quantity.name == WATTS:
        return zero_axis(quantity.title, [*values, *(level * 1.12 for level, _ in levels)], 3.5)
    if quantity.name == CLOCK:
        return zero_axis(quantity.title, values, 3.5)
    if quantity.name == "utilisation_percent":
        return Axis(quantity.title, 0, 108, (0, 50, 100), base=None)
    return zero_axis(quantity.title, [*values, 60.0], 3.5)


def _panel(
    spans: Sequence[Row],
    quantity: Quantity,
    y: Axis,
    place: Place,
    width: int,
    levels: Sequence[tuple[float, Entry]],
    reasons: Sequence[str],
) -> Panel:
    """One quantity of one precision over time."""
    end = max(span["end_s"] for span in spans)
    x = zero_axis("Timed seconds, laid end to end (s)", [end / 1.08], 4.5, horizontal=True).at(place)
    x = x if place.bottom else replace(x, labelled=False)
    ys, xs = y.at(place), x.x("elapsed_s", "d")
    colour = precision_colour(spans[0]["precision"])
    known = [span for span in spans if span[quantity.name] is not None]
    columns = ("model", "elapsed_s", "end_s", quantity.name, f"{quantity.name}_low", f"{quantity.name}_high")
    data = alt.Chart(inline([{name: span[name] for name in columns} for span in known]))
    layers = [
        data.mark_rect(color=tint(colour, BAND_TINT), opacity=1).encode(
            xs, ys.y(f"{quantity.name}_low", "d"), alt.X2("end_s:Q"), alt.Y2(f"{quantity.name}_high:Q")
        )
    ]
    firsts = [
        next(span for span in spans if span["model"] == model) for model in dict.fromkeys(s["model"] for s in spans)
    ]
    ends = [max(s["end_s"] for s in spans if s["model"] == first["model"]) for first in firsts]
    marks = [
        {"elapsed_s": first["elapsed_s"], "middle": (first["elapsed_s"] + last) / 2, "depth": first["depth"]}
        for first, last in zip(firsts, ends, strict=True)
    ]
    if len(marks) > 1:
        layers.append(alt.Chart(inline(marks[1:])).mark_rule(color=QUIET, strokeWidth=0.5).encode(xs))
    if quantity.name == WATTS:
        for level, look in levels:
            line = alt.Chart(inline([{"value": level}]))
            rule = line.mark_rule(color=look.colour, strokeWidth=look.stroke_width, strokeDash=list(look.dash or ()))
            layers.append(rule.encode(ys.y("value", "d")))
    layers.append(
        data.mark_line(color=colour, strokeWidth=0.9).encode(xs, ys.y(quantity.name, "d"), detail="model:N")
    )
    if quantity is QUANTITIES[0]:
        layers.append(
            alt.Chart(inline(marks))
            .mark_text(baseline="bottom", color=INK)
            .encode(x.x("middle", "d"), y=alt.value(place.height - 1), text="depth:N")
        )
    if quantity.name == CLOCK:
        layers += _reason_marks(spans, reasons, xs, place.height)
    return overlay(layers, width, place.height)


def reason_shape(reasons: Sequence[str], reason: str) -> str:
    """The mark of one of the reasons that are drawn."""
    return REASON_SHAPES[reasons.index(reason) % len(REASON_SHAPES)]


def _reason_marks(spans: Sequence[Row], reasons: Sequence[str], xs: alt.X, height: int) -> list[alt.Chart]:
    """A mark at the foot of the panel where the clocks were held down, a line a reason."""
    rows = [
        {
            "elapsed_s": span["elapsed_s"],
            "reason": reason,
            "shape": reason_shape(reasons, reason),
            "foot": height - 4 - 6 * reasons.index(reason),
        }
        for span in spans
        for reason in span["reasons"]
    ]
    if not rows:
        return []
    return [
        alt.Chart(inline(rows))
        .mark_point(filled=True, size=5, opacity=1, color=QUIET)
        .encode(xs, alt.Y("foot:Q", scale=None, axis=None), shape=alt.Shape("shape:N", scale=None))
    ]
