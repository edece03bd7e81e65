"""Straight lines through a curve over batch sizes: time of a call, and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

FEWEST_POINTS = 3
"""A line through two points has no residual, so that it says nothing of whether the curve is one."""


@dataclass(frozen=True)
class Line:
    """`fixed` and `each` in the unit of the values: what a call costs, and what each image of it costs."""

    fixed: float
    each: float

    def at(self, batch_size: float) -> float:
        return self.fixed + self.each * batch_size


def affine_time(batch_sizes: Sequence[int], times: Sequence[float]) -> Line | None:
    """The line of the least sum of squares of relative residuals; None with fewer than three batch sizes.

    Times of batches of 1 and of 512 differ by orders of magnitude and their errors are shares of them, so that
    absolute residuals would let the largest batches alone decide.

    Args:
        times: above zero, one a batch size.
    """
    if len(set(batch_sizes)) < FEWEST_POINTS:
        return None
    sizes, values = np.asarray(batch_sizes, float), np.asarray(times, float)
    design = np.column_stack([np.ones_like(sizes), sizes]) / values[:, None]
    (fixed, each), *_ = np.linalg.lstsq(design, np.ones_like(values), rcond=None)
    return Line(float(fixed), float(each))


def robust_line(batch_sizes: Sequence[int], values: Sequence[float]) -> Line | None:
    """The line whose slope is the median of the slopes between all pairs (Theil, 1950; Sen, J. Am. Stat. Assoc. 63,
    1968), which a work space that one batch size alone asks for does not tilt; None with fewer than three batch
    sizes.
    """
    if len(set(batch_sizes)) < FEWEST_POINTS:
        return None
    found = stats.theilslopes(values, batch_sizes)
    return Line(float(found.intercept), float(found.slope))
