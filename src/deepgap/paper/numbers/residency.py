"""Batch sizes whose largest activation fits in the L2 cache, and what happens beyond."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from deepgap.analyse.residency import l2_cache_bytes, residencies
from deepgap.analyse.summary import Summary
from deepgap.paper.latex import number
from deepgap.paper.numbers.macro import (
    PUBLISHED_DIGITS,
    Number,
    exact,
    low_and_high,
    macro_name,
    rounded_or_not,
    span,
)
from deepgap.paper.wording import prose_gpus
from deepgap.study.words import BYTES_PER_ELEMENT


def residency_numbers(summary: Summary) -> Iterator[Number]:
    """For each GPU of the prose: its L2 cache in MiB, the largest batch sizes whose largest activation fits, and how
    the sweeps go on beyond (`deepgap.analyse.residency`); shares and gains in percent."""
    for gpu in prose_gpus(summary):
        if summary.is_processor(gpu):
            continue
        capacity = l2_cache_bytes(summary, gpu)
        rows = f"sessions: gpu={gpu}, l2_cache_bytes"
        yield Number(
            macro_name("Cache", gpu), exact(None if capacity is None else capacity / 2**20), f"{rows} in MiB"
        )
        found = list(residencies(summary, gpu))
        rows = f"families: gpu={gpu}, deepgap.analyse.residency"
        yield Number(macro_name("CacheSweeps", gpu), number(len(found)), rows)
        for width in sorted(set(BYTES_PER_ELEMENT.values())):
            fits = [item.last_fit for item in found if BYTES_PER_ELEMENT[item.precision] == width]
            name = macro_name("CacheBatch", gpu, f"{width}")
            yield Number(name, span(fits, number), f"{rows}, last_fit at {width} bytes an element")
        fair = [item for item in found if not item.launch_bound]
        yield Number(macro_name("CacheSweepsFair", gpu), number(len(fair)), f"{rows}, not launch_bound")
        told = sum(item.told for item in found)
        yield Number(macro_name("CacheGainTold", gpu), number(told), f"{rows}, gain beyond the intervals")
        columns = {
            "CachePeak": [item.peak_over_cache for item in found],
            "CacheShare": [100 * item.share for item in found],
            "CacheShareFair": [100 * item.share for item in fair],
            "CacheGain": [100 * (item.gain - 1) for item in found],
        }
        for name, values in columns.items():
            yield from low_and_high(macro_name(name, gpu), values, PUBLISHED_DIGITS, rows)
        ours, theirs = (
            summary.gpus[key].memory_bandwidth_gb_s if key in summary.gpus else None for key in (gpu, "L4")
        )
        ratio = None if ours is None or theirs is None else ours / theirs
        rows = f"gpus.yaml: memory_bandwidth_gb_s of {gpu} over L4"
        yield Number(macro_name("Bandwidth", gpu, "OverL4"), rounded_or_not(ratio, PUBLISHED_DIGITS), rows)
    largest = summary.facts.filter(pl.col("gpu").is_in(prose_gpus(summary)))[
        "largest_activation_elements"
    ].drop_nulls()
    rows = "facts: largest_activation_elements of the prose's devices, an image"
    yield Number("LargestActivation", span(largest.to_list(), number), rows)
