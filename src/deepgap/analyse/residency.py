"""Does a sweep peak where its largest activation still fits in the L2 cache?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from deepgap.analyse.peaks import family_points, find_peak
from deepgap.analyse.ratios import family_key
from deepgap.analyse.summary import Summary
from deepgap.analyse.sweeps import compare, split_families, sweep_values
from deepgap.study.words import BYTES_PER_ELEMENT


@dataclass(frozen=True)
class Residency:
    """What one sweep over batch sizes says of the prediction that it peaks at the largest batch size that fits.

    fits: a call of a batch size fits when the largest activation of all its images is no larger than the L2 cache.
    last_fit: the largest batch size that fits; launch_bound: whether its family has that flag.
    share: the highest throughput of a batch size that fits over that of the peak.
    gain: throughput of the next larger batch size over that of last_fit, paired. told: its interval is not around 1.
    peak_over_cache: bytes of the largest activation at the peak over those of the cache.
    tied: a batch size that fits cannot be told from the peak.
    """

    model: str
    mode: str
    precision: str
    last_fit: int
    launch_bound: bool
    share: float
    gain: float
    told: bool
    peak_over_cache: float
    tied: bool


def l2_cache_bytes(summary: Summary, gpu: str) -> int | None:
    """The L2 cache of a GPU as the driver told every cell of it; None where it did not, or not the same."""
    told = set(summary.sessions.filter(gpu=gpu)["l2_cache_bytes"])
    return told.pop() if len(told) == 1 else None


def residencies(summary: Summary, gpu: str) -> Iterator[Residency]:
    """One for each curve of a GPU whose batch sizes lie on both sides of the cache."""
    capacity = l2_cache_bytes(summary, gpu)
    timed = summary.measured.filter(gpu=gpu)
    sweeps = {family_key(about): found for about, found in split_families(sweep_values(summary.runs, timed))}
    largest = dict(summary.facts.filter(gpu=gpu).select("model", "largest_activation_elements").iter_rows())
    for (model, mode, precision), curve in timed.group_by("model", "mode", "precision", maintain_order=True):
        elements, element_bytes = largest.get(model), BYTES_PER_ELEMENT.get(str(precision))
        if capacity is None or elements is None or element_bytes is None:
            continue
        points = family_points(curve)
        sizes = {point.batch_size: elements * element_bytes * point.batch_size for point in points}
        fit = [point for point in points if sizes[point.batch_size] <= capacity]
        beyond = [point for point in points if sizes[point.batch_size] > capacity]
        if not fit or not beyond:
            continue
        peak, last = find_peak(points), fit[-1]
        rows = [curve.row(by_predicate=pl.col("batch_size") == at.batch_size, named=True) for at in (beyond[0], last)]
        gain = compare(*(sweeps[family_key(row)] for row in rows)).ratio
        yield Residency(
            model=str(model),
            mode=str(mode),
            precision=str(precision),
            last_fit=last.batch_size,
            launch_bound=rows[1]["launch_bound"],
            share=max(point.throughput for point in fit) / peak.best.throughput,
            gain=gain.ratio,
            told=gain.low is not None and not gain.touches_one,
            peak_over_cache=sizes[peak.point.batch_size] / capacity,
            tied=any(point.batch_size in peak.tied for point in fit),
        )
