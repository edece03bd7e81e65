"""Does a sweep peak where its largest activation still fits in the L2 cache?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from deepgap.analyse.peaks import family_points, find_peak, intervals_overlap
from deepgap.analyse.summary import Summary
from deepgap.sources.traffic import find_traffic
from deepgap.study.words import BYTES_PER_ELEMENT


@dataclass(frozen=True)
class Residency:
    """What one sweep over batch sizes says of the prediction that it peaks at the largest batch size that fits.

    fits: a call of a batch size fits when the largest activation of all its images is no larger than the L2 cache.
    last_fit: the largest batch size that fits; launch_bound: whether its family has that flag.
    share: the highest throughput of a batch size that fits over that of the peak.
    gain: throughput of the next larger batch size over that of last_fit. told: their intervals do not overlap.
    peak_over_cache: bytes of the largest activation at the peak over those of the cache.
    tied: a batch size that fits cannot be told from the peak.
    """

    model: str
    mode: str
    last_fit: int
    launch_bound: bool
    share: float
    gain: float
    told: bool
    peak_over_cache: float
    tied: bool


def l2_cache_bytes(summary: Summary, gpu: str) -> int | None:
    """The L2 cache of a GPU as the driver told every cell of it; None where it did not, or not the same."""
    told = set(summary.hosts.filter(gpu=gpu)["l2_cache_bytes"])
    return told.pop() if len(told) == 1 else None


def residencies(summary: Summary, gpu: str) -> Iterator[Residency]:
    """One for each sweep of a GPU whose batch sizes lie on both sides of the cache."""
    capacity = l2_cache_bytes(summary, gpu)
    timed = summary.measured.filter(pl.col("throughput_img_s").is_not_null(), gpu=gpu)
    for (model, mode, precision), sweep in timed.group_by("model", "mode", "precision", maintain_order=True):
        traffic = find_traffic(str(model))
        if capacity is None or traffic is None or precision not in BYTES_PER_ELEMENT:
            continue
        points = family_points(sweep)
        sizes = {point.batch_size: traffic.largest_bytes(str(precision), point.batch_size) for point in points}
        fit = [point for point in points if sizes[point.batch_size] <= capacity]
        beyond = [point for point in points if sizes[point.batch_size] > capacity]
        if not fit or not beyond:
            continue
        peak, last = find_peak(points), fit[-1]
        ends = (last.low, last.high, beyond[0].low, beyond[0].high)
        (flags,) = sweep.filter(batch_size=last.batch_size)["flags"].to_list()
        yield Residency(
            model=str(model),
            mode=str(mode),
            last_fit=last.batch_size,
            launch_bound="launch_bound" in flags,
            share=max(point.throughput for point in fit) / peak.point.throughput,
            gain=beyond[0].throughput / last.throughput,
            told=None not in ends and not intervals_overlap(ends[:2], ends[2:]),
            peak_over_cache=sizes[peak.point.batch_size] / capacity,
            tied=any(point.batch_size in peak.tied for point in fit),
        )
