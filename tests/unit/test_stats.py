"""Statistics, against published tables, brute force and scipy."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from deepgap.stats import (
    RESAMPLES,
    median_interval,
    median_rank_interval,
    minimum_samples,
    percentile,
    percentile_bound,
    percentile_note,
    ratio_interval,
    run_interval,
)

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


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(1, 20).map(float), min_size=1, max_size=7), min_size=3, max_size=6))
def test_the_median_interval_of_unequal_runs_agrees_with_pooling_every_draw(runs):
    arrays = [np.array(run) for run in runs]
    expected = reference.bootstrap(
        (np.arange(len(runs)),),
        lambda drawn: np.median(np.concatenate([arrays[i] for i in drawn])),
        n_resamples=RESAMPLES,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert median_interval(arrays) == pytest.approx((expected.low, expected.high))


def test_a_longer_run_weighs_more():
    short, long = [np.full(5, 1.0)] * 3, np.full(100, 2.0)
    assert median_interval([*short, long])[1] == 2.0
    assert median_interval([*short, np.full(2, 2.0)])[0] == 1.0


@given(st.lists(st.lists(values, min_size=1, max_size=5), min_size=3, max_size=6))
def test_the_median_interval_holds_the_pooled_medians_it_is_made_of(runs):
    arrays = [np.array(run) for run in runs]
    low, high = median_interval(arrays)
    pooled = np.concatenate(arrays)
    # scipy interpolates between draws, which can err in the last bit.
    assert pooled.min() * (1 - 1e-9) <= low <= high <= pooled.max() * (1 + 1e-9)


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


def chance_of_at_most(successes: int, count: int, chance: float) -> float:
    return sum(comb(count, k) * chance**k * (1 - chance) ** (count - k) for k in range(successes + 1))


@settings(deadline=None)
@given(st.integers(1, 150), st.sampled_from([0.5, 0.9, 0.95, 0.99]), st.sampled_from([0.9, 0.99]))
def test_the_percentile_bound_is_the_first_order_statistic_with_the_confidence(count, quantile, confidence):
    samples = np.random.default_rng(count).permutation(count).astype(float)
    # The k-th smallest is not below the quantile when at most k - 1 of the samples are.
    enough = [k for k in range(1, count + 1) if chance_of_at_most(k - 1, count, quantile) >= confidence]
    assert percentile_bound(samples, quantile, confidence) == (enough[0] - 1 if enough else None)


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.95, 0.97, 0.99, 0.999])
def test_the_samples_that_carry_a_percentile_bound_it_below_their_largest(quantile):
    samples = np.arange(float(minimum_samples(quantile)))
    assert percentile(samples, quantile) <= percentile_bound(samples, quantile) < samples[-1]


def test_the_percentile_bound_holds_as_often_as_it_says():
    draws = np.random.default_rng(2).exponential(size=(2000, 700))
    held = np.mean([percentile_bound(draw, 0.99) >= -np.log(0.01) for draw in draws])
    assert 0.985 <= held <= 1


@given(st.integers(1, 120))
def test_the_rank_interval_is_the_narrowest_of_its_kind_that_covers(count):
    interval = median_rank_interval(np.random.default_rng(count).permutation(count).astype(float))
    enough = [rank for rank in range(1, count) if chance_of_at_most(rank - 1, count, 0.5) <= 0.025]
    assert interval == ((enough[-1] - 1, count - enough[-1]) if enough else None)


@pytest.mark.parametrize("count", [6, 25, 74, 300])
def test_the_rank_interval_covers_the_median(count):
    draws = np.random.default_rng(3).lognormal(size=(2000, count))
    covered = np.mean([low <= 1 <= high for low, high in map(median_rank_interval, draws)])
    assert 0.94 <= covered <= 0.985
