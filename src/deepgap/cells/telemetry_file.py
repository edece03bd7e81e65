"""The file of a device's samples, beside the cell that they were taken for.

The samples have the clock of the cell's timed spans (CLOCK_MONOTONIC, which all processes of a host share), as
milliseconds since the cell's start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from deepgap.errors import TelemetryError
from deepgap.files import put_in_place, read_parquet, write_parquet

FORMAT = 2
FOOTER_KEY = "deepgap"
INTERVAL_S = 0.05
"""Between the beginnings of two samples: 20 Hz."""

SAMPLES = pl.Schema(
    {
        "time_ms": pl.Float64,
        "temperature_c": pl.Int64,
        "power_w": pl.Float64,
        "power_average_w": pl.Float64,
        "power_instant_w": pl.Float64,
        "energy_mj": pl.Int64,
        "energy_since_ms": pl.Float64,
        "sm_clock_mhz": pl.Int64,
        "memory_clock_mhz": pl.Int64,
        "utilisation_percent": pl.Int64,
        "memory_utilisation_percent": pl.Int64,
        "memory_used_bytes": pl.Int64,
        "clock_event_reasons": pl.Int64,
        "performance_state": pl.Int64,
        "compute_processes": pl.Int64,
    }
)
"""A row is one sample; what the device does not tell is null.

time_ms: when the sample began, since the cell's start.
power_w: `nvmlDeviceGetPowerUsage`, whose meaning depends on the device: of the moment up to Turing and on GA100, an
    average over one second on later ones (NVML's documentation). power_average_w and power_instant_w are NVML's
    fields that say which they are.
energy_mj: total energy counter in millijoules since the driver was loaded. energy_since_ms: when the counter was
    first seen at this value, since the cell's start; it is read more often than samples are taken.
clock_event_reasons: NVML's bit mask of why the clocks are not higher; see `CLOCK_EVENT_REASONS`.
compute_processes: processes with a compute context on the device.
"""

CLOCK_EVENT_REASONS = {
    "gpu_idle": 0x1,
    "applications_clocks_setting": 0x2,
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sync_boost": 0x10,
    "sw_thermal_slowdown": 0x20,
    "hw_thermal_slowdown": 0x40,
    "hw_power_brake_slowdown": 0x80,
    "display_clock_setting": 0x100,
}
"""The bits of `clock_event_reasons` (nvml.h, nvmlClocksEventReasons)."""


def write_telemetry(path: Path, samples: pl.DataFrame, about: Mapping[str, Any]) -> None:
    """Write samples in one step; `about` are JSON values that say what they belong to."""
    text = json.dumps({"format": FORMAT, **about}, sort_keys=True, allow_nan=False)
    with put_in_place(path) as partial:
        write_parquet(partial, samples, {FOOTER_KEY: text})


def read_telemetry(path: Path) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Samples in `SAMPLES`, and what they belong to.

    Raises:
        TelemetryError: the file is missing, damaged or foreign.
    """
    try:
        samples, footer = read_parquet(path)
        about = json.loads(footer[FOOTER_KEY])
        known = about.pop("format") == FORMAT
    except FileNotFoundError:
        raise TelemetryError(f"{path} does not exist.") from None
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        known = False
    if not known or samples.schema != SAMPLES:
        raise TelemetryError(f"{path} is damaged or is not telemetry of this version; remove it.")
    return samples, about
