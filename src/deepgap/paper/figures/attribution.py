"""A gain in throughput over eager FP32 as steps of precision and of runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import altair as alt

from deepgap.analyse.attribution import BOTH, PRECISION, RUNTIME, Attribution, attribute
from deepgap.analyse.schemas import MEASURED, PUBLISHED
from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import Axis, log_axis
from deepgap.paper.charts.layout import PANEL_WIDTH, Panel, Place, Row, inline, overlay, words
from deepgap.paper.charts.legend import PUBLISHED_POINT, Entry, mode_entries
from deepgap.paper.charts.marks import failed_points, failure_note, hollow_points, mode_colour, mode_shape
from deepgap.paper.charts.panels import draw_grid
from deepgap.paper.charts.theme import INK, QUIET, tint
from deepgap.study.words import mode_parts
from deepgap.text import significant

CAPTION = (
    "From eager FP32 to INT8 in steps, at the smallest, the matched and the largest batch size of each GPU's sweep: "
    "each bar multiplies the throughput reached before it, and its mark is the mode that is reached, with the exact "
    "order-statistic interval, at least 95 %, of that step's paired ratios. The number over a group is the product "
    "of its steps; with a star it spans only the measured modes. A cross is a mode that was not measured, and the "
    "next bar spans it; a first mark at one is where the steps begin instead of eager FP32. Dashed bars: launching "
    "calls bounds either mode. The step to FP16 in eager PyTorch changes the memory layout too where the study "
    "gives FP16 another one. Hollow bars and marks are published, from the approximate medians at that study's "
    "largest batch size, of which a stated bound counts as its value; its FP32 left TF32 at its default."
)

KIND_TINTS = {PRECISION: tint(QUIET, 0.85), RUNTIME: tint(QUIET, 0.25), BOTH: tint(QUIET, 0.55)}
BASE_LINE = Entry("eager-fp32", QUIET, dash=(1, 0), stroke_width=0.8)
MISSING = Entry("not measured", QUIET, "cross", size=20, angle=45)
LAUNCH_BOUND = Entry("dashed: launch-bound", INK, dash=(2, 2), stroke_width=0.8)
BAR_HALF = 0.36
ROOM = 1.6
"""For the number over the highest mark, on a logarithm."""


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are GPUs, columns models; in a panel a group of bars for each batch size and chain."""
    found = attribute(summary)
    points = [point for item in found for point in step_points(item)]
    chains = {(item.gpu, item.batch_size, mode) for item in found for mode in item.chain}
    failed = [row for row in failed_points(summary) if (row["gpu"], row["batch_size"], row["mode"]) in chains]

    def panel(here: Sequence[Row], lost: Sequence[Row], in_row: Sequence[Row], place: Place) -> Panel:
        groups = list(dict.fromkeys((row["batch_size"], row["chain"]) for row in in_row))
        levels = [row[key] for row in in_row for key in ("before", "value", "low", "high")]
        y = log_axis("Gain in throughput", [*levels, ROOM * max(filter(None, levels))]).at(place)
        if not any(row["source"] == PUBLISHED or row["value"] not in (None, row["before"]) for row in here):
            why = "Fewer than two modes of the chain are measured: there is no step to show."
            return words(why, height=place.height)
        return draw_groups(here, lost, groups, y, place)

    drawn = [row for row in points if row["value"] is not None]
    entries = mode_entries(drawn, line=False)
    entries += [Entry(f"step of {kind}", colour, "square", size=50) for kind, colour in KIND_TINTS.items()]
    entries += [BASE_LINE, MISSING]
    entries += [LAUNCH_BOUND] if any(row["launch_bound"] for row in drawn) else []
    entries += [PUBLISHED_POINT] if any(row["source"] == PUBLISHED for row in drawn) else []
    return draw_grid(summary, points, failed, panel, entries, "the attribution of gains")


def step_points(found: Attribution) -> list[dict[str, Any]]:
    """A point a step.

    before, value: the level before and after it, as multiples of the chain's first measured mode; value is null for a
        mode that was not measured. low, high: the interval of the step at its level.
    words, top: the words over the group and the level that they stand above, at its last point.
    """
    level, top = 1.0, 1.0
    points: list[dict[str, Any]] = []
    for place, step in enumerate(found.steps):
        runtime, precision, _ = mode_parts(step.mode)
        after = level * step.ratio if step.ratio is not None else level if step.present else None
        points.append(
            {
                **{"gpu": found.gpu, "model": found.model, "batch_size": found.batch_size, "source": found.source},
                **{"mode": step.mode, "runtime": runtime, "precision": precision, "kind": step.kind},
                **{"chain": " ".join(found.chain), "place": place, "steps": len(found.steps)},
                "before": level,
                "value": after,
                "low": None if step.low is None else level * step.low,
                "high": None if step.high is None else level * step.high,
                "launch_bound": step.launch_bound,
                "words": None,
            }
        )
        level = level if after is None else after
        top = max(top, level)
    if found.whole is not None and found.whole.ratio is not None:
        star = "" if found.complete else "*"
        points[-1] |= {"words": f"{significant(found.whole.ratio, 3)}×{star}", "top": top}
    return points


