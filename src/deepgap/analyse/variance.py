"""Where the spread of a family comes from: host, card, process or run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from deepgap.analyse.schemas import KEY, VARIANCE
from deepgap.stats import Floats

LEVELS = ("host", "card", "process", "run")
"""From the widest to the narrowest; a run is within its process, a process on its card, a card in its host."""

QUANTITIES = {"throughput": "throughput_img_s", "latency": "median_ms"}
GROUP = ["gpu", "model", "mode", "launch_bound", "quantity"]


@dataclass(frozen=True)
class Squares:
    """Sums of squares of one or more families, shape (levels,), their degrees of freedom, and their expectations.

    coefficients: shape (levels, levels); row i holds by what each level's variance enters the expectation of the sum
        of squares of level i.
    """

    sums: Floats
    freedom: NDArray[np.int64]
    coefficients: Floats

    def __add__(self, other: Squares) -> Squares:
        return Squares(self.sums + other.sums, self.freedom + other.freedom, self.coefficients + other.coefficients)

    @property
    def spreads(self) -> list[float | None]:
        """Standard deviation of each level's effect; None where the level was never repeated, 0 where the estimate
        of its variance is not positive.

        The sums of squares are set equal to their expectations (Henderson's method 1, the analysis of variance of
        nested random effects with unequal counts: Searle, Casella and McCulloch, Variance Components, 1992, section
        5.3; the pooled sums keep it unbiased). Where each card had one process, or each process one run, the narrower
        level has no degrees of freedom and its variance is within that of the wider one.
        """
        variances = np.zeros(len(LEVELS))
        for level in reversed(range(len(LEVELS))):
            if self.freedom[level] > 0:
                below = float(self.coefficients[level, level + 1 :] @ variances[level + 1 :])
                variances[level] = (self.sums[level] - below) / self.coefficients[level, level]
        return [
            float(np.sqrt(max(variance, 0.0))) if degrees > 0 else None
            for variance, degrees in zip(variances, self.freedom, strict=True)
        ]


def family_squares(values: Floats, places: Sequence[Sequence[Any]]) -> Squares:
    """The sums of squares of one family.

    Args:
        values: logarithms, shape (n,).
        places: for each value its host, card, process and run.
    """
    count = len(values)
    codes = [np.zeros(count, dtype=np.int64)]
    for level in range(1, len(LEVELS) + 1):
        _, inverse = np.unique([repr(place[:level]) for place in places], return_inverse=True)
        codes.append(inverse)
    sizes = [np.bincount(code) for code in codes]
    means = [np.bincount(code, weights=values) / size for code, size in zip(codes, sizes, strict=True)]
    levels = len(LEVELS)
    sums, freedom, coefficients = np.zeros(levels), np.zeros(levels, np.int64), np.zeros((levels, levels))
    for level in range(1, levels + 1):
        # Each value counts its group's mean, so that a group weighs as much as it has values.
        sums[level - 1] = np.sum((means[level][codes[level]] - means[level - 1][codes[level - 1]]) ** 2)
        freedom[level - 1] = len(sizes[level]) - len(sizes[level - 1])
        for within in range(level, levels + 1):
            # A group's mean holds an effect within it by the share of its values that have that effect.
            shares = sizes[within][codes[within]] / sizes[level][codes[level]]
            above = sizes[within][codes[within]] / sizes[level - 1][codes[level - 1]]
            coefficients[level - 1, within - 1] = np.sum(shares) - np.sum(above)
    return Squares(sums, freedom, coefficients)


def summarise_variance(runs: pl.DataFrame, launch_bound: Mapping[tuple[Any, ...], bool]) -> pl.DataFrame:
    """One row a mode, kind of family, quantity and level; see `schemas.VARIANCE`.

    Args:
        runs: in `schemas.RUNS`.
        launch_bound: whether a family is, by its key in the order of `schemas.KEY`.
    """
    pooled: dict[tuple[Any, ...], Squares] = {}
    for key, here in runs.group_by(list(KEY), maintain_order=True):
        places = here.select("host", "card", "sweep", "run").rows()
        for quantity, column in QUANTITIES.items():
            group = (*key[:3], launch_bound[key], quantity)
            found = family_squares(np.log(here[column].to_numpy()), places)
            pooled[group] = pooled[group] + found if group in pooled else found
    rows = [row for group, squares in pooled.items() for row in _rows(group, squares)]
    return pl.DataFrame(rows, schema=VARIANCE).sort(GROUP, maintain_order=True)


def _rows(group: Sequence[Any], squares: Squares) -> list[dict[str, Any]]:
    return [
        dict(zip(GROUP, group, strict=True))
        | {"level": level, "spread": spread, "degrees_of_freedom": int(squares.freedom[place])}
        | {"sum_of_squares": float(squares.sums[place]), "coefficients": squares.coefficients[place].tolist()}
        for place, (level, spread) in enumerate(zip(LEVELS, squares.spreads, strict=True))
    ]


def pool_variance(variance: pl.DataFrame) -> dict[str, float | None]:
    """The spread of each level over several groups together, by level.

    Args:
        variance: rows of `schemas.VARIANCE` of one quantity, all levels of each group.
    """
    total = None
    for _, here in variance.group_by(GROUP, maintain_order=True):
        by_level = {row["level"]: row for row in here.to_dicts()}
        ordered = [by_level[level] for level in LEVELS]
        squares = Squares(
            np.array([row["sum_of_squares"] for row in ordered]),
            np.array([row["degrees_of_freedom"] for row in ordered]),
            np.array([row["coefficients"] for row in ordered]),
        )
        total = squares if total is None else total + squares
    return dict(zip(LEVELS, total.spreads if total else [None] * len(LEVELS), strict=True))
