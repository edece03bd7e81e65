"""Each flag is raised by what it stands for and by nothing less."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from deepgap.analyse.flags import FLAGS, NOT_PRIMARY, cell_flags, falling_memory, is_primary
from deepgap.cells.cell_file import failure_row
from tests.conftest import ROOT
from tests.unit.synthetic import GPUS, synthetic_footer, synthetic_recipe, synthetic_rows

FLOORS = {"top1_agreement": 0.95, "centred_sqnr_db": 10}
HEALTHY = synthetic_rows([[10.0, 10.01]] * 2, [10.0, 10.0])
RECIPE = synthetic_recipe("H200", "resnet50", "eager-fp16", 64)
TELEMETRY: dict[str, Any] = synthetic_footer(RECIPE).observed["telemetry"]


def flags(rows: pl.DataFrame = HEALTHY, recipe: dict[str, Any] = RECIPE, **observed: Any) -> list[str]:
    footer = synthetic_footer(recipe, **observed)
    return cell_flags(rows, footer, GPUS[recipe["gpu"]], FLOORS)


def telemetry(arm: str = "throughput", **changes: Any) -> dict[str, Any]:
    """Telemetry of a healthy cell with one arm changed."""
    arms: dict[str, Any] = TELEMETRY["arms"]
    return TELEMETRY | {"arms": arms | {arm: arms[arm] | changes}}


def at_share(share: float, peak_tops: float) -> pl.DataFrame:
    time = 2 * 4.09 * 64 / (share * peak_tops)
    return synthetic_rows([[time, time]] * 2, [time, time])


def test_a_healthy_cell_has_no_flag() -> None:
    assert flags() == []
    assert flags(recipe=synthetic_recipe("CPU", "resnet50", "eager-fp32", 64)) == []


HELD = {"sm_clock_mean_share": 0.9, "throttle_shares": {"sw_power_cap": 0.5}}


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        (telemetry(**HELD), ["power_held"]),
        (telemetry("latency", **HELD), ["power_held"]),
        (telemetry(sm_clock_mean_share=0.9, throttle_shares={"hw_thermal_slowdown": 0.06}), ["throttled"]),
        (telemetry(sm_clock_mean_share=0.9, throttle_shares={"hw_thermal_slowdown": 0.04}), []),
        (telemetry(sm_clock_mean_share=0.99, throttle_shares={"sw_power_cap": 1.0}), []),
        (telemetry(sm_clock_mean_share=0.5, throttle_shares={"gpu_idle": 1.0, "none": 1.0}), []),
        (telemetry(sm_clock_median_mhz=0.76 * 1900), []),
        (telemetry(sm_clock_median_mhz=0.74 * 1900), ["slow_clock"]),
        (telemetry("latency", sm_clock_median_mhz=0.74 * 1900), []),
        (TELEMETRY | {"other_processes": 1}, ["shared_device"]),
        (telemetry(sm_clock_median_mhz=None, sm_clock_mean_share=None, throttle_shares={}), []),
        (TELEMETRY | {"arms": {}}, []),
        (TELEMETRY | {"samples": 0}, ["no_telemetry"]),
    ],
)
def test_what_the_device_tells(observed: dict[str, Any], expected: list[str]) -> None:
    assert flags(telemetry=observed) == expected


def test_clocks_count_in_the_arms_that_are_reported() -> None:
    """A reason during a burst or while answers are checked flagged whole batch sizes."""
    arms = TELEMETRY["arms"] | {"burst": TELEMETRY["arms"]["latency"] | HELD}
    assert flags(telemetry=TELEMETRY | {"arms": arms}) == []


def test_without_a_default_clock_the_maximum_counts() -> None:
    footer = synthetic_footer(RECIPE, telemetry=telemetry(sm_clock_median_mhz=0.76 * 1900))
    for default, highest, expected in ((1900, 3000, []), (None, 3000, ["slow_clock"]), (None, None, ["slow_clock"])):
        footer.provenance["device"] = {"default_sm_clock_mhz": default, "max_sm_clock_mhz": highest}
        assert cell_flags(HEALTHY, footer, GPUS["H200"], FLOORS) == expected


@pytest.mark.parametrize(
    ("gpu", "load", "expected"),
    [
        ("H200", 5.0, []),
        ("H200", 5.1, ["busy_host"]),
        ("CPU", 9.0, []),
        ("CPU", 9.1, ["busy_host"]),
        ("CPU", None, []),
    ],
)
def test_a_host_with_more_to_do_than_its_cell(gpu: str, load: float | None, expected: list[str]) -> None:
    mode = "eager-fp32" if gpu == "CPU" else "eager-fp16"
    assert flags(recipe=synthetic_recipe(gpu, "resnet50", mode, 64), host_load=load) == expected


def test_a_quota_of_the_host() -> None:
    footer = synthetic_footer(RECIPE)
    footer.provenance["host"]["limits"] = {"usable_cores": 1.5, "cpu_quota_cores": 1.5}
    assert cell_flags(HEALTHY, footer, GPUS["H200"], FLOORS) == ["cpu_quota"]


@pytest.mark.parametrize(("ratio", "expected"), [(0.951, []), (1.049, []), (0.94, ["energy_mismatch"]), (None, [])])
def test_the_energy_counter_against_the_power(ratio: float | None, expected: list[str]) -> None:
    assert flags(energy={"integral_over_counter": ratio}) == expected


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
    assert flags(converged=False) == ["not_converged"]
    assert flags(fidelity={"top1_agreement": 0.95}) == flags(fidelity={"top1_agreement": None}) == []
    assert flags(fidelity={"top1_agreement": 0.94}) == ["low_fidelity"]
    assert flags(fidelity={"top1_agreement": 1.0, "centred_sqnr_db": 4.8}) == ["low_fidelity"]
    assert flags(fidelity={"top1_agreement": 1.0, "centred_sqnr_db": 16.2}) == []
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
    assert all(FLAGS.values()) and set(FLAGS) > NOT_PRIMARY
    everything = flags(
        synthetic_rows([[1.0, 2.0]], [1.0], enqueue=0.9),
        steady=False,
        converged=False,
        fidelity={"top1_agreement": 0.0},
        telemetry=telemetry(sm_clock_median_mhz=1, sm_clock_mean_share=0.1, throttle_shares={"sync_boost": 1.0})
        | {"other_processes": 3},
    )
    assert len(everything) == 9 and everything == sorted(everything) and set(everything) <= set(FLAGS)


def test_the_primary_set_holds_what_the_power_limit_holds() -> None:
    assert is_primary([]) and is_primary(["power_held", "near_peak", "variable"])
    assert not is_primary(["launch_bound"]) and not is_primary(["near_peak", "not_converged"])


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
