"""The largest memory of a GPU by year, five forms of its growth, and what each foretold of later years."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from deepgap.analyse.memory_trend import FEWEST, FORMS, Fit, Foretold, back_test
from deepgap.analyse.training.summary import TrainingSummary
from deepgap.paper.charts.axes import Axis, log_axis
from deepgap.paper.charts.layout import APART, GAP, GRID_WIDTH, Panel, add_heading, inline, nothing_to_draw, overlay
from deepgap.paper.charts.legend import Entry, draw_legend
from deepgap.paper.charts.theme import CONFIG, GRID, INK, QUIET

CAPTION = (
    "Memory of one GPU by year of release (above): the largest of each year (dots), to which each form is fitted, "
    "and all others of the list (small, grey). Line: the fit; band: the interval of a new value at 95 %, cut at the "
    "axis, as a line is where a form foretells no memory. Hollow: what the published study projects. Below: each "
    "form fitted to the years up to one and asked for those after it: forecast over what was listed, by years ahead; "
    "crosses at the foot are forecasts of no memory or less. Polynomials are fitted to GB, the others to its "
    "logarithm. Data: Epoch AI, Data on Machine Learning Hardware (CC BY), copy of 2025-12-16."
)

PROJECTED = ({"year": 2025, "memory_gb": 141.0}, {"year": 2030, "memory_gb": 1000.0})
"""By the published study: data/published/democratizing_ai.csv, gpu_memory_regression."""
LAST = 2032
WIDTH = (GRID_WIDTH - (len(FORMS) - 1) * GAP) // len(FORMS)
HEIGHT = 110
LINE, BAND = "#005a96", "#d0e0ec"
MOST_GB, LEAST_GB = 9000.0, 0.4
FARTHEST = 20.0
"""By how many times a forecast may be off to stand in the panel; others stand at its edge."""

ENTRIES = (
    Entry("largest of a year", INK, "circle", size=18),
    Entry("others", "#b0b0b0", "circle", size=8),
    Entry("fit", LINE, dash=(1, 0)),
    Entry("95 % interval of a new value", BAND, dash=(1, 0), stroke_width=6),
    Entry("hollow: published projection", QUIET, "circle", filled=False, size=38),
    Entry("forecast of a later year", LINE, "circle", size=14),
    Entry("forecast of no memory", LINE, "cross", size=26, angle=45),
)


def draw(summary: TrainingSummary) -> alt.VConcatChart:
    """Columns are forms; sizes above, forecasts below."""
    largest = summary.largest_memory
    if largest.height <= FEWEST:
        return nothing_to_draw(f"The list of GPUs has {largest.height} years; a back-test needs more than {FEWEST}.")
    years, gb = summary.memory_by_year
    foretold = back_test(years, gb)
    above, below = [], []
    for place, (name, form) in enumerate(FORMS.items()):
        sizes = _sizes(summary, form(years, gb), inner=place > 0)
        above.append(add_heading(sizes, name))
        below.append(_forecasts([one for one in foretold if one.form == name], inner=place > 0))
    rows = [alt.hconcat(*panels, spacing=GAP, bounds="flush", resolve=APART) for panels in (above, below)]
    return alt.vconcat(draw_legend(ENTRIES), *rows, spacing=9, resolve=APART, config=CONFIG)


def _sizes(summary: TrainingSummary, fit: Fit, inner: bool) -> Panel:
    first = int(summary.gpu_memory["year"].min())  # type: ignore[arg-type]
    x = Axis("Year", first - 1, LAST + 1, (2010, 2020, 2030), None, horizontal=True)
    y = Axis(None if inner else "Memory (GB)", LEAST_GB, MOST_GB, (1, 10, 100, 1000), 10, labelled=not inner)
    xs, ys = x.x("year", "d"), y.y("memory_gb")
    course = [_step(float(year), fit) for year in np.arange(first, LAST + 0.01, 0.25)]
    band = alt.Chart(inline(course)).mark_area(color=BAND, opacity=1)
    line = alt.Chart(inline(course)).mark_line(color=LINE)
    largest = set(summary.largest_memory["gpu"])
    others = [row for row in summary.gpu_memory.to_dicts() if row["gpu"] not in largest]
    layers = [band.encode(xs, y.y("low"), alt.Y2("high:Q")), line.encode(xs, y.y("middle"))]
    if others:
        layers.append(
            alt.Chart(inline(others)).mark_point(filled=True, size=5, color="#b0b0b0", opacity=1).encode(xs, ys)
        )
    dots = alt.Chart(summary.largest_memory).mark_point(filled=True, size=16, color=INK, opacity=1)
    stated = alt.Chart(inline(PROJECTED)).mark_point(filled=False, size=38, color=QUIET, strokeWidth=1.2, opacity=1)
    return overlay([*layers, dots.encode(xs, ys), stated.encode(xs, ys)], WIDTH, HEIGHT)


def _step(year: float, fit: Fit) -> dict[str, Any]:
    """A point of the course; its line ends where the form leaves the panel."""
    forecast = fit.at(year)
    low, high = (min(max(end, LEAST_GB), MOST_GB) for end in (forecast.low, forecast.high))
    inside = LEAST_GB <= forecast.middle <= MOST_GB
    return {"year": year, "low": low, "high": high, "middle": forecast.middle if inside else None}


def _forecasts(foretold: Sequence[Foretold], inner: bool) -> Panel:
    farthest = max(one.year - one.origin for one in foretold)
    x = Axis("Years ahead", 0.3, farthest + 0.7, tuple(range(1, farthest + 1)), None, horizontal=True)
    y = log_axis("Forecast over listed", [1 / FARTHEST, FARTHEST])
    y = Axis(None if inner else y.title, y.low, y.high, (0.1, 1, 10), y.base, labelled=not inner)
    rows = [{"ahead": one.year - one.origin, "factor": one.factor} for one in foretold]
    told = [{**row, "factor": min(max(row["factor"], y.low), y.high)} for row in rows if row["factor"] > 0]
    none = [row for row in rows if row["factor"] <= 0]
    xs = x.x("ahead", "d")
    level = alt.Chart(inline([{"left": x.low, "right": x.high, "factor": 1.0}])).mark_rule(
        color=GRID, strokeWidth=1.2
    )
    layers = [level.encode(x.x("left", "d"), y.y("factor"), alt.X2("right:Q"))]
    if told:
        points = alt.Chart(inline(told)).mark_point(filled=True, size=12, color=LINE, opacity=1)
        layers.append(points.encode(xs, y.y("factor")))
    if none:
        marks = alt.Chart(inline(none)).mark_point(
            filled=True, shape="cross", angle=45, size=22, color=LINE, opacity=1
        )
        layers.append(marks.encode(xs, y=alt.value(HEIGHT - 5)))
    return overlay(layers, WIDTH, HEIGHT)
