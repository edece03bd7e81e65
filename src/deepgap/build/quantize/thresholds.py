"""From the histogram of a tensor to the magnitude at which INT8 clips it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np

from deepgap.build.quantize.histograms import BINS, Histogram

LEVELS = 128
"""Magnitudes of a symmetric int8 number, as TensorRT's calibrator counts them."""

LARGEST_INTEGER = 127
PERCENTILE = 0.99999
SMALLEST_THRESHOLD = 127e-8
"""For a dead tensor: a scale of 1e-8."""

CANDIDATES = np.arange(LEVELS, BINS + 1)
"""A threshold is the upper edge of the last of this many bins."""


def choose_threshold(histogram: Histogram, method: str) -> float:
    """The magnitude that becomes 127: the scale of a symmetric int8 tensor is this / 127.

    Args:
        method: one of `METHODS`: "entropy", "max", "percentile" (99.999 %) or "mse".

    Returns:
        A positive number, at most the histogram's maximum unless the tensor is dead.
    """
    bins = METHODS[method](histogram.counts) if histogram.maximum else BINS
    return max(histogram.maximum * bins / BINS, SMALLEST_THRESHOLD)


def choose_scales(histograms: Mapping[str, Histogram], method: str) -> dict[str, float]:
    """The symmetric int8 scale of each tensor, threshold / 127."""
    return {name: choose_threshold(found, method) / LARGEST_INTEGER for name, found in histograms.items()}


def divergences(counts: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence of the quantised from the clipped histogram, for each of `CANDIDATES`.

    For i bins, the reference P is the first i bins, the last of which takes in all that is clipped. The candidate Q
    are the first i bins merged into 128 levels, each level spread evenly over those of its bins that are not empty.
    Where P has mass and Q has none the divergence is infinite. Szymon Migacz, 8-bit Inference with TensorRT, GTC
    2017. As in NVIDIA's own pytorch-quantization, the first bin counts as much as the second: it holds the zeros
    of ReLU, which every scale represents exactly.

    Args:
        counts: int64 of shape (BINS,), not all zero from the second bin on.

    Returns:
        float64 of shape (BINS - LEVELS + 1,).
    """
    counts = counts.astype(np.float64)
    counts[0] = counts[1]
    mass = _running_sum(counts)
    filled = _running_sum(counts > 0)
    plogp = _running_sum(_xlogx(counts))
    edges = _level_edges()
    level_mass = np.diff(mass[edges])
    level_filled = np.diff(filled[edges])

    total = mass[-1]
    inside = mass[CANDIDATES]
    last = counts[CANDIDATES - 1]
    clipped = total - inside
    with np.errstate(divide="ignore", invalid="ignore"):
        height = np.where(level_filled > 0, np.log(level_mass / level_filled), 0)
        # sum p log p - sum p log q, with the last bin's mass of P but not of Q enlarged by what is clipped.
        own = plogp[CANDIDATES] - _xlogx(last) + _xlogx(last + clipped)
        cross = (level_mass * height).sum(axis=1) + clipped * height[:, -1]
        result: np.ndarray = (own - cross) / total - np.log(total) + np.log(inside)
    result[(inside == 0) | ((last == 0) & (clipped > 0))] = np.inf
    return result


def squared_errors(counts: np.ndarray) -> np.ndarray:
    """Sum of squared int8 errors of the bins' centres, in units of squared bins, for each of `CANDIDATES`."""
    centres = np.arange(BINS) + 0.5
    scale = CANDIDATES[:, None] / LARGEST_INTEGER
    error = centres - scale * np.minimum(np.rint(centres / scale), LARGEST_INTEGER)
    result: np.ndarray = np.square(error) @ counts
    return result


def _by_entropy(counts: np.ndarray) -> int:
    # Of equal divergences the largest threshold, which clips least.
    return int(CANDIDATES[len(CANDIDATES) - 1 - np.argmin(divergences(counts)[::-1])])


def _by_maximum(counts: np.ndarray) -> int:
    return BINS


def _by_percentile(counts: np.ndarray) -> int:
    running = np.cumsum(counts)
    return int(np.searchsorted(running, PERCENTILE * running[-1])) + 1


def _by_squared_error(counts: np.ndarray) -> int:
    return int(CANDIDATES[np.argmin(squared_errors(counts))])


METHODS: dict[str, Callable[[np.ndarray], int]] = {
    "entropy": _by_entropy,
    "max": _by_maximum,
    "percentile": _by_percentile,
    "mse": _by_squared_error,
}


@cache
def _level_edges() -> np.ndarray:
    """The bins at which each candidate's levels begin and end, shape (candidates, LEVELS + 1)."""
    return -(-CANDIDATES[:, None] * np.arange(LEVELS + 1) // LEVELS)


def _running_sum(values: np.ndarray) -> np.ndarray:
    """Sums of the first 0, 1, ... values."""
    return np.concatenate(([0.0], np.cumsum(values, dtype=np.float64)))


def _xlogx(values: np.ndarray) -> np.ndarray:
    return values * np.log(np.where(values > 0, values, 1))
