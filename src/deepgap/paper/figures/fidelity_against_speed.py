"""How close a mode's answers are to FP32's against how fast it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from deepgap.analyse.peaks import find_peaks
from deepgap.analyse.schemas import MEASURED
from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import Axis, log_axis
from deepgap.paper.charts.layout import Panel, Place, Row, inline, overlay
from deepgap.paper.charts.legend import mode_entries
from deepgap.paper.charts.marks import failed_points, failure_note, large_first, mode_colour, mode_shape
from deepgap.paper.charts.panels import draw_grid

SHOWS = ("measured",)
CAPTION = (
    "Fidelity against speed: throughput at the peak (the smallest batch size that paired comparison cannot tell "
    "from the one with the highest median), the median over sweeps with its exact order-statistic interval, against "
    "the share of the held-out images on which a mode's first class is that of FP32 in PyTorch on the host, in the "
    "worst cell of the mode, with Wilson's 95 % interval. The number beside a mark is the centred "
    "signal-to-quantisation-noise ratio of its logits in dB; 'exact' gave the reference's values, and answers that "
    "are not finite have no number. Marks that lie on each other share a number, or have theirs in a list from the "
    "fastest mode on. All GPUs have one scale, and so have all processors. The published study states no fidelity."
)

TOUCH = 5.0
"""Marks whose centres are nearer than this in points lie on each other."""
LABEL_HEIGHT = 7.0
LETTER = 3.7
HEIGHT = 104


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are devices, columns models; agreement in percent to the right, throughput upwards on a logarithm."""
    points = fidelity_points(summary)
    failed = failed_points(summary) if points else []
    x = agreement_axis([row[key] for row in points for key in ("agreement", "agreement_low")])

    def panel(here: Sequence[Row], lost: Sequence[Row], scaled: Sequence[Row], place: Place) -> Panel:
        y = log_axis("Peak throughput (img/s)", [row[key] for row in scaled for key in ("value", "low", "high")])
        return draw_plane(here, lost, x.at(place), y.at(place), place)

    entries = mode_entries(points, line=False)
    images = dict(summary.fidelity.group_by("gpu").agg(pl.col("images").min()).iter_rows())
    notes = {gpu: f", {count} held-out images a cell" for gpu, count in images.items()}
    return draw_grid(summary, points, failed, panel, entries, "fidelity against speed", notes, most=HEIGHT)


def fidelity_points(summary: Summary) -> list[dict[str, Any]]:
    """The peak of each gpu, model and mode with its fidelity: agreement and its interval in percent, sqnr_db (null:
    exact or not finite), identical, and in `words` what stands beside the mark."""
    peaks = find_peaks(summary.measured)
    points = []
    for row in summary.fidelity.iter_rows(named=True):
        peak = peaks.get((row["gpu"], row["model"], row["mode"]))
        if peak is not None and row["top1_agreement"] is not None:
            shares = {"agreement": "", "agreement_low": "_low", "agreement_high": "_high"}
            points.append(
                {
                    **{
                        name: row[name]
                        for name in ("gpu", "model", "mode", "runtime", "precision", "sqnr_db", "identical")
                    },
                    **{"batch_size": peak.point.batch_size, "source": MEASURED, "words": decibels(row)},
                    **{"value": peak.point.throughput, "low": peak.point.low, "high": peak.point.high},
                    **{name: 100 * row[f"top1_agreement{end}"] for name, end in shares.items()},
                }
            )
    return points


def decibels(row: Row) -> str:
    """The decibels of a mode in words: none where they have no value."""
    if row["identical"]:
        return "exact"
    return "" if row["sqnr_db"] is None else f"{row['sqnr_db']:.0f}"


def agreement_axis(known: Sequence[float]) -> Axis:
    """Percent, from below the lowest interval to beyond 100, with room for words at the right."""
    least = min([98.0, *known])
    low = least - 0.08 * (100 - least)
    step = next(step for step in (0.5, 1.0, 2.0, 5.0, 10.0, 20.0) if (100 - low) / step <= 4)
    count = int((100 - low) / step)
    ticks = tuple(100 - step * place for place in range(count, -1, -1))
    return Axis("Top-1 agreement with FP32 (%)", low, 100 + 0.28 * (100 - low), ticks, base=None, horizontal=True)


def draw_plane(here: Sequence[Row], lost: Sequence[Row], x: Axis, y: Axis, place: Place) -> Panel:
    """The marks of a panel, each with its decibels beside it."""
    colour, shape = mode_colour(here), mode_shape(here)
    xs, ys = x.x("agreement", ".4~r"), y.y("value")
    data = alt.Chart(inline(large_first(here)))
    wide = alt.Chart(inline(here)).mark_rule(strokeWidth=0.8)
    layers = [wide.encode(x.x("agreement_low", ".4~r"), ys, alt.X2("agreement_high:Q"), color=colour)]
    spans = [row for row in here if row["low"] is not None]
    if spans:
        rules = alt.Chart(inline(spans)).mark_rule(strokeWidth=0.8)
        layers.append(rules.encode(xs, y.y("low"), alt.Y2("high:Q"), colour))
    marks = data.mark_point(filled=True, size=26, opacity=1, stroke="white", strokeWidth=0.5)
    layers.append(marks.encode(xs, ys, colour, shape))
    labels = spread_labels(here, x, y, place)
    if labels:
        text = alt.Chart(inline(labels)).mark_text(align="left", baseline="middle", dx=5)
        layers.append(
            text.encode(x.x("agreement_high", ".4~r"), alt.Y("label_y:Q", scale=None, axis=None), text="words:N")
        )
    if lost:
        layers.append(failure_note(lost))
    return overlay(layers, place.width, place.height)


def spread_labels(rows: Sequence[Row], x: Axis, y: Axis, place: Place) -> list[dict[str, Any]]:
    """The rows whose words are written, with these in `words`, and `label_y`, their height in pixels.

    A mark that lies on another has its words in that one's, once where they are equal. Words that would overlap are
    moved down.
    """
    labels: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda row: -float(row["value"])):
        left, top = place.width * x.share(row["agreement_high"]), place.height * (1 - y.share(row["value"]))
        under = [other for other in labels if abs(other["left"] - left) < TOUCH and abs(other["top"] - top) < TOUCH]
        if under:
            if row["words"] not in under[0]["words"].split(", "):
                under[0]["words"] = ", ".join(filter(None, (under[0]["words"], row["words"])))
            continue
        label_y = top
        near = [other for other in labels if abs(other["left"] - left) < LETTER * len(other["words"])]
        for other in sorted(near, key=lambda other: float(other["label_y"])):
            if abs(other["label_y"] - label_y) < LABEL_HEIGHT:
                label_y = other["label_y"] + LABEL_HEIGHT
        labels.append({**row, "left": left, "top": top, "label_y": label_y})
    return labels
