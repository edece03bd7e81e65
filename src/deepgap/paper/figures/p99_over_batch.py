"""The 99th percentile of latency over batch size."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import altair as alt
import polars as pl

from deepgap.analyse.schemas import MEASURED, PUBLISHED
from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import Axis, batch_axis, log_axis
from deepgap.paper.charts.layout import PANEL_WIDTH, Panel, Place, Row, inline, words
from deepgap.paper.charts.legend import Entry, common_entries, mode_entries
from deepgap.paper.charts.marks import (
    arrow_ends,
    failed_points,
    measured_points,
    mode_colour,
    mode_dash,
    published_points,
)
from deepgap.paper.charts.panels import draw_grid, draw_series
from deepgap.paper.charts.theme import INK, QUIET
from deepgap.published.values import p99_latencies
from deepgap.study.words import model_label

CAPTION = (
    "99th percentile of the device latency of one call over batch size (marks), both axes logarithmic, over the "
    "pooled calls of all runs (their number stands above each row), above the median (lines). The bar above a mark "
    "ends at the smallest call time that is no lower than the true percentile at 99 % confidence, if calls are "
    "independent (an order statistic). A family with too few calls has no percentile; each panel says how many were "
    "left out. Hollow marks are the 99th percentiles that the published study states, a range as its two ends; an "
    "arrow shows on which side of a mark the percentile lies where it states a bound alone."
)

MEDIAN = Entry("line: median, mark: p99", QUIET, dash=(1, 0))
BOUND = Entry("99 % bound of p99", QUIET, "stroke", size=40, outlined=True)


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are GPUs, columns models; points are medians, with p99 and its bound where there is one."""
    measured = summary.measured.filter(pl.col("median_ms").is_not_null())
    points = [
        *measured_points(measured, "median_ms", None, None, "p99_ms", "p99_bound_ms", "percentile_note", "samples"),
        *published_points(summary, p99_latencies(summary.published), "p99_ms", "approx"),
    ]
    failed = failed_points(summary)

    drawn = {row["gpu"] for row in points if row["source"] == PUBLISHED or row["p99_ms"] is not None}
    lowest = {row["model"]: gpu for gpu in summary.order_gpus(drawn) for row in points if row["gpu"] == gpu}

    def panel(here: Sequence[Row], lost: Sequence[Row], in_row: Sequence[Row], place: Place) -> Panel:
        note = left_out([row for row in here if row["source"] == MEASURED])
        gpu, model = here[0]["gpu"], here[0]["model"]
        if gpu not in drawn:
            return words(f"{model_label(model)}: {note}", height=26)
        place = replace(place, bottom=lowest[model] == gpu)
        x = batch_axis(summary, [*points, *failed], in_row[0]["gpu"])
        levels = [row.get(key) for row in in_row for key in ("value", "p99_ms", "p99_bound_ms")]
        y = log_axis("Latency (ms)", [*levels, *arrow_ends(in_row)])
        return draw_tail(here, lost, x.at(place), y.at(place), note, place.height)

    stated = any(row.get("p99_ms") is not None for row in points)
    seen = [row for row in points if row["gpu"] in drawn]
    entries = [*mode_entries(seen), *([MEDIAN, BOUND] if stated else []), *common_entries(seen, failed)]
    return draw_grid(summary, points, failed, panel, entries, "the 99th percentile of latency")


def left_out(rows: Sequence[Row]) -> str:
    """How many of these families have no p99, and why; empty when all have one."""
    without = [row for row in rows if row["p99_ms"] is None]
    if not without:
        return ""
    needed = {found for row in without for found in re.findall(r"p99 needs (\d+)", row["percentile_note"] or "")}
    low, high = min(row["samples"] for row in without), max(row["samples"] for row in without)
    have = f"{low}" if low == high else f"{low} to {high}"
    why = f"{have} calls, p99 needs {' or '.join(sorted(needed))}" if needed else "no percentile was computed"
    return f"{len(without)} of {len(rows)} families left out: {why}"


def draw_tail(here: Sequence[Row], lost: Sequence[Row], x: Axis, y: Axis, note: str, height: int) -> Panel:
    """The p99 as points, its bound as a bar upwards, the median as a line, and what was left out in words."""
    own = [row for row in here if row["source"] == MEASURED]
    others = [row for row in here if row["source"] != MEASURED]
    layers: list[alt.Chart] = []
    if own:
        medians = alt.Chart(inline(_plain(own))).mark_line()
        layers.append(
            medians.encode(x.x("batch_size", "d"), y.y("value"), mode_colour(here), mode_dash(here), detail="mode:N")
        )
    tails = [{**row, "value": row["p99_ms"]} for row in own if row["p99_ms"] is not None]
    bounded = [row for row in tails if row["p99_bound_ms"] is not None]
    if bounded:
        data = alt.Chart(inline(bounded))
        xs, colour = x.x("batch_size", "d"), mode_colour(here)
        layers.append(data.mark_rule(strokeWidth=0.8).encode(xs, y.y("value"), alt.Y2("p99_bound_ms:Q"), colour))
        layers.append(
            data.mark_tick(thickness=0.8, size=5, orient="horizontal", opacity=1).encode(
                xs, y.y("p99_bound_ms"), colour
            )
        )
    if note:
        failures = len({row["mode"] for row in lost})
        text = alt.Chart(inline([{"words": note}])).mark_text(
            text=note.split(": "), align="right", baseline="bottom", lineHeight=8, dy=-8 - 7 * failures, color=INK
        )
        layers.append(text.encode(x=alt.value(PANEL_WIDTH - 3), y=alt.value(height - 3)))
    return draw_series([*tails, *others], lost, x, y, height, layers, lines=False)


def _plain(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Only what the medians need, so that no column is null throughout."""
    return [{name: row[name] for name in ("batch_size", "value", "mode", "runtime", "precision")} for row in rows]
