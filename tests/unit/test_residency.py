"""The L2 cache against the batch size of the peak, on invented sweeps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from deepgap.analyse.residency import Residency, l2_cache_bytes, residencies
from deepgap.analyse.summary import Summary
from tests.unit.synthetic import synthetic_family, synthetic_summary

LARGEST = 64 * 112 * 112
"""Elements of the first convolution's output, the largest activation of an image."""


def swept(
    speeds: dict[int, float], mode: str = "eager-fp16", cache_bytes: int | None = None, **changes: Any
) -> Summary:
    """ResNet-50 on the H200 with these throughputs by batch size, each within 2 %."""
    rows = [
        synthetic_family("H200", "resnet50", mode, size, throughput_img_s=speed, **changes)
        for size, speed in speeds.items()
    ]
    made = synthetic_summary(rows)
    return replace(made, sessions=made.sessions.with_columns(l2_cache_bytes=pl.lit(cache_bytes, pl.Int64)))


def only(summary: Summary) -> Residency:
    (found,) = residencies(summary, "H200")
    return found


SPEEDS = {1: 10.0, 8: 60.0, 16: 80.0, 32: 88.0, 64: 100.0}


def test_what_fits_is_the_largest_activation_in_the_width_of_the_precision() -> None:
    room = 16 * LARGEST * 2
    assert only(swept(SPEEDS, cache_bytes=room)).last_fit == 16
    assert only(swept(SPEEDS, cache_bytes=room - 1)).last_fit == 8
    assert only(swept(SPEEDS, "eager-tf32", cache_bytes=room)).last_fit == 8


def test_a_sweep_that_goes_on_beyond_the_cache() -> None:
    found = only(swept(SPEEDS, cache_bytes=16 * LARGEST * 2, launch_bound=True))
    assert (found.share, found.gain, found.peak_over_cache) == pytest.approx((0.8, 1.1, 4.0), rel=0.02)
    assert (found.told, found.tied, found.launch_bound) == (True, False, True)


def test_a_sweep_that_peaks_in_the_cache_or_ties_with_it() -> None:
    room = 16 * LARGEST * 2
    found = only(swept({**SPEEDS, 8: 120.0}, cache_bytes=room))
    assert (found.share, found.tied, found.peak_over_cache) == (1.0, True, 0.5)
    near = only(swept({**SPEEDS, 16: 99.0, 32: 98.0}, cache_bytes=room))
    assert near.tied and near.peak_over_cache == 1.0 and not near.told


def test_no_capacity_or_one_side_alone_tells_nothing() -> None:
    assert list(residencies(swept(SPEEDS), "H200")) == []
    assert list(residencies(swept(SPEEDS, cache_bytes=1 << 40), "H200")) == []
    assert list(residencies(swept(SPEEDS, cache_bytes=1), "H200")) == []


def test_the_capacity_is_known_where_every_host_tells_the_same() -> None:
    made = swept(SPEEDS, cache_bytes=60 << 20)
    assert l2_cache_bytes(made, "H200") == 60 << 20
    other = made.sessions.with_columns(l2_cache_bytes=pl.lit(50 << 20, pl.Int64))
    assert l2_cache_bytes(replace(made, sessions=pl.concat([made.sessions, other])), "H200") is None
    assert l2_cache_bytes(made, "L4") is None
