"""How close a mode's answers are to FP32's against how fast it is."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_FLOOR, Decimal
from typing import Any

import altair as alt
import polars as pl

from deepgap.analyse.peaks import find_peaks
from deepgap.analyse.schemas import MEASURED
from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import Axis, log_axis
from deepgap.paper.charts.layout import PANEL_WIDTH, Panel, Place, Row, inline, overlay
from deepgap.paper.charts.legend import Entry, mode_entries
from deepgap.paper.charts.marks import failed_points, failure_note, large_first, mode_colour, mode_shape
from deepgap.paper.charts.panels import draw_grid, published_without_cells
from deepgap.paper.charts.theme import QUIET

SHOWS = ("measured",)
CAPTION = (
    "Fidelity against speed: throughput at the peak (the smallest batch size that paired comparison cannot tell "
    "from the one with the highest median), the median over sweeps with its exact order-statistic interval, against "
    "the centred signal-to-quantisation-noise ratio (SQNR) of the logits, of which FP32 in PyTorch on the host is "
    "the signal; the worst cell of each mode. The number beside a mark is the part of the held-out images with the "
    "reference's first class, rounded down; marks that lie on each other share one, or have theirs in a list from "
    "the fastest mode on. Marks right of a dashed line gave the reference's values exactly; answers that are not "
    "finite stand on the left edge. The published study states no fidelity."
)

EXACT = Entry("right of the line: exact", QUIET, dash=(2, 2), stroke_width=0.8)
TOUCH = 5.0
"""Marks whose centres are nearer than this in points lie on each other."""
LABEL_HEIGHT = 7.0
LABEL_WIDTH = 26


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are GPUs, columns models; SQNR in decibels to the right, throughput upwards on a logarithm."""
    points = fidelity_points(summary)
    failed = failed_points(summary) if points else []
    known = [row["sqnr_db"] for row in points if row["sqnr_db"] is not None]
    x = decibel_axis(known)

    def panel(here: Sequence[Row], lost: Sequence[Row], in_row: Sequence[Row], place: Place) -> Panel:
        y = log_axis("Peak throughput (img/s)", [row[key] for row in in_row for key in ("value", "low", "high")])
        return draw_plane(here, lost, x.at(place), y.at(place), place.height)

    entries = mode_entries(points, line=False) + ([EXACT] if any(row["identical"] for row in points) else [])
    images = dict(summary.fidelity.group_by("gpu").agg(pl.col("images").min()).iter_rows())
    notes = {gpu: f", {count} held-out images a cell" for gpu, count in images.items()}
    below = published_without_cells(summary) if points else []
    return draw_grid(summary, points, failed, panel, entries, "fidelity against speed", notes, below=below)


def fidelity_points(summary: Summary) -> list[dict[str, Any]]:
    """The peak of each gpu, model and mode with its fidelity: sqnr_db (null: exact or not finite), identical and
    agreement in words."""
    peaks = find_peaks(summary.measured)
    points = []
    for row in summary.fidelity.iter_rows(named=True):
        mode = row["mode"]
        peak = peaks.get((row["gpu"], row["model"], mode))
        if peak is not None:
            points.append(
                {
                    **{name: row[name] for name in ("gpu", "model", "runtime", "precision", "sqnr_db", "identical")},
                    **{"mode": mode, "batch_size": peak.point.batch_size, "source": MEASURED},
                    **{"value": peak.point.throughput, "low": peak.point.low, "high": peak.point.high},
                    "agreement": percent_down(row["top1_agreement"]),
                }
            )
    return points


def percent_down(share: float | None) -> str:
    """A share in percent with one decimal, rounded down so that only a perfect one prints as such."""
    if share is None:
        return ""
    return f"{Decimal(repr(share)).scaleb(2).quantize(Decimal('0.1'), ROUND_FLOOR)} %"


def decibel_axis(known: Sequence[float]) -> Axis:
    """Decibels in tens, from below the lowest, with room for exact answers above the highest."""
    low = 10 * (min(known, default=0.0) // 10)
    high = 10 * (max(known, default=10.0) // 10 + 1)
    step = 10 if high - low <= 60 else 20
    ticks = tuple(float(tick) for tick in range(int(low), int(high) + 1, step))
    room = 0.4 * (high - low)
    return Axis("SQNR (dB)", low - 0.1 * room, high + room, ticks, base=None, horizontal=True)


def draw_plane(here: Sequence[Row], lost: Sequence[Row], x: Axis, y: Axis, height: int) -> Panel:
    """The marks of a panel, each with its agreement beside it."""
    border = x.ticks[-1]
    exact = border + 0.13 * (x.high - border)
    placed = [
        {**row, "place": row["sqnr_db"] if row["sqnr_db"] is not None else exact if row["identical"] else x.low}
        for row in here
    ]
    colour, shape = mode_colour(here), mode_shape(here)
    xs = x.x("place", "d")
    data = alt.Chart(inline(large_first(placed)))
    layers: list[alt.Chart] = []
    if any(row["identical"] for row in here):
        line = alt.Chart(inline([{"place": border}])).mark_rule(color=QUIET, strokeDash=[2, 2], strokeWidth=0.8)
        layers.append(line.encode(xs))
    spans = [row for row in placed if row["low"] is not None]
    if spans:
        rules = alt.Chart(inline(spans)).mark_rule(strokeWidth=0.8)
        layers.append(rules.encode(xs, y.y("low"), alt.Y2("high:Q"), colour))
    layers.append(
        data.mark_point(filled=True, size=26, opacity=1, stroke="white", strokeWidth=0.5).encode(
            xs, y.y("value"), colour, shape
        )
    )
    labels = spread_labels(placed, x, y, height)
    for right in (True, False):
        side = [row for row in labels if row["right"] == right]
        if side:
            text = alt.Chart(inline(side)).mark_text(
                align="left" if right else "right", baseline="middle", dx=5 if right else -5
            )
            layers.append(text.encode(xs, alt.Y("label_y:Q", scale=None, axis=None), text="words:N"))
    if lost:
        layers.append(failure_note(lost))
    return overlay(layers, PANEL_WIDTH, height)


def spread_labels(rows: Sequence[Row], x: Axis, y: Axis, height: int) -> list[dict[str, Any]]:
    """The rows whose words are written, with these in `words`, `label_y`, their height in pixels, and `right`, the
    side of the mark on which they stand: left where the panel ends.

    A mark that lies on another has its words in that one's, once where they are equal. Words that would overlap are
    moved down.
    """
    labels: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda row: -float(row["value"])):
        left, top = PANEL_WIDTH * x.share(row["place"]), height * (1 - y.share(row["value"]))
        under = [other for other in labels if abs(other["left"] - left) < TOUCH and abs(other["top"] - top) < TOUCH]
        if under:
            words = under[0]["words"]
            under[0]["words"] = words if words == row["agreement"] else f"{words}, {row['agreement']}"
            continue
        right = left + 5 + LABEL_WIDTH < PANEL_WIDTH
        start, label_y = left + 5 if right else left - 5 - LABEL_WIDTH, top
        near = [other for other in labels if abs(other["start"] - start) < LABEL_WIDTH]
        for other in sorted(near, key=lambda other: float(other["label_y"])):
            if abs(other["label_y"] - label_y) < LABEL_HEIGHT:
                label_y = other["label_y"] + LABEL_HEIGHT
        at = {"left": left, "top": top, "start": start, "label_y": label_y}
        labels.append({**row, **at, "right": right, "words": row["agreement"]})
    return labels
