"""How throughput follows memory bandwidth, on invented families."""

from __future__ import annotations

from math import log

import pytest

from deepgap.analyse.elasticity import ELASTICITY, elasticities
from deepgap.analyse.sweeps import PER_JOULE, THROUGHPUT
from tests.unit.synthetic import GPUS, SPREAD, synthetic_family, synthetic_summary

BANDWIDTHS = GPUS["H200"].memory_bandwidth_gb_s / GPUS["H100"].memory_bandwidth_gb_s


def compared(ratio: float, **changes: object):
    rows = [
        synthetic_family("H100", "resnet50", "eager-fp16", 8, throughput_img_s=1000.0, **changes),
        synthetic_family("H200", "resnet50", "eager-fp16", 8, throughput_img_s=1000.0 * ratio),
        synthetic_family("H200", "resnet50", "eager-fp32", 8),
    ]
    return synthetic_summary(rows)


@pytest.mark.parametrize(("ratio", "expected"), [(BANDWIDTHS, 1.0), (1.0, 0.0)])
def test_one_is_memory_and_nought_is_anything_else(ratio: float, expected: float) -> None:
    frame = elasticities(compared(ratio), "H200", "H100")
    assert frame.schema == ELASTICITY and frame["quantity"].to_list() == [THROUGHPUT, PER_JOULE]
    row = frame.row(0, named=True)
    assert (row["ratio"], row["elasticity"]) == pytest.approx((ratio, expected))
    widest = (1 + SPREAD[-1]) / (1 + SPREAD[0])
    assert (row["low"], row["high"]) == pytest.approx((ratio / widest, ratio * widest))
    assert row["elasticity_low"] == pytest.approx(expected - log(widest) / log(BANDWIDTHS))
    assert (row["paired"], row["values"], row["primary"]) == (False, 6, True)


def test_the_other_way_round_is_the_same_elasticity() -> None:
    one, other = (
        elasticities(compared(1.2), *pair).row(0, named=True) for pair in (("H200", "H100"), ("H100", "H200"))
    )
    names = ("elasticity", "elasticity_low", "elasticity_high")
    assert [one[name] for name in names] == pytest.approx([other[name] for name in names])
    assert one["elasticity_low"] < one["elasticity"] < one["elasticity_high"]


def test_what_one_kind_lacks_is_not_compared_and_flags_are_told() -> None:
    row = elasticities(compared(1.0, launch_bound=True, primary=False, sweeps=3), "H200", "H100").row(0, named=True)
    assert (row["launch_bound"], row["primary"], row["values"], row["low"]) == (True, False, 3, None)
    assert elasticities(compared(1.0), "H200", "L4").is_empty()
