"""Latency against throughput."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from deepgap.analyse.peaks import non_dominated
from deepgap.analyse.schemas import MEASURED, PUBLISHED
from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import Axis, log_axis
from deepgap.paper.charts.layout import Panel, Place, Row, inline, overlay
from deepgap.paper.charts.legend import Entry, common_entries, mode_entries
from deepgap.paper.charts.marks import (
    failed_points,
    failure_note,
    fill_colour,
    hollow_points,
    large_first,
    mark_size,
    measured_points,
    mode_colour,
    mode_dash,
    mode_shape,
    published_points,
)
from deepgap.paper.charts.panels import draw_grid
from deepgap.paper.charts.theme import QUIET, tint
from deepgap.published.values import VALUE_KEY, pareto_pairs, table1_peaks

CAPTION = (
    "Throughput against latency, both logarithmic, one mark a batch size and mode: the medians over sweeps (their "
    "number stands above each row) of throughput and of latency; a line joins the batch sizes of a mode, from the "
    "smallest at the left. Grey steps join the points that no other point of their class beats in both. One class "
    "is of modes whose answers are near to those of FP32, with a signal-to-quantisation-noise ratio (SQNR) of 40 dB "
    "or more in their worst cell; the other holds all modes, and differs where quantised ones win. Points of the "
    "fronts are numbered with their batch size where there is room. All GPUs have one scale, and so have all "
    "processors. Hollow marks are published pairs of cards that were measured here, numbered with the batch size at "
    "which the study prints their throughput as a peak, or ? where it prints none; most of them set the throughput "
    "of that batch size against the latency of another."
)

NEAR_DB = 40.0
"""FP16 and TF32 lie above, calibrated INT8 lies below."""
FRONT_WIDTH = 3.2
ALL_FRONT = Entry("front of all modes", tint(QUIET, 0.35), dash=(1, 0), stroke_width=FRONT_WIDTH)
NEAR_FRONT = Entry(
    f"front of modes with SQNR of {NEAR_DB:g} dB or more", tint(QUIET, 0.8), dash=(1, 0), stroke_width=1.6
)


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are devices, columns models."""
    measured = summary.measured.filter(pl.col("median_ms").is_not_null())
    at = table1_peaks(summary.published).select(*VALUE_KEY, "throughput_img_s", "batch_size")
    pairs = pareto_pairs(summary.published).join(
        at, on=[*VALUE_KEY, "throughput_img_s"], how="left", maintain_order="left"
    )
    near = near_modes(summary)
    points = [
        {**row, "near": (row["gpu"], row["model"], row["mode"]) in near}
        for row in measured_points(measured, "throughput_img_s", None, None, "median_ms")
    ]
    points += published_points(summary, pairs, "throughput_img_s", "median_ms")
    failed = failed_points(summary)

    def panel(here: Sequence[Row], lost: Sequence[Row], scaled: Sequence[Row], place: Place) -> Panel:
        x = log_axis("Median latency (ms)", [row["median_ms"] for row in scaled], horizontal=True).at(place)
        # Room for the number of the highest point.
        values = [row["value"] for row in scaled]
        y = log_axis("Throughput (img/s)", [*values, 1.5 * max(values)]).at(place)
        return draw_plane(here, lost, x, y, place)

    entries = mode_entries(points)
    if any(row["source"] == MEASURED for row in points):
        entries += [NEAR_FRONT, ALL_FRONT]
    entries += common_entries(points, [])
    return draw_grid(summary, points, failed, panel, entries, "latency against throughput", most=HEIGHT)


HEIGHT = 112


def near_modes(summary: Summary) -> set[tuple[str, str, str]]:
    """The gpu, model and mode of those whose answers are near to FP32's."""
    near = (pl.col("sqnr_db") >= NEAR_DB) | pl.col("identical")
    return set(summary.fidelity.filter(near).select("gpu", "model", "mode").iter_rows())


def draw_plane(here: Sequence[Row], lost: Sequence[Row], x: Axis, y: Axis, place: Place) -> Panel:
    """The points of a panel, the fronts of its classes, and what failed in words."""
    measured = large_first(row for row in here if row["source"] == MEASURED)
    published = [row for row in here if row["source"] == PUBLISHED]
    xs, ys, colour, shape = x.x("median_ms"), y.y("value"), mode_colour(here), mode_shape(here)
    numbered = list(published)
    layers: list[alt.Chart] = []
    if measured:
        for look, rows in ((ALL_FRONT, measured), (NEAR_FRONT, [row for row in measured if row["near"]])):
            front = find_front(rows)
            steps = alt.Chart(inline(front)).mark_line(
                interpolate="step-after", color=look.colour, strokeWidth=look.stroke_width
            )
            layers += [steps.encode(xs, ys)] if front else []
            numbered += [row for row in front if row not in numbered]
        data = alt.Chart(inline(measured))
        layers.append(
            data.mark_line(strokeWidth=0.7).encode(
                xs, ys, colour, mode_dash(here), detail="mode:N", order="batch_size:Q"
            )
        )
        marks = data.mark_point(filled=True, size=mark_size(place.width, 15), opacity=1)
        layers.append(marks.encode(xs, ys, fill_colour(), shape))
    if published:
        layers += hollow_points(published, xs, ys, colour, shape)
    labels = readable_labels(numbered, x, y, place)
    if labels:
        text = alt.Chart(inline(labels)).mark_text(align="right", baseline="bottom", dx=-3, dy=-1)
        layers.append(text.encode(xs, ys, text="number:N"))
    if lost:
        layers.append(failure_note(lost, place.height, width=place.width))
    return overlay(layers, place.width, place.height)


def find_front(rows: Sequence[Row]) -> list[Row]:
    """The rows that no other beats in latency and in throughput."""
    kept = non_dominated([row["median_ms"] for row in rows], [row["value"] for row in rows])
    return [row for row, keep in zip(rows, kept, strict=True) if keep]


def readable_labels(rows: Sequence[Row], x: Axis, y: Axis, place: Place) -> list[Row]:
    """The points with a `number`, up and left of them, that overlaps none chosen before; published ones first, then
    the fastest."""
    chosen: list[Row] = []
    boxes: list[tuple[float, float, float, float]] = []
    for row in sorted(rows, key=lambda row: (row["source"] != PUBLISHED, -row["value"])):
        number = "?" if row["batch_size"] is None else str(row["batch_size"])
        right = place.width * x.share(row["median_ms"]) - 3
        bottom = place.height * (1 - y.share(row["value"])) - 1
        box = (right - 3.7 * len(number), right + 1, bottom - 7, bottom + 1)
        if box[2] > 0 and not any(
            box[0] < other[1] and other[0] < box[1] and box[2] < other[3] and other[2] < box[3] for other in boxes
        ):
            boxes.append(box)
            chosen.append({**row, "number": number})
    return chosen
