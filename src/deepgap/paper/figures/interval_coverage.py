"""How often intervals hold what they claim to, simulated and in the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from deepgap.analyse.coverage import INTERVALS, Trial, simulate, try_on_data
from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import Axis
from deepgap.paper.charts.layout import APART, inline, overlay
from deepgap.paper.charts.legend import Entry, draw_legend
from deepgap.paper.charts.theme import COLUMN_WIDTH, CONFIG, INK, QUIET
from deepgap.paper.figures.generations import lines_axis

SHOWS = ("measured",)
CAPTION = (
    "How often an interval that says 95 % holds what it is about. Circles: simulated, whether it holds the true "
    "median over processes, of 20,000 families whose processes differ by a standard deviation of 0.76 % and the "
    "runs of one process by 0.20 %, as those of 270 families of an H200 did; calls of a process differ by 1 %. "
    "Diamonds: in the data, whether an interval over some processes of a family that the device bounds holds the "
    "median latency of its other processes, over all choices of them; that target is uncertain itself, so that even "
    "an exact interval holds it less often, and the crosses are how often in the simulation. Without a diamond no "
    "family has processes to spare. Only the last interval, of order statistics, presumes nothing of the shape of "
    "the distribution."
)

NAMES_WIDTH = 120
LINE = 13
SWEEPS = 6
"""Of a family, as in the study."""
SIMULATED = Entry("simulated: the true median", INK, "circle", size=26)
OTHERS = Entry("simulated: the other processes", QUIET, "cross", size=24, angle=45)
DATA = Entry("data: the other processes", "#d55e00", "diamond", size=30)
CLAIMED = Entry("as claimed, 95 %", QUIET, dash=(4, 2), stroke_width=0.8)


def draw(summary: Summary) -> alt.VConcatChart:
    """A line an interval, percent to the right."""
    rows = [trial_row("simulated", simulate(interval)) for interval in INTERVALS]
    tried = [trial for interval in INTERVALS if (trial := try_on_data(summary, interval))]
    rows += [trial_row("data", trial) for trial in tried]
    rows += [trial_row("others", simulate(trial.interval, SWEEPS - trial.interval.sweeps)) for trial in tried]
    width = COLUMN_WIDTH - NAMES_WIDTH - 6
    x = Axis("Coverage (%)", 0, 104, (0, 25, 50, 75, 100), None, horizontal=True)
    y = lines_axis([interval.label for interval in INTERVALS], labelled=True, width=NAMES_WIDTH)
    claimed = alt.Chart(inline([{"percent": 95.0}])).mark_rule(
        color=CLAIMED.colour, strokeWidth=CLAIMED.stroke_width, strokeDash=list(CLAIMED.dash or ())
    )
    layers = [claimed.encode(x.x("percent"))]
    for kind, look in (("simulated", SIMULATED), ("others", OTHERS), ("data", DATA)):
        if some := [row for row in rows if row["kind"] == kind]:
            layers.append(_marks(some, look).encode(x.x("percent"), y))
    entries = [SIMULATED, *([OTHERS, DATA] if tried else []), CLAIMED]
    panel = overlay(layers, width, LINE * len(INTERVALS))
    return alt.vconcat(draw_legend(entries, width), panel, spacing=5, resolve=APART, config=CONFIG)


def trial_row(kind: str, trial: Trial) -> dict[str, Any]:
    counts = {"tries": trial.tries, "families": trial.families}
    return {"kind": kind, "name": trial.interval.label, "percent": 100 * trial.share, **counts}


def _marks(rows: Sequence[dict[str, Any]], look: Entry) -> alt.Chart:
    chart: alt.Chart = alt.Chart(inline(rows)).mark_point(
        filled=True, shape=look.shape or "circle", size=look.size, angle=look.angle, color=look.colour, opacity=1
    )
    return chart
