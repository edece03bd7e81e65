"""Each flag is raised by what it stands for and by nothing less."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from deepgap.analyse.flags import FLAGS, cell_flags, falling_memory
from deepgap.cells.cell_file import failure_row
from tests.conftest import ROOT
from tests.unit.synthetic import GPUS, synthetic_footer, synthetic_recipe, synthetic_rows

FLOORS = {"top1_agreement": 0.95}
HEALTHY = synthetic_rows([[10.0, 10.01]] * 2, [10.0, 10.0])
RECIPE = synthetic_recipe("H200", "resnet50", "eager-fp16", 64)
TELEMETRY: dict[str, Any] = synthetic_footer(RECIPE).observed["telemetry"]


def flags(rows: pl.DataFrame = HEALTHY, recipe: dict[str, Any] = RECIPE, **observed: Any) -> list[str]:
    footer = synthetic_footer(recipe, **observed)
    return cell_flags(rows, recipe, footer.observed, footer.provenance, GPUS[recipe["gpu"]], FLOORS)


def at_share(share: float, peak_tops: float) -> pl.DataFrame:
    time = 2 * 4.09 * 64 / (share * peak_tops)
    return synthetic_rows([[time, time]] * 2, [time, time])


def test_a_healthy_cell_has_no_flag() -> None:
    assert flags() == []
    assert flags(recipe=synthetic_recipe("CPU", "resnet50", "eager-fp32", 64)) == []


@pytest.mark.parametrize(
    ("telemetry", "expected"),
    [
        ({"throttle_reasons": ["none", "gpu_idle", "applications_clocks_setting"]}, []),
        ({"throttle_reasons": ["gpu_idle", "sw_power_cap"]}, ["throttled"]),
        ({"throttle_reasons": ["hw_thermal_slowdown"]}, ["throttled"]),
        ({"sm_clock_median_mhz": 0.76 * 1900}, []),
        ({"sm_clock_median_mhz": 0.74 * 1900}, ["slow_clock"]),
        ({"other_processes": 1}, ["shared_device"]),
        ({"sm_clock_median_mhz": None, "other_processes": None, "throttle_reasons": []}, []),
        ({"samples": 0}, ["no_telemetry"]),
    ],
)
def test_what_the_device_tells(telemetry: dict[str, Any], expected: list[str]) -> None:
    assert flags(telemetry=TELEMETRY | telemetry) == expected


def test_without_a_default_clock_the_maximum_counts() -> None:
    footer = synthetic_footer(RECIPE, telemetry=TELEMETRY | {"sm_clock_median_mhz": 0.76 * 1900})
    for default, highest, expected in ((1900, 3000, []), (None, 3000, ["slow_clock"]), (None, None, ["slow_clock"])):
        device = {"default_sm_clock_mhz": default, "max_sm_clock_mhz": highest}
        found = cell_flags(HEALTHY, RECIPE, footer.observed, {"device": device}, GPUS["H200"], FLOORS)
        assert found == expected


def test_a_gpu_without_telemetry_is_flagged_and_a_processor_is_not() -> None:
    assert flags(telemetry={"absent": "no NVML"}) == flags(telemetry=None) == ["no_telemetry"]
    assert flags(recipe=synthetic_recipe("CPU", "resnet50", "eager-fp32", 64), telemetry={"absent": "no GPU"}) == []


@pytest.mark.parametrize(("spread", "expected"), [(0.2, []), (0.35, ["variable"])])
def test_variation(spread: float, expected: list[str]) -> None:
    assert flags(synthetic_rows([[10 - spread, 10 + spread]] * 20, [10.0] * 20)) == expected


@pytest.mark.parametrize(("enqueue", "expected"), [(None, []), (0.79, []), (0.81, ["launch_bound"])])
def test_launching(enqueue: float | None, expected: list[str]) -> None:
    assert flags(synthetic_rows([[10.0, 10.0]], [10.0], enqueue=enqueue)) == expected


@pytest.mark.parametrize(
    ("call_ms", "expected"), [(9.2, []), (9.0, ["arms_disagree"]), (11.0, []), (11.2, ["arms_disagree"])]
)
def test_arms(call_ms: float, expected: list[str]) -> None:
    assert flags(synthetic_rows([[10.0, 10.0]], [call_ms])) == expected


def test_what_the_cell_observed() -> None:
    assert flags(steady=False) == ["unsteady"]
    assert flags(fidelity={"top1_agreement": 0.95}) == flags(fidelity={"top1_agreement": None}) == []
    assert flags(fidelity={"top1_agreement": 0.94}) == ["low_fidelity"]
    assert flags(steady=False, fidelity={"top1_agreement": 0.5}) == ["low_fidelity", "unsteady"]


@pytest.mark.parametrize(
    ("mode", "peak", "share", "expected"),
    [
        ("eager-fp16", 989.5, 0.59, []),
        ("eager-fp16", 989.5, 0.61, ["near_peak"]),
        ("eager-fp32", 67, 0.95, ["near_peak"]),
        ("eager-fp32", 67, 1.05, ["above_peak"]),
    ],
)
def test_share_of_the_peak(mode: str, peak: float, share: float, expected: list[str]) -> None:
    recipe = synthetic_recipe("H200", "resnet50", mode, 64)
    assert flags(at_share(share, peak), recipe) == expected


def test_a_failed_cell_has_no_flag() -> None:
    assert flags(failure_row("out_of_memory", "synthetic"), telemetry={"absent": "nothing was timed"}) == []


def test_every_flag_has_a_meaning_and_they_are_in_order() -> None:
    assert list(FLAGS) == sorted(FLAGS)
    assert all(FLAGS.values())
    everything = flags(
        synthetic_rows([[1.0, 2.0]], [1.0], enqueue=0.9),
        steady=False,
        fidelity={"top1_agreement": 0.0},
        telemetry=TELEMETRY | {"throttle_reasons": ["sync_boost"], "other_processes": 3, "sm_clock_median_mhz": 1},
    )
    assert len(everything) == 8 and everything == sorted(everything) and set(everything) <= set(FLAGS)


def test_memory_falls_where_a_smaller_batch_used_more() -> None:
    mib = 2**20
    assert falling_memory({1: 500 * mib, 2: 469 * mib, 4: 600 * mib, 8: None, 16: 560 * mib, 32: 567 * mib}) == [
        16,
        32,
    ]
    assert falling_memory({64: 100 * mib, 8: 200 * mib}) == [64]
    assert falling_memory({}) == falling_memory({1: None, 2: 5}) == []


def test_the_documentation_explains_every_flag():
    text = (ROOT / "docs/measuring.md").read_text(encoding="utf-8")
    assert [name for name, sentence in FLAGS.items() if f"| {name} | {sentence} |" not in text] == []
