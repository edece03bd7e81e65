"""What each GPU did while it was measured: clock, power and temperature over the time of one session."""

from __future__ import annotations

from collections.abc import Sequence
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
    in_rows,
    inline,
    nothing_to_draw,
    overlay,
    row_height,
)
from deepgap.paper.charts.legend import Entry, draw_legend
from deepgap.paper.charts.theme import CONFIG, INK, QUIET, tint
from deepgap.published.values import temperature_ranges
from deepgap.study.words import by_mode

DEVICES = ("cuda",)
CAPTION = (
    "Clock, power and temperature over the time of one session, a panel a mode: of each kind of GPU the session "
    "with the most cells, and in it the card with the most. The SM clock is a share of the card's maximum and the "
    "power a share of the limit that was set; the temperature is in degrees Celsius on the same axis. A mark is the "
    "median of the seconds of one span of time that lie between the first and the last timed call of a cell of the "
    "mode; preparing and warming up are left out. Cells of all modes were measured in a random order, so the marks "
    "of a mode stand apart. A triangle at the foot says that the driver gave a reason for holding the clocks down. "
    "A hollow band is the range of temperatures that the published study states for all of its runs of that card, "
    "without a time."
)

HEIGHT = 62
MOST = 5
"""Panels side by side."""
SPANS = 120
"""Spans of time in a session: about one a point of a panel's width."""
SERIES = {
    "clock": Entry("SM clock, % of maximum", INK, "circle", size=14),
    "power": Entry("power, % of limit", "#d55e00", "diamond", size=16),
    "temperature": Entry("temperature (°C)", "#56b4e9", "triangle-up", size=16),
}
HELD = Entry("clocks held down", INK, "triangle-down", size=16)
PUBLISHED_RANGE = Entry("hollow: published temperatures", QUIET, "square", filled=False, size=38)


def draw(summary: Summary) -> alt.VConcatChart:
    """A block a GPU with samples, a panel a mode, minutes of one session to the right."""
    sessions = {gpu: chosen_session(summary, gpu) for gpu in summary.order_gpus(set(summary.telemetry["gpu"]))}
    blocks = {gpu: spans_of(summary, gpu, rows) for gpu, rows in sessions.items() if not rows.is_empty()}
    blocks = {gpu: spans for gpu, spans in blocks.items() if spans}
    if not blocks:
        return nothing_to_draw("No samples of a GPU lie beside its cells, so there is no telemetry to draw.")
    ranges = {row["gpu"]: row for row in temperature_ranges(summary.published).iter_rows(named=True)}
    grids = {
        gpu: in_rows(sorted({span["mode"] for span in spans}, key=by_mode), MOST) for gpu, spans in blocks.items()
    }
    entries = list(SERIES.values())
    entries += [HELD] if any(span["reasons"] for spans in blocks.values() for span in spans) else []
    entries += [PUBLISHED_RANGE] if any(gpu in ranges for gpu in blocks) else []
    legend = draw_legend(entries)
    height = row_height(sum(map(len, grids.values())), [legend], HEIGHT)
    charts = []
    for gpu, rows in grids.items():
        x = zero_axis(
            "Minutes of the session", [max(span["end_min"] for span in blocks[gpu]) / 1.05], 4.5, horizontal=True
        )
        width = (GRID_WIDTH - (len(rows[0]) - 1) * GAP) // len(rows[0])
        for number, modes in enumerate(rows):
            panels: list[Panel] = []
            for mode in modes:
                bottom = gpu == list(grids)[-1] and number == len(rows) - 1
                place = Place(inner=bool(panels), bottom=bottom, height=height, width=width)
                spans = [span for span in blocks[gpu] if span["mode"] == mode]
                panels.append(add_heading(draw_mode(spans, ranges.get(gpu), x.at(place), place), mode))
            told = {"title": alt.Title(_told(gpu, sessions[gpu]), anchor="start", frame="group", offset=5)}
            charts.append(
                alt.hconcat(*panels, spacing=GAP, bounds="flush", resolve=APART, **({} if number else told))
            )
    return alt.vconcat(legend, *charts, spacing=12, resolve=APART, config=CONFIG)


