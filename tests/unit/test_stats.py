"""Statistics, against published tables, brute force and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from deepgap.stats import median_interval, minimum_samples, percentile, percentile_note, ratio_interval, run_interval

values = st.floats(min_value=0.1, max_value=1000)


@pytest.mark.parametrize(
    ("quantile", "samples"), [(0.5, 11), (0.9, 64), (0.95, 130), (0.97, 219), (0.99, 662), (0.999, 6636)]
)
def test_minimum_samples_are_those_of_the_early_stopping_rule(quantile, samples):
    assert minimum_samples(quantile) == samples


@given(st.sampled_from([0.5, 0.9, 0.95, 0.97]))
def test_minimum_samples_is_the_first_that_suffices(quantile):
    def chance_of_at_most_one_above(count: int) -> float:
        return quantile**count + count * (1 - quantile) * quantile ** (count - 1)

    count = minimum_samples(quantile)
    assert chance_of_at_most_one_above(count) <= 0.01 < chance_of_at_most_one_above(count - 1)


def test_a_percentile_without_enough_samples_is_absent_with_its_reason():
    samples = np.arange(661.0)
    assert percentile(samples, 0.99) is None
    assert percentile(samples, 0.95) == pytest.approx(np.quantile(samples, 0.95))
    assert percentile_note(661, [0.95, 0.99]) == "661 samples: p99 needs 662"
    assert percentile_note(662, [0.95, 0.99]) is None


@given(st.lists(st.lists(values, min_size=4, max_size=4), min_size=3, max_size=6))
def test_the_median_interval_holds_the_pooled_medians_it_is_made_of(runs):
    arrays = [np.array(run) for run in runs]
    low, high = median_interval(arrays)
    single = [float(np.median(run)) for run in arrays]
    assert min(single) * (1 - 1e-9) <= low <= high <= max(single) * (1 + 1e-9)


@given(st.lists(values, min_size=3, max_size=8))
def test_the_run_interval_agrees_with_scipy(runs):
    array = np.array(runs)
    expected = reference.bootstrap(
        (array,), np.median, n_resamples=1000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert run_interval(array) == pytest.approx((expected.low, expected.high))


def test_runs_are_the_unit_not_calls():
    """A thousand calls in each of three runs that disagree do not make a narrow interval."""
    noise = np.random.default_rng(1)
    runs = [noise.normal(level, 0.01, 1000) for level in (10, 11, 12)]
    low, high = median_interval(runs)
    assert high - low > 1.5


def test_fewer_than_three_runs_have_no_interval():
    assert median_interval([np.ones(5), np.ones(5)]) is None
    assert run_interval(np.ones(2)) is None
    assert ratio_interval(np.ones(9), np.ones(2)) is None


@given(st.lists(values, min_size=3, max_size=6), st.lists(values, min_size=3, max_size=6))
def test_a_ratio_interval_stays_between_the_extreme_ratios(top, bottom):
    low, high = ratio_interval(np.array(top), np.array(bottom))
    assert min(top) / max(bottom) <= low * (1 + 1e-9)
    assert low <= high <= max(top) / min(bottom) * (1 + 1e-9)
