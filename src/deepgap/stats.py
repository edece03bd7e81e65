"""Statistics of families: one value a sweep, which is one process, and exact intervals over these values.

Runs inside a process share a context, allocations and the choice of algorithms, so that they say little more than one
run does. A family's values are therefore one a sweep. Where an array has more axes than one, the sweeps are the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats: TypeAlias = NDArray[np.float64]
Ends: TypeAlias = tuple[Any, Any]
"""The lower and the upper end of intervals: two floats for one family, two arrays for several."""

CONFIDENCE = 0.95
TAIL = 0.99
FEWEST_TAIL_CALLS = 100
"""The fewest calls of a process whose 99th percentile is not just its slowest call."""

TAIL_AGREEMENT = 1.05
"""Processes agree on a 99th percentile where the highest is at most this many times the lowest."""


@cache
def median_rank(count: int) -> int:
    """The rank, from 1, of the lower end of `median_interval` among `count` values; 0 where there is no interval.

    The largest l for which fewer than l values lie below the median with a probability of at most 2.5 %.
    """
    return int(stats.binom.ppf((1 - CONFIDENCE) / 2, count, 0.5)) if count else 0


def median_coverage(count: int) -> float | None:
    """The coverage of `median_interval` over `count` values: 0.969 for 6, 0.961 for 9; None below six.

    For values of any continuous distribution. Values of several cards have several distributions: then the median of
    their equal mixture is covered at least as often, because a count of successes with unequal chances is less spread
    than a binomial one (Hoeffding, Ann. Math. Stat. 27, 1956). Cards that were not measured are not covered.
    """
    rank = median_rank(count)
    return 1 - 2 * float(stats.binom.cdf(rank - 1, count, 0.5)) if rank else None


def median_interval(values: Floats) -> Ends | None:
    """Interval of the median, at least 95 %, between two order statistics of equal distance from the ends.

    [smallest, largest] of 6 to 8 values, [2nd, 8th] of 9, [2nd, 9th] of 10 (David and Nagaraja, Order Statistics, 3rd
    ed., section 7.1). None below six values, where not even the range covers 95 %.

    Args:
        values: shape (..., sweeps), independent.
    """
    rank = median_rank(values.shape[-1])
    if rank == 0:
        return None
    ordered = np.sort(values, axis=-1)
    return ordered[..., rank - 1], ordered[..., -rank]


@dataclass(frozen=True)
class Ratio:
    """A ratio of two families with its interval, at least 95 %; low and high are None below six values.

    values: pairs of sweeps where it is paired, else the fewer of the two families' sweeps.
    """

    ratio: float
    low: float | None
    high: float | None
    values: int
    paired: bool

    @property
    def touches_one(self) -> bool:
        """Whether the data cannot tell the two families apart; never without an interval."""
        return self.low is not None and self.high is not None and self.low <= 1 <= self.high


def paired_ends(numerator: Floats, denominator: Floats) -> Ends | None:
    """`median_interval` of the ratios of pairs, both of shape (..., sweeps); the same on logarithms, whose order it
    is."""
    return median_interval(numerator / denominator)


def unpaired_ends(numerator: Floats, denominator: Floats) -> Ends | None:
    """Interval of the ratio of two medians from values that are no pairs, of shapes (..., n) and (..., m).

    From the lower end of one `median_interval` over the upper end of the other, and so on. It covers wherever both
    do, whatever the two distributions; one that is exact for a mere shift (Hodges and Lehmann's, by Mann and
    Whitney's statistic) covered 0.91 to 0.93 in the simulation of tests/unit/test_coverage.py when the spreads
    differed. None where either family has no interval.
    """
    top, bottom = median_interval(numerator), median_interval(denominator)
    return None if top is None or bottom is None else (top[0] / bottom[1], top[1] / bottom[0])


def paired_ratio(numerator: Floats, denominator: Floats) -> Ratio:
    """The median of the ratios of pairs, each of one block, by their logarithms: both of shape (sweeps,)."""
    middle = float(np.exp(np.median(np.log(numerator / denominator))))
    return _ratio(middle, paired_ends(numerator, denominator), len(numerator), paired=True)


def unpaired_ratio(numerator: Floats, denominator: Floats) -> Ratio:
    """The ratio of the medians of two families without common blocks, of shapes (n,) and (m,)."""
    middle = float(np.median(numerator) / np.median(denominator))
    fewer = min(len(numerator), len(denominator))
    return _ratio(middle, unpaired_ends(numerator, denominator), fewer, paired=False)


def _ratio(middle: float, ends: Ends | None, values: int, paired: bool) -> Ratio:
    low, high = (None, None) if ends is None else (float(ends[0]), float(ends[1]))
    return Ratio(middle, low, high, values, paired)


def wilson(successes: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (J. Am. Stat. Assoc. 22, 1927).

    It covers 95 % on the average over shares, and less for some shares within 1 / count of 0 or 1 (Brown, Cai and
    DasGupta, Stat. Sci. 16, 2001).
    """
    interval = stats.binomtest(successes, count).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


@cache
def minimum_samples(quantile: float, confidence: float = 0.99) -> int:
    """The fewest independent samples that give a percentile its right to be stated.

    The smallest n for which at most one of n samples lies above the true quantile with a probability of no more
    than 1 - confidence (MLPerf Inference, LoadGen's early stopping, re-derived): 11 for p50, 64 for p90, 662 for
    p99 at 99 %. The calls of a process are autocorrelated, so no percentile here is stated by it.
    """
    samples = 2
    while stats.binom.cdf(1, samples, 1 - quantile) > 1 - confidence:
        samples += 1
    return samples


def tail_quantile(times: Floats) -> float | None:
    """The 99th percentile of one process's calls, shape (calls,); None below `FEWEST_TAIL_CALLS`."""
    return float(np.quantile(times, TAIL)) if len(times) >= FEWEST_TAIL_CALLS else None


def tails_agree(tails: Floats) -> bool:
    """Whether at least two processes have 99th percentiles, shape (processes,), that may be told as one."""
    return len(tails) > 1 and bool(np.max(tails) <= TAIL_AGREEMENT * np.min(tails))
