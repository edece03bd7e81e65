"""What a device's samples say of the arms of a cell."""

from __future__ import annotations

from typing import Any

import polars as pl

from deepgap.cells.telemetry_file import CLOCK_EVENT_REASONS

INSTANT, USAGE = ("power_instant_w", "NVML_FI_DEV_POWER_INSTANT"), ("power_w", "nvmlDeviceGetPowerUsage")


def describe_samples(samples: pl.DataFrame, rows: pl.DataFrame, max_sm_clock_mhz: float | None) -> dict[str, Any]:
    """`observed.telemetry` of a footer: the whole cell, and each arm by its own samples.

    Args:
        samples: of the cell, in `telemetry_file.SAMPLES`.
        rows: of the cell, in `cell_file.SCHEMA`, timed.
        max_sm_clock_mhz: the most that the card may run at; null where it is not known.
    """
    processes = samples["compute_processes"].max()
    return {
        "samples": samples.height,
        "interval_ms": samples["time_ms"].diff().median(),
        "other_processes": None if processes is None else max(0, processes - 1),  # type: ignore[operator]
        "arms": {
            arm: _describe_arm(_within_arm(samples, rows, arm), max_sm_clock_mhz)
            for arm in rows["arm"].unique(maintain_order=True)
        },
    }


def device_memory_peak(samples: pl.DataFrame) -> int | None:
    """The most device memory in use that a sample saw, in bytes; null where none did."""
    peak: int | None = samples["memory_used_bytes"].max()  # type: ignore[assignment]
    return peak


def power_readings(samples: pl.DataFrame) -> tuple[str, str]:
    """The column of power readings to be used, and what NVML says that it means.

    The reading of the moment where every sample has one: what `nvmlDeviceGetPowerUsage` means depends on the device.
    """
    return INSTANT if samples.height and samples[INSTANT[0]].null_count() == 0 else USAGE


def _within_arm(samples: pl.DataFrame, rows: pl.DataFrame, arm: str) -> pl.DataFrame:
    """The samples between the first and the last span of an arm in each run."""
    runs = (
        rows.filter(pl.col("arm") == arm)
        .group_by("run")
        .agg(pl.col("start_ms").min(), end_ms=(pl.col("start_ms") + pl.col("host_ms")).max())
    )
    inside = [
        pl.col("time_ms").is_between(start, end) for start, end in runs.select("start_ms", "end_ms").iter_rows()
    ]
    return samples.filter(pl.any_horizontal(inside))


def _describe_arm(samples: pl.DataFrame, max_sm_clock_mhz: float | None) -> dict[str, Any]:
    power, semantics = power_readings(samples)
    clock_mhz: float | None = samples["sm_clock_mhz"].mean()  # type: ignore[assignment]
    known = None if clock_mhz is None or not max_sm_clock_mhz else clock_mhz / max_sm_clock_mhz
    return {
        "samples": samples.height,
        "sm_clock_median_mhz": samples["sm_clock_mhz"].median(),
        "sm_clock_min_mhz": samples["sm_clock_mhz"].min(),
        "sm_clock_mean_share": known,
        "temperature_max_c": samples["temperature_c"].max(),
        "power_mean_w": samples[power].mean(),
        "power_semantics": semantics,
        "throttle_shares": throttle_shares(samples),
    }


def throttle_shares(samples: pl.DataFrame) -> dict[str, float]:
    """The part of the samples at which each reason held the clocks, of those that tell; reasons never seen are left
    out."""
    masks = samples["clock_event_reasons"].drop_nulls().to_list()
    counts = {name: sum(bool(mask & bit) for mask in masks) for name, bit in CLOCK_EVENT_REASONS.items()}
    return {name: count / len(masks) for name, count in counts.items() if count}
