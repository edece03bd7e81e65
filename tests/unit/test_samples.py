"""What samples say of an arm is said by that arm's samples alone."""

from __future__ import annotations

import json

import polars as pl

from deepgap.cells.cell_file import SCHEMA
from deepgap.cells.telemetry_file import CLOCK_EVENT_REASONS
from deepgap.measure.samples import describe_samples, device_memory_peak
from tests.unit.fake_device import samples_of

IDLE, CAP, SLOWED = (CLOCK_EVENT_REASONS[name] for name in ("gpu_idle", "sw_power_cap", "hw_slowdown"))


def spans(*arms: tuple[str, int, float, float]) -> pl.DataFrame:
    """Rows of an arm and run from a time on, for so many milliseconds."""
    rows = [("ok", None, arm, run, 1, 1, start, lasted, lasted, None) for arm, run, start, lasted in arms]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def test_flags_of_one_arm_are_not_those_of_another():
    samples = samples_of(
        power_w=[1.0, 10.0, 20.0, 60.0, 500.0],
        sm_clock_mhz=[210, 1500, 1200, 1400, 300],
        temperature_c=[90, 40, 44, 42, 95],
        clock_event_reasons=[IDLE, CAP, CAP | SLOWED, 0, IDLE],
        compute_processes=[9, 1, 3, 2, 9],
    )
    found = describe_samples(samples, spans(("latency", 1, 0, 40), ("throughput", 1, 50, 100)), 2000)
    assert (found["samples"], found["interval_ms"], found["other_processes"]) == (5, 50.0, 8)
    assert found["arms"]["throughput"] == {
        "samples": 3,
        "sm_clock_median_mhz": 1400.0,
        "sm_clock_min_mhz": 1200,
        "sm_clock_mean_share": (1500 + 1200 + 1400) / 3 / 2000,
        "temperature_max_c": 44,
        "power_mean_w": 30.0,
        "power_semantics": "nvmlDeviceGetPowerUsage",
        "throttle_shares": {"sw_power_cap": 2 / 3, "hw_slowdown": 1 / 3},
    }
    assert found["arms"]["latency"]["throttle_shares"] == {"gpu_idle": 1.0}


def test_an_arm_is_the_samples_of_all_its_runs_and_none_between_them():
    samples = samples_of(temperature_c=[1, 2, 3, 4, 5, 6])
    rows = spans(("latency", 1, 0, 50), ("throughput", 1, 60, 90), ("latency", 2, 160, 90))
    found = describe_samples(samples, rows, None)["arms"]
    assert (found["latency"]["samples"], found["throughput"]["samples"]) == (4, 2)
    assert found["throughput"]["temperature_max_c"] == 4
    assert found["latency"]["sm_clock_mean_share"] is None


def test_instantaneous_power_is_preferred_where_it_is_always_known():
    rows = spans(("throughput", 1, 0, 50))
    known = describe_samples(samples_of(power_w=[10.0, 10.0], power_instant_w=[30.0, 50.0]), rows, None)
    partly = describe_samples(samples_of(power_w=[10.0, 14.0], power_instant_w=[30.0, None]), rows, None)
    means = [about["arms"]["throughput"] for about in (known, partly)]
    assert [(arm["power_mean_w"], arm["power_semantics"]) for arm in means] == [
        (40.0, "NVML_FI_DEV_POWER_INSTANT"),
        (12.0, "nvmlDeviceGetPowerUsage"),
    ]


def test_what_is_not_known_is_null_and_plain():
    for samples in (samples_of(power_w=[None] * 3), samples_of(power_w=[])):
        found = describe_samples(samples, spans(("latency", 1, 0, 1000)), 2000)
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        arm = found["arms"]["latency"]
        assert arm["throttle_shares"] == {} and arm["sm_clock_mean_share"] is None
        assert found["other_processes"] is None
        assert device_memory_peak(samples) is None


def test_a_process_that_is_hidden_is_not_counted_below_zero():
    samples = samples_of(compute_processes=[0, 0])
    assert describe_samples(samples, spans(("latency", 1, 0, 50)), None)["other_processes"] == 0


def test_the_peak_of_memory_is_the_highest_sample():
    assert device_memory_peak(samples_of(memory_used_bytes=[5, None, 900, 7])) == 900