def draw_groups(
    here: Sequence[Row], lost: Sequence[Row], groups: Sequence[tuple[int, str]], y: Axis, place: Place
) -> Panel:
    """The bars of a panel, a group for each of `groups` (batch size and chain), in the slots of the row's panels."""
    starts, slots = {}, 0.5
    for batch_size, chain in groups:
        starts[batch_size, chain] = slots
        slots += len(chain.split())
    names = {start + (len(chain.split()) - 1) / 2: str(batch) for (batch, chain), start in starts.items()}
    label = " : ".join(f"datum.value == {middle} ? '{name}'" for middle, name in names.items())
    axis = alt.Axis(values=list(names), labelExpr=f"{label} : ''", grid=False, ticks=False)
    scale = alt.Scale(domain=[0, slots], nice=False, zero=False)

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", title="Batch size (images)" if place.bottom else None, scale=scale, axis=axis)

    placed = _place_bars(here, starts)
    known = [row for row in placed if row["value"] is not None]
    colour, shape = mode_colour(here), mode_shape(here)
    base = alt.Chart(inline([{"value": 1.0, "left": 0.0, "right": slots}])).mark_rule(color=QUIET, strokeWidth=0.8)
    layers: list[alt.Chart] = [base.encode(x("left"), y.y("value"), alt.X2("right:Q"))]
    layers += _measured_bars([row for row in known if row["source"] == MEASURED], x, y, colour, shape)
    published = [row for row in known if row["source"] == PUBLISHED]
    if published:
        layers.append(
            alt.Chart(inline(published))
            .mark_rect(filled=False, stroke=QUIET, strokeWidth=0.8, opacity=1)
            .encode(x("left"), y.y("before"), alt.X2("right:Q"), alt.Y2("value:Q"))
        )
        layers += hollow_points(published, x("slot"), y.y("value"), colour, shape)
    missing = [row for row in placed if row["value"] is None]
    if missing:
        layers.append(
            alt.Chart(inline(missing))
            .mark_point(shape="cross", angle=45, filled=True, size=20, opacity=1, color=QUIET)
            .encode(x("slot"), y.y("before"))
        )
    told = [row for row in placed if row["words"] is not None]
    if told:
        words = alt.Chart(inline(told)).mark_text(baseline="bottom", dy=-5)
        layers.append(words.encode(x("middle"), y.y("top"), text="words:N"))
    if lost:
        layers.append(failure_note(lost))
    return overlay(layers, PANEL_WIDTH, place.height)


def _place_bars(here: Sequence[Row], starts: Mapping[tuple[int, str], float]) -> list[dict[str, Any]]:
    """The steps with the places of their bars; `starts`: the first slot of a batch size and chain."""
    return [
        {
            **row,
            "slot": (slot := starts[row["batch_size"], row["chain"]] + row["place"] + 0.5),
            "left": slot - BAR_HALF,
            "right": slot + BAR_HALF,
            "fill": KIND_TINTS[row["kind"]],
            "middle": starts[row["batch_size"], row["chain"]] + row["steps"] / 2,
        }
        for row in here
    ]


def _measured_bars(
    measured: Sequence[Row], x: Callable[[str], alt.X], y: Axis, colour: alt.Color, shape: alt.Shape
) -> list[alt.Chart]:
    """Bars, those of launch-bound steps with a dashed outline, their intervals, and the marks of their modes."""
    layers: list[alt.Chart] = []
    for dashed in (False, True):
        bars = [row for row in measured if row["launch_bound"] == dashed]
        if bars:
            look: dict[str, Any] = {"stroke": INK, "strokeDash": [2, 2], "strokeWidth": 0.8} if dashed else {}
            layers.append(
                alt.Chart(inline(bars))
                .mark_rect(opacity=1, **look)
                .encode(
                    x("left"),
                    y.y("before", "~g"),
                    alt.X2("right:Q"),
                    alt.Y2("value:Q"),
                    alt.Fill("fill:N", scale=None, legend=None),
                )
            )
    spans = [row for row in measured if row["low"] is not None]
    if spans:
        rules = alt.Chart(inline(spans)).mark_rule(strokeWidth=0.8, color=INK)
        layers.append(rules.encode(x("slot"), y.y("low"), alt.Y2("high:Q")))
    if measured:
        points = alt.Chart(inline(measured)).mark_point(
            filled=True, size=20, opacity=1, stroke="white", strokeWidth=0.4
        )
        layers.append(points.encode(x("slot"), y.y("value"), colour, shape))
    return layers