def chosen_session(summary: Summary, gpu: str) -> pl.DataFrame:
    """The timed rows of `schemas.TELEMETRY` of the session with the most cells of a GPU, and of its card with the
    most."""
    rows = summary.telemetry.filter("timed", gpu=gpu)
    cell = pl.struct("model", "mode", "batch_size", "sweep")
    for column in ("session", "card"):
        counts = rows.group_by(column).agg(cells=cell.n_unique()).sort("cells", column, descending=[True, False])
        if not counts.is_empty():
            rows = rows.filter(pl.col(column).eq_missing(counts[column][0]))
    return rows


def _told(gpu: str, rows: pl.DataFrame) -> str:
    """Which session a block is of."""
    cells = rows.select("model", "mode", "batch_size", "sweep").n_unique()
    card = rows["card"][0]
    return f"{gpu}: one session, {cells:,} cells of one card" + (f" ({card[:6]})" if card else "")


def spans_of(summary: Summary, gpu: str, rows: pl.DataFrame) -> list[dict[str, Any]]:
    """The session divided into `SPANS` equal times: for each of them and each mode that was timed in it the medians
    of clock (percent of the maximum), power (percent of the limit) and temperature, and the reasons that were given.

    start_min, end_min: minutes since the first of these rows. A quantity that the device does not tell is null.
    """
    limit = power_limit(summary, gpu, rows["session"][0])
    times = (rows["started_unix_s"] + rows["time_s"]).to_list()
    begin, whole = min(times), max(times) - min(times)
    step = max(whole / SPANS, 1.0)
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in rows.iter_rows(named=True):
        place = floor((row["started_unix_s"] + row["time_s"] - begin) / step)
        groups.setdefault((place, row["mode"]), []).append(row)
    found = []
    for (place, mode), members in sorted(groups.items()):
        shares = [row["sm_clock_share"] for row in members if row["sm_clock_share"] is not None]
        watts = [row["power_w"] for row in members if row["power_w"] is not None]
        heat = [row["temperature_c"] for row in members if row["temperature_c"] is not None]
        found.append(
            {
                **{"mode": mode, "start_min": place * step / 60, "end_min": (place + 1) * step / 60},
                "clock": 100 * median(shares) if shares else None,
                "power": 100 * median(watts) / limit if watts and limit else None,
                "temperature": median(heat) if heat else None,
                "reasons": sorted({reason for row in members for reason in row["throttle_reasons"]}),
            }
        )
    return found


def power_limit(summary: Summary, gpu: str, session: str | None) -> float | None:
    """The power limit that a session's cards were set to, in W; the TDP where the session does not tell it."""
    told = summary.sessions.filter(pl.col("session").eq_missing(session), gpu=gpu)["power_limit_w"].drop_nulls()
    return float(told[0]) if len(told) else summary.gpus[gpu].tdp_w


def draw_mode(spans: Sequence[Row], stated: Row | None, x: Axis, place: Place) -> Panel:
    """The marks of one mode, those of the clock on top."""
    y = Axis("%, °C", 0, 118, (0, 25, 50, 75, 100), None).at(place)
    xs = x.x("start_min", "d")
    layers: list[alt.Chart] = []
    if stated:
        band = alt.Chart(inline([stated])).mark_rect(filled=False, opacity=1, stroke=QUIET, strokeWidth=1)
        layers.append(band.encode(y.y("low", "d"), alt.Y2("high:Q"), x=alt.value(0), x2=alt.value(place.width)))
    for name in reversed(SERIES):
        look = SERIES[name]
        rows = [{"start_min": span["start_min"], name: span[name]} for span in spans if span[name] is not None]
        if rows:
            marks = alt.Chart(inline(rows)).mark_point(
                filled=True, shape=look.shape or "circle", size=0.7 * look.size, color=look.colour, opacity=1
            )
            layers.append(marks.encode(xs, y.y(name, "d")))
    held = [
        {"start_min": span["start_min"], "reasons": ", ".join(span["reasons"])} for span in spans if span["reasons"]
    ]
    if held:
        marks = alt.Chart(inline(held)).mark_point(filled=True, shape="triangle-down", size=12, color=INK, opacity=1)
        layers.append(marks.encode(xs, y=alt.value(place.height - 4)))
    if not layers:
        layers.append(alt.Chart(inline([{"start_min": 0.0}])).mark_rule(color=tint(QUIET, 0.2)).encode(xs))
    return overlay(layers, place.width, place.height)
