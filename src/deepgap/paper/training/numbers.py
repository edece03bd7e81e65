"""The numbers of the second paper's prose, as LaTeX macros; see `deepgap.paper.numbers`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite

import numpy as np

from deepgap.analyse.memory_trend import FEWEST, FORMS, LinearFit, LogisticFit, back_test, doubling_years
from deepgap.analyse.training.summary import TrainingSummary
from deepgap.paper.latex import Latex, escape, number, rounded
from deepgap.paper.numbers import caption_texts
from deepgap.paper.numbers.macro import NOT_AVAILABLE, Number, macro_name
from deepgap.published.audit.evidence import FAILS, HOLDS, OPEN, PARTLY
from deepgap.published.audit.training import audit_training

AHEAD = 2030
DIGITS = 3


def write_numbers(summary: TrainingSummary, captions: Mapping[str, str]) -> str:
    """The content of numbers.tex, in a fixed order. `captions`: of the figures, by name."""
    numbers = [*_measured(summary), *_trend(summary), *_audit(summary), *caption_texts(captions)]
    return "".join(f"\\newcommand{{\\{item.name}}}{{{item.text}}} % {item.rows}\n" for item in numbers)


def _measured(summary: TrainingSummary) -> Iterator[Number]:
    """How many cells there are, and of which devices."""
    devices = summary.devices
    listed = " and ".join([", ".join(devices[:-1]), devices[-1]] if len(devices) > 1 else devices) or "no device"
    yield Number("TrainingCells", number(summary.cells.height), "cells: all rows")
    yield Number("TrainingDevices", escape(listed), "cells: gpu")


def _trend(summary: TrainingSummary) -> Iterator[Number]:
    """What is listed, how fast it doubles, and what the forms say of `AHEAD`; n/a where years are too few."""
    years = summary.memory_by_year[0]
    rows = "gpu_memory: all rows"
    yield Number("TrendCards", number(summary.gpu_memory.height), rows)
    yield Number("TrendYears", number(len(years)), "gpu_memory: years")
    largest = summary.largest_memory.to_dicts()[-1:]
    yield Number("TrendLargest", rounded(largest[0]["memory_gb"], 4) if largest else NOT_AVAILABLE, rows)
    yield Number("TrendLargestCard", escape(largest[0]["gpu"]) if largest else NOT_AVAILABLE, rows)
    found = list(_fitted(summary)) if len(years) > FEWEST else []
    known = {item.name: item for item in found}
    for name in NAMES:
        yield known.get(name, Number(name, NOT_AVAILABLE, "too few years"))


def _fitted(summary: TrainingSummary) -> Iterator[Number]:
    years, gb = summary.memory_by_year
    exponential, logistic = FORMS["exponential"](years, gb), LogisticFit(years, gb)
    assert isinstance(exponential, LinearFit)
    source = "deepgap.analyse.memory_trend"
    ends = zip(("", "Low", "High"), doubling_years(exponential), strict=True)
    yield from (Number(f"TrendDoubling{end}", _size(value), f"{source}, doubling_years") for end, value in ends)
    forecast = exponential.at(AHEAD)
    ends = zip(("", "Low", "High"), (forecast.middle, forecast.low, forecast.high), strict=True)
    yield from (Number(f"TrendAhead{end}", _size(value), f"{source}, exponential in {AHEAD}") for end, value in ends)
    yield Number("TrendCeilingLow", _size(logistic.ceiling[1]), f"{source}, ceiling of the logistic")
    foretold = back_test(years, gb)
    for form in FORMS:
        own = [one for one in foretold if one.form == form]
        off = float(np.median([one.error for one in own]))
        yield Number(macro_name("TrendOff", form.replace(" ", "-")), _size(off), f"{source}, back_test of {form}")
    yield Number("TrendForecasts", number(len(foretold) // len(FORMS)), f"{source}, back_test, of a form")


NAMES = (
    *(f"Trend{what}{end}" for what in ("Doubling", "Ahead") for end in ("", "Low", "High")),
    "TrendCeilingLow",
    *(macro_name("TrendOff", form.replace(" ", "-")) for form in FORMS),
    "TrendForecasts",
)


def _size(value: float) -> Latex:
    return rounded(value, DIGITS) if isfinite(value) else Latex(r"$\infty$")


def _audit(summary: TrainingSummary) -> Iterator[Number]:
    verdicts = [finding.verdict for finding in audit_training(summary.published, summary.gpu_memory, summary.gpus)]
    yield Number("AuditFindings", number(len(verdicts)), "audit: all findings")
    names = {"AuditHolds": HOLDS, "AuditPartly": PARTLY, "AuditFails": FAILS, "AuditOpen": OPEN}
    for name, verdict in names.items():
        yield Number(name, number(verdicts.count(verdict)), f"audit: verdict '{verdict}'")
