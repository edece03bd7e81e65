"""Operating points chosen from a curve over batch sizes: peak, saturation, best under a bound, Pareto set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import polars as pl

SATURATED = 0.95
"""The part of the best throughput at which a curve counts as saturated."""


@dataclass(frozen=True)
class Point:
    """One batch size of a curve. Throughputs in images a second; low and high are the interval, if there is one.

    of_best: its throughput over that of the curve's best batch size, paired. tied: `schemas.FAMILIES`.
    """

    batch_size: int
    throughput: float
    latency_ms: float
    low: float | None = None
    high: float | None = None
    of_best: float | None = None
    tied: bool = False


@dataclass(frozen=True)
class Peak:
    """Where a curve is highest. A maximum of noisy values is too high and at a batch size of chance, so the peak is
    the smallest batch size that the data cannot tell from the best.

    best: the highest median. tied: the batch sizes that cannot be told from it by paired comparison, ascending, its
        own among them.
    at_edge: the largest batch size of the curve is among the tied, so that the true peak may lie beyond it.
    """

    point: Point
    best: Point
    tied: tuple[int, ...]
    at_edge: bool


def find_peak(points: Sequence[Point]) -> Peak:
    """The peak of a curve of at least one point; of equal throughputs the smallest batch size is the best."""
    best = min(points, key=lambda point: (-point.throughput, point.batch_size))
    tied = sorted((point for point in points if point is best or point.tied), key=lambda point: point.batch_size)
    sizes = tuple(point.batch_size for point in tied)
    return Peak(tied[0], best, sizes, at_edge=max(sizes) == max(point.batch_size for point in points))


def saturation(points: Sequence[Point]) -> Point:
    """Where a curve of at least one point saturates: the smallest batch size with `SATURATED` of the best throughput.
    A larger batch adds latency and next to no throughput."""
    best = find_peak(points).best.throughput
    enough = [point for point in points if (point.of_best or point.throughput / best) >= SATURATED]
    return min(enough, key=lambda point: point.batch_size)


def best_within_latency(points: Sequence[Point], limit_ms: float) -> Point | None:
    """The highest throughput among the points whose latency is at most `limit_ms`; None when none is."""
    within = [point for point in points if point.latency_ms <= limit_ms]
    return min(within, key=lambda point: (-point.throughput, point.batch_size), default=None)


def non_dominated(latencies: Sequence[float], throughputs: Sequence[float]) -> list[bool]:
    """Which points no other point beats.

    A point is beaten by one with no higher latency and no lower throughput that differs in at least one of
    them (Pareto dominance). Equal points do not beat each other.
    """
    order = sorted(range(len(latencies)), key=lambda i: (latencies[i], -throughputs[i]))
    kept = [False] * len(latencies)
    best_before = float("-inf")
    for latency, group in groupby(order, key=lambda i: latencies[i]):
        del latency
        members = list(group)
        top = throughputs[members[0]]
        if top > best_before:
            for index in members:
                kept[index] = throughputs[index] == top
            best_before = top
    return kept


def family_points(families: pl.DataFrame) -> list[Point]:
    """The points of one curve from rows of the summary's families that have numbers, by ascending batch size."""
    return [
        Point(
            batch_size=row["batch_size"],
            throughput=row["throughput_img_s"],
            latency_ms=row["median_ms"],
            low=row["throughput_low_img_s"],
            high=row["throughput_high_img_s"],
            of_best=row["of_best"],
            tied=bool(row["tied"]),
        )
        for row in families.sort("batch_size").iter_rows(named=True)
    ]


def find_peaks(measured: pl.DataFrame) -> dict[tuple[str, str, str], Peak]:
    """The peak of each gpu, model and mode of `Summary.measured`, in its order."""
    return {
        (str(gpu), str(model), str(mode)): find_peak(family_points(curve))
        for (gpu, model, mode), curve in measured.group_by("gpu", "model", "mode", maintain_order=True)
    }
