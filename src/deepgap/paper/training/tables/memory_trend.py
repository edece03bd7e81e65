"""What five forms of the memory's growth say, and how their forecasts did."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np

from deepgap.analyse.memory_trend import FEWEST, FORMS, Floats, Foretold, aicc, back_test, first_fall, year_of
from deepgap.analyse.training.summary import TrainingSummary
from deepgap.paper.latex import Latex, number, rounded

AHEAD = 2030
TARGET_GB = 1000.0
LAST = 2060
"""The last year in which the target is looked for."""
NEAR = 2
"""The most years ahead of a near forecast."""


def context(summary: TrainingSummary) -> dict[str, Any]:
    """A row a form.

    Returns:
        rows: with form, parameters, delta (AICc less the least), falls (first year below the one before), near and
            far (median factor by which forecasts were off), covered, count and none (forecasts of no memory or less),
            middle, low and high (GB in `AHEAD`), reached (the first year with `TARGET_GB`).
        cards, first, last, ahead, near: what they are from.
    """
    largest = summary.largest_memory
    if largest.height <= FEWEST:
        return {"rows": []}
    years, gb = summary.memory_by_year
    rows = _rows(years, gb)
    least = min(row["aicc"] for row in rows)
    return {
        "rows": [
            {**row, "delta": rounded(row["aicc"] - least, 3) if row["aicc"] > least else number(0)} for row in rows
        ],
        "values": largest.height,
        "first": int(years[0]),
        "last": int(years[-1]),
        "ahead": AHEAD,
        "near": NEAR,
    }


def _rows(years: Floats, gb: Floats) -> list[dict[str, Any]]:
    foretold = back_test(years, gb)
    rows = []
    for name, form in FORMS.items():
        fit, own = form(years, gb), [one for one in foretold if one.form == name]
        ahead = fit.at(AHEAD)
        rows.append(
            {
                "form": name,
                "parameters": fit.parameters,
                "aicc": aicc(fit, len(gb)),
                "falls": first_fall(fit, int(years[0]), AHEAD),
                "near": _off([one for one in own if one.year - one.origin <= NEAR]),
                "far": _off([one for one in own if one.year - one.origin > NEAR]),
                "covered": sum(one.covered for one in own),
                "count": len(own),
                "none": sum(one.factor <= 0 for one in own),
                "middle": _size(ahead.middle),
                "low": _size(ahead.low),
                "high": _size(ahead.high),
                "reached": year_of(fit, TARGET_GB, int(years[-1]), LAST),
            }
        )
    return rows


def _off(foretold: Sequence[Foretold]) -> Latex:
    """The median factor by which forecasts were off; a dash where there are none."""
    errors = [one.error for one in foretold]
    return rounded(None) if not errors else _size(float(np.median(errors)))


def _size(value: float) -> Latex:
    return rounded(value, 3) if isfinite(value) else Latex(r"$\infty$")
