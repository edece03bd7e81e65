"""How often intervals hold their target, simulated and on families of known values."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from deepgap.analyse.coverage import INTERVALS, Interval, simulate, try_on_data
from deepgap.stats import median_coverage
from tests.unit.synthetic import full_summary, synthetic_family, synthetic_summary

BY_LABEL = {interval.label: interval for interval in INTERVALS}


def test_an_exact_interval_covers_what_it_says_and_pooled_runs_do_not() -> None:
    exact = BY_LABEL["6 processes, lowest to highest"]
    assert simulate(exact).share == pytest.approx(median_coverage(6), abs=0.01)
    assert simulate(BY_LABEL["3 processes, t over 3"]).share == pytest.approx(0.95, abs=0.01)
    assert simulate(BY_LABEL["3 processes, bootstrap"]).share == pytest.approx(0.75, abs=0.01)
    assert simulate(BY_LABEL["3 runs of 3 processes, t over 9"]).share < 0.8
    assert simulate(BY_LABEL["calls of 1 process, t"]).share < 0.2
    assert simulate(exact) == simulate(exact)


def test_the_range_of_some_holds_the_median_of_the_others_as_often_as_their_order_says() -> None:
    """The six values of a synthetic family are distinct, so the share follows from counting alone."""
    summary = synthetic_summary([synthetic_family("H200", "resnet18", "eager-fp32", 8)])
    values = pl.Series([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    runs = summary.runs.sort("sweep").with_columns(mean_ms=values, std_ms=pl.lit(0.01))
    trial = try_on_data(replace(summary, runs=runs), Interval("", "range", 5))
    assert trial is not None and (trial.tries, trial.families) == (6, 1)
    assert trial.share == pytest.approx(4 / 6), "neither the lowest nor the highest lies within the others"


def test_families_without_sweeps_to_spare_and_those_bound_by_launches_do_not_count() -> None:
    summary = full_summary()
    runs = summary.runs.with_columns(mean_ms="median_ms", std_ms=pl.col("median_ms") * 0.01)
    timed = replace(summary, runs=runs)
    assert try_on_data(timed, BY_LABEL["6 processes, lowest to highest"]) is None
    assert try_on_data(timed, BY_LABEL["3 runs of 3 processes, t over 9"]) is None
    bound = replace(timed, families=summary.families.with_columns(launch_bound=pl.lit(True)))
    assert try_on_data(timed, BY_LABEL["calls of 1 process, t"]) is not None
    assert try_on_data(bound, BY_LABEL["calls of 1 process, t"]) is None
