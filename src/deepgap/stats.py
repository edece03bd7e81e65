"""Statistics over the runs of a cell family. The run, not the call, is the unit of every interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats: TypeAlias = NDArray[np.float64]

MINIMUM_RUNS = 3
RESAMPLES = 1000
SEED = 0


@cache
def minimum_samples(quantile: float, confidence: float = 0.99) -> int:
    """The fewest samples that give a percentile its right to be stated.

    The smallest n for which at most one of n samples lies above the true quantile with a probability of no more
    than 1 - confidence (MLPerf Inference, LoadGen's early stopping, re-derived): 11 for p50, 64 for p90, 662 for
    p99 at 99 %.
    """
    samples = 2
    while stats.binom.cdf(1, samples, 1 - quantile) > 1 - confidence:
        samples += 1
    return samples


def percentile(samples: Floats, quantile: float) -> float | None:
    """The empirical quantile of `samples`, shape (n,), or None where n is below `minimum_samples`."""
    if len(samples) < minimum_samples(quantile):
        return None
    return float(np.quantile(samples, quantile))


def percentile_note(count: int, quantiles: Sequence[float]) -> str | None:
    """Which of the quantiles `count` samples cannot carry, and why; None when they carry all."""
    absent = [f"p{100 * q:g} needs {minimum_samples(q)}" for q in quantiles if count < minimum_samples(q)]
    return f"{count} samples: {', '.join(absent)}" if absent else None


def percentile_bound(samples: Floats, quantile: float, confidence: float = 0.99) -> float | None:
    """Upper confidence bound of a quantile: the smallest of `samples`, shape (n,), that lies at or above the true
    quantile with this confidence, whatever the distribution.

    The k-th smallest does so unless k or more samples lie below the quantile, a binomial count (David and Nagaraja,
    Order Statistics, 3rd ed., section 7.1). None where even the largest sample gives less confidence.
    """
    count = len(samples)
    below = int(stats.binom.ppf(confidence, count, quantile))
    if count == 0 or below >= count:
        return None
    return float(np.partition(samples, below)[below])


def median_rank_interval(samples: Floats) -> tuple[float, float] | None:
    """95 % interval of the median of independent samples, shape (n,), whatever their distribution.

    Between two order statistics of ranks l and n + 1 - l, with the largest l for which fewer than l samples lie below
    the median with a probability of at most 2.5 % (David and Nagaraja, Order Statistics, 3rd ed., section 7.1). None
    with fewer than six samples.
    """
    rank = _median_rank(len(samples))
    if rank == 0:
        return None
    ordered = np.partition(samples, [rank - 1, len(samples) - rank])
    return float(ordered[rank - 1]), float(ordered[-rank])


@cache
def _median_rank(count: int) -> int:
    """The lower rank of `median_rank_interval`, from 1; 0 where there is none."""
    return int(stats.binom.ppf(0.025, count, 0.5)) if count else 0


def median_interval(runs: Sequence[Floats]) -> tuple[float, float] | None:
    """95 % interval of the median of all samples pooled, by bootstrap over whole runs.

    Cluster bootstrap: runs are drawn with replacement, and the samples of a drawn run stay together (Field and
    Welsh, J. R. Stat. Soc. B 69, 2007). None with fewer than three runs.

    Args:
        runs: one array of at least one sample a run; their lengths may differ.
    """
    pooled = np.concatenate(runs)
    owner = np.repeat(np.arange(len(runs)), [len(run) for run in runs])
    order = np.argsort(pooled, kind="stable")
    ordered, owner = pooled[order], owner[order]
    return _interval(len(runs), lambda drawn: _drawn_medians(ordered, owner, len(runs), drawn))


def _drawn_medians(ordered: Floats, owner: NDArray[np.int64], runs: int, drawn: NDArray[np.int64]) -> Floats:
    """The median of the samples of all drawn runs, for each draw.

    Each sample counts as often as its run was drawn, so the samples need to be sorted only once.

    Args:
        ordered: all samples, ascending, shape (n,); owner: the run number of each.
        drawn: run numbers, shape (..., runs).
    """
    draws = drawn.reshape(-1, runs)
    rows = np.arange(len(draws))[:, np.newaxis]
    times_drawn = np.bincount((draws + runs * rows).ravel(), minlength=runs * len(draws)).reshape(-1, runs)
    up_to = np.cumsum(owner[:, np.newaxis] == np.arange(runs), axis=0)
    total = times_drawn @ up_to[-1]

    def of_rank(rank: NDArray[np.int64]) -> Floats:
        # By bisection: the first sample up to which more than `rank` samples of the draw lie.
        low, high = np.zeros_like(rank), np.full_like(rank, len(ordered) - 1)
        while (low < high).any():
            middle = (low + high) // 2
            reached = (times_drawn * up_to[middle]).sum(axis=1) > rank
            low, high = np.where(reached, low, middle + 1), np.where(reached, middle, high)
        return ordered[low]

    medians: Floats = (of_rank((total - 1) // 2) + of_rank(total // 2)) / 2
    return medians.reshape(drawn.shape[:-1])


def run_interval(values: Floats) -> tuple[float, float] | None:
    """95 % bootstrap interval of the median of one value a run, shape (runs,). None with fewer than three."""
    return _interval(len(values), lambda drawn: np.median(values[drawn], axis=-1))


def ratio_interval(numerator: Floats, denominator: Floats) -> tuple[float, float] | None:
    """95 % bootstrap interval of the ratio of two medians, each over its own runs, shapes (n,) and (m,)."""
    if min(len(numerator), len(denominator)) < MINIMUM_RUNS:
        return None
    result = stats.bootstrap(
        (numerator, denominator),
        lambda a, b, axis: np.median(a, axis=axis) / np.median(b, axis=axis),
        n_resamples=RESAMPLES,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _interval(runs: int, statistic: Callable[[NDArray[np.int64]], Floats]) -> tuple[float, float] | None:
    """Bootstrap a statistic of drawn run numbers, shape (..., runs)."""
    if runs < MINIMUM_RUNS:
        return None
    result = stats.bootstrap(
        (np.arange(runs),),
        lambda drawn, axis: statistic(drawn),
        n_resamples=RESAMPLES,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
