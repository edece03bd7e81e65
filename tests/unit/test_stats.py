"""Statistics, against their definitions and scipy; how often intervals cover is in test_coverage.py."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepgap.stats import (
    Ratio,
    median_coverage,
    median_interval,
    minimum_samples,
    paired_ratio,
    tail_quantile,
    tails_agree,
    unpaired_ratio,
    wilson,
)

positive = st.floats(min_value=0.1, max_value=1000)


def chance_of_at_most(successes: int, count: int) -> float:
    return sum(comb(count, k) for k in range(successes + 1)) / 2**count


@pytest.mark.parametrize(
    ("count", "ends", "coverage"),
    [(6, (1, 6), 0.969), (7, (1, 7), 0.984), (8, (1, 8), 0.992), (9, (2, 8), 0.961), (10, (2, 9), 0.979)],
)
def test_the_interval_of_a_median_lies_between_these_order_statistics(count, ends, coverage):
    values = np.random.default_rng(count).permutation(count) + 1.0
    assert median_interval(values) == ends
    assert median_coverage(count) == pytest.approx(coverage, abs=5e-4)


@pytest.mark.parametrize("count", range(6))
def test_below_six_sweeps_there_is_no_interval(count):
    assert median_interval(np.ones(count)) is None and median_coverage(count) is None
    assert paired_ratio(np.ones(max(count, 1)), np.ones(max(count, 1))).low is None
    assert unpaired_ratio(np.ones(9), np.ones(max(count, 1))).low is None


@settings(deadline=None)
@given(st.integers(6, 120))
def test_the_interval_is_the_narrowest_of_its_kind_that_covers(count):
    low, high = median_interval(np.random.default_rng(count).permutation(count) + 1.0)
    enough = [rank for rank in range(1, count) if chance_of_at_most(rank - 1, count) <= 0.025]
    assert (low, high) == (enough[-1], count + 1 - enough[-1])
    assert median_coverage(count) == pytest.approx(1 - 2 * chance_of_at_most(enough[-1] - 1, count))


def test_several_families_at_once_are_those_one_by_one():
    values = np.random.default_rng(0).lognormal(size=(3, 4, 9))
    low, high = median_interval(values)
    assert low.shape == high.shape == (3, 4)
    assert (low[1, 2], high[1, 2]) == median_interval(values[1, 2])


@given(st.lists(st.tuples(positive, positive), min_size=6, max_size=10))
def test_a_paired_ratio_is_the_median_of_the_logarithms_of_its_pairs(pairs):
    top, bottom = np.array(pairs).T
    found = paired_ratio(top, bottom)
    low, high = np.exp(median_interval(np.log(top / bottom)))
    assert found.ratio == pytest.approx(np.exp(np.median(np.log(top) - np.log(bottom))))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.low <= found.ratio * (1 + 1e-12) and found.ratio <= found.high * (1 + 1e-12)
    turned = paired_ratio(bottom, top)
    assert (turned.ratio, turned.low, turned.high) == pytest.approx((1 / found.ratio, 1 / high, 1 / low))


def test_what_a_block_shares_is_not_in_a_paired_ratio():
    block = np.array([1.0, 1.3, 0.8, 1.1, 0.9, 1.2])
    paired, unpaired = paired_ratio(2 * block, block), unpaired_ratio(2 * block, block)
    assert (paired.ratio, paired.low, paired.high, paired.paired) == pytest.approx((2, 2, 2, True))
    assert unpaired.ratio == pytest.approx(2) and not unpaired.paired
    assert (unpaired.low, unpaired.high) == pytest.approx((1.6 / 1.3, 2.6 / 0.8))


def test_ratios_that_touch_one_cannot_be_told_apart():
    assert Ratio(1.01, 0.99, 1.02, 6, paired=True).touches_one
    assert not Ratio(1.02, 1.01, 1.03, 6, paired=True).touches_one
    assert not Ratio(1.0, None, None, 5, paired=True).touches_one


def test_wilson_agrees_with_its_formula():
    low, high = wilson(254, 256)
    z, p, n = 1.959963984540054, 254 / 256, 256
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert (low, high) == pytest.approx(((middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)))
    assert wilson(256, 256)[1] == 1.0


@pytest.mark.parametrize(
    ("quantile", "samples"), [(0.5, 11), (0.9, 64), (0.95, 130), (0.97, 219), (0.99, 662), (0.999, 6636)]
)
def test_minimum_samples_are_those_of_the_early_stopping_rule(quantile, samples):
    assert minimum_samples(quantile) == samples


def test_a_percentile_of_too_few_calls_is_absent():
    assert tail_quantile(np.arange(99.0)) is None
    assert tail_quantile(np.arange(100.0)) == pytest.approx(98.01)


def test_processes_agree_on_a_tail_or_they_do_not():
    assert tails_agree(np.array([1.0, 1.02, 1.05]))
    assert not tails_agree(np.array([1.0, 1.02, 1.06]))
    assert not tails_agree(np.array([1.0]))
