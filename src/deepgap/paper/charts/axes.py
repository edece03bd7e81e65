"""The axes that figures share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil, floor, log, log10, sqrt
from typing import Any

import altair as alt

from deepgap.analyse.schemas import MEASURED
from deepgap.analyse.summary import Summary
from deepgap.paper.charts.layout import (
    LABEL_EXTENT,
    Place,
    Row,
)
from deepgap.published.values import sweep_batch_sizes


@dataclass(frozen=True)
class Axis:
    """One axis: its range and ticks in the unit of its title. `base` is that of a logarithm, None is
    linear."""

    title: str | tuple[str, ...] | None
    """Several strings are lines."""
    low: float
    high: float
    ticks: tuple[float, ...]
    base: int | None
    horizontal: bool = False
    labelled: bool = True
    label_ticks: tuple[float, ...] | None = None
    """The ticks that have a label, where not all have one."""

    def x(self, field: str, form: str = "~s") -> alt.X:
        return alt.X(f"{field}:Q", title=self._title(), scale=self._scale(), axis=self._axis(form))

    def y(self, field: str, form: str = "~s") -> alt.Y:
        """The vertical channel; its labels take a fixed width, so that the panels of all rows stand in
        line."""
        extent = LABEL_EXTENT if self.labelled else 0
        axis = self._axis(form, minExtent=extent, maxExtent=extent)
        return alt.Y(f"{field}:Q", title=self._title(), scale=self._scale(), axis=axis)

    def _title(self) -> str | list[str] | None:
        return list(self.title) if isinstance(self.title, tuple) else self.title

    def _scale(self) -> alt.Scale:
        kind: dict[str, Any] = {"type": "linear"} if self.base is None else {"type": "log", "base": self.base}
        return alt.Scale(domain=[self.low, self.high], nice=False, zero=False, **kind)

    def share(self, value: float) -> float:
        """How far along the axis a value stands: 0 is its low end, 1 its high one."""
        if self.base is None:
            return (value - self.low) / (self.high - self.low)
        return log(value / self.low) / log(self.high / self.low)

    def _axis(self, form: str, **options: Any) -> alt.Axis:
        if self.label_ticks is not None:
            options["labelExpr"] = f"indexof({list(self.label_ticks)}, datum.value) >= 0 ? datum.label : ''"
        elif form == "~s":
            # 1k is shorter than 1000; below one it would write 0.5 as 500m.
            options["labelExpr"] = "abs(datum.value) < 1 ? format(datum.value, '~g') : datum.label"
        return alt.Axis(
            values=list(self.ticks),
            format=form,
            labels=self.labelled,
            labelOverlap="greedy",
            labelSeparation=1,
            **options,
        )

    def silent(self) -> Axis:
        """The same axis without words: one below has them."""
        return replace(self, title=None, labelled=False)

    def at(self, place: Place) -> Axis:
        """The same axis without the words that a panel beside or below has: y without labels, x without a
        title."""
        if self.horizontal:
            return self if place.bottom else replace(self, title=None)
        return replace(self, title=None, labelled=False) if place.inner else self


def batch_axis(summary: Summary, rows: Iterable[Row], gpu: str) -> Axis:
    """Batch sizes on a binary logarithm: one range for all GPUs, one for all processors; a tick at each of `gpu`.

    A GPU without measured cells has the ticks of the published sweep.
    """
    sweep = sweep_batch_sizes(summary.published)
    same = [
        row
        for row in rows
        if summary.is_processor(row["gpu"]) == summary.is_processor(gpu) and row["batch_size"] is not None
    ]
    own = {row["batch_size"] for row in same if row["gpu"] == gpu and row["source"] == MEASURED}
    ticks = tuple(sorted(own or set(sweep)))
    known = [*ticks, *(row["batch_size"] for row in same)]
    powers = tuple(tick for tick in ticks if tick & (tick - 1) == 0)
    return Axis(
        "Batch size (images)",
        min(known) / 1.25,
        max(known) * 1.25,
        ticks,
        base=2,
        horizontal=True,
        label_ticks=powers or ticks,
    )


def log_axis(title: str, values: Iterable[float | None], horizontal: bool = False) -> Axis:
    """Positive values on a decimal logarithm: ticks at 1, 2 and 5 of each decade, or at decades where these
    are many."""
    known = [value for value in values if value is not None]
    centre, half = sqrt(min(known) * max(known)), max(sqrt(max(known) / min(known)), 2.0)
    half *= 1.15 * half**0.12
    low, high = centre / half, centre * half
    # A label in the last twentieth would stick out of the panel and push its title up.
    last = high / (high / low) ** 0.05
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    fine, coarse = (
        tuple(t for decade in decades for step in steps if low <= (t := float(f"{step}e{decade}")) <= last)
        for steps in ((1, 2, 5), (1,))
    )
    return Axis(title, low, high, fine if len(fine) <= 6 else coarse, 10, horizontal)


def zero_axis(
    title: str | tuple[str, ...], values: Iterable[float | None], intervals: float = 5.5, horizontal: bool = False
) -> Axis:
    """Values on a linear axis that starts at zero, with ticks for this many intervals at most."""
    high = max(value for value in values if value is not None) * 1.08
    step = next(step for step in _steps() if high / step <= intervals)
    return Axis(title, 0, high, tuple(step * index for index in range(int(high / step) + 1)), None, horizontal)


def _steps() -> Iterable[float]:
    return (float(f"{step}e{decade}") for decade in range(-3, 7) for step in (1, 2, 5))
