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


def median_interval(runs: Sequence[Floats]) -> tuple[float, float] | None:
    """95 % interval of the median of all samples pooled, by bootstrap over whole runs.

    Cluster bootstrap: runs are drawn with replacement, and the samples of a drawn run stay together (Field and
    Welsh, J. R. Stat. Soc. B 69, 2007). None with fewer than three runs.

    Args:
        runs: one array of samples a run, of equal length.
    """
    samples = np.stack(runs)
    return _interval(len(runs), lambda drawn: np.median(samples[drawn], axis=(-2, -1)))


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
