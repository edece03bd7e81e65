"""Operating points chosen from a sweep over batch sizes: peak, saturation, best under a bound, Pareto set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

import polars as pl

Interval: TypeAlias = tuple[float | None, float | None]

SATURATED = 0.95
"""The part of the peak's throughput at which a sweep counts as saturated."""


@dataclass(frozen=True)
class Point:
    """One batch size of a sweep. Throughputs in images a second; low and high are its 95 % interval, if it
    has one."""

    batch_size: int
    throughput: float
    latency_ms: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Peak:
    """The highest throughput of a sweep.

    tied: the batch sizes that the data cannot tell from the peak, ascending, the peak's own among them: their
        intervals overlap its interval. Without an interval nothing is known to tie.
    at_edge: the largest batch size of the sweep is among the tied, so that the true peak may lie beyond it.
    """

    point: Point
    tied: tuple[int, ...]
    at_edge: bool


def find_peak(points: Sequence[Point]) -> Peak:
    """The peak of a sweep of at least one point; of equal throughputs the smallest batch size."""
    top = min(points, key=lambda point: (-point.throughput, point.batch_size))
    tied = tuple(
        sorted(
            point.batch_size
            for point in points
            if point is top or intervals_overlap((point.low, point.high), (top.low, top.high))
        )
    )
    return Peak(point=top, tied=tied, at_edge=max(tied) == max(point.batch_size for point in points))


def saturation(points: Sequence[Point]) -> Point:
    """Where a sweep of at least one point saturates: the smallest batch size with `SATURATED` of the peak's
    throughput. A larger batch adds latency and next to no throughput."""
    enough = SATURATED * find_peak(points).point.throughput
    return min((point for point in points if point.throughput >= enough), key=lambda point: point.batch_size)


def intervals_overlap(one: Interval, other: Interval) -> bool:
    """Whether two intervals, each (low, high), share a value; never where one of them is not known."""
    (low, high), (other_low, other_high) = one, other
    if low is None or high is None or other_low is None or other_high is None:
        return False
    return low <= other_high and other_low <= high


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
    """The points of one sweep from rows of the summary's families that have numbers, by ascending batch
    size."""
    return [
        Point(
            batch_size=row["batch_size"],
            throughput=row["throughput_img_s"],
            latency_ms=row["median_ms"],
            low=row["throughput_low_img_s"],
            high=row["throughput_high_img_s"],
        )
        for row in families.sort("batch_size").iter_rows(named=True)
    ]


def find_peaks(measured: pl.DataFrame) -> dict[tuple[str, str, str], Peak]:
    """The peak of each gpu, model and mode of `Summary.measured`, in its order."""
    with_throughput = measured.filter(pl.col("throughput_img_s").is_not_null())
    return {
        (str(gpu), str(model), str(mode)): find_peak(family_points(sweep))
        for (gpu, model, mode), sweep in with_throughput.group_by("gpu", "model", "mode", maintain_order=True)
    }
