"""Flags: what is odd about a measurement. A flag is told beside the numbers and never drops them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from deepgap.cells.bounds import arms_ratio, highest_share
from deepgap.cells.cell_file import LATENCY, OK, THROUGHPUT
from deepgap.study.gpus import Gpu

SLOW_CLOCK = 0.75
VARIATION = 0.025
LAUNCH_BOUND = 0.8
NEAR_PEAK = 0.6
ARMS_TOLERANCE = 0.1
MEMORY_ALLOWANCE_BYTES = 32 * 2**20

NO_THROTTLING = frozenset({"none", "gpu_idle", "applications_clocks_setting"})
"""NVML's clock event reasons that are no throttling: nothing limits the clocks, the device has nothing to do, or they
are as they were set (nvml.h, nvmlClocksEventReasons). All other reasons count."""

FLAGS = {
    "above_peak": "more operations a second than the dense peak: FP32 convolutions computed by Winograd's algorithm",
    "arms_disagree": "throughput times median latency is more than 10 % off the batch size",
    "launch_bound": "launching a call takes over 0.8 of its device time (trtexec's rule)",
    "low_fidelity": "the answers agree less with those of FP32 than the study's floor asks for",
    "memory_falls": "less device memory than at a smaller batch size, by more than 32 MiB",
    "mixed_stack": "cells of one family were measured with different versions of software or driver",
    "near_peak": "over 60 % of the dense peak",
    "no_telemetry": "a GPU's clocks and temperature were not watched",
    "partly_failed": "some sweeps of the family were timed and others failed",
    "shared_device": "another process used the device",
    "slow_clock": "median SM clock under 0.75 of the default, or of the maximum without one (nvbench's rule)",
    "throttled": "the driver or the hardware held the clocks down",
    "unsteady": "the warm-up reached no steady state",
    "variable": "standard deviation of the latency over 2.5 % of its mean",
    "weights_differ": "modes or sweeps of one GPU and model had different weights",
}
"""What each flag means. `memory_falls`, `mixed_stack`, `partly_failed` and `weights_differ` are of families, the
others of cells."""


def cell_flags(
    rows: pl.DataFrame,
    recipe: Mapping[str, Any],
    observed: Mapping[str, Any],
    provenance: Mapping[str, Any],
    gpu: Gpu,
    floors: Mapping[str, float],
) -> list[str]:
    """The flags of one cell, sorted. A failed cell has none, and what was not observed flags nothing.

    Args:
        rows: of the cell, in `cells.SCHEMA`.
        recipe, observed, provenance: of its footer.
        gpu: the profile of the recipe's gpu.
        floors: the least value of a figure of `fidelity.Fidelity`, by its name.
    """
    if set(rows["status"]) != {OK}:
        return []
    share = highest_share(rows, recipe, observed.get("facts", {}), gpu)
    fidelity = observed.get("fidelity", {})
    found = {
        "above_peak": share is not None and share[0] > 1,
        "near_peak": share is not None and NEAR_PEAK < share[0] <= 1,
        "arms_disagree": abs(arms_ratio(rows, "device_ms") - 1) > ARMS_TOLERANCE,
        "low_fidelity": any(fidelity.get(name) is not None and fidelity[name] < low for name, low in floors.items()),
        "unsteady": observed.get("steady") is False,
        **_latency_flags(rows),
        **_telemetry_flags(observed.get("telemetry", {}), provenance, gpu),
    }
    return sorted(name for name, holds in found.items() if holds)


def _latency_flags(rows: pl.DataFrame) -> dict[str, bool]:
    calls = np.array(rows["arm"].to_list()) == LATENCY
    device_ms = rows["device_ms"].to_numpy()[calls]
    enqueue_ms = rows["enqueue_ms"].to_numpy()[calls]
    enqueue_ms = enqueue_ms[~np.isnan(enqueue_ms)]
    return {
        "variable": len(device_ms) > 1 and bool(np.std(device_ms, ddof=1) > VARIATION * np.mean(device_ms)),
        "launch_bound": len(enqueue_ms) > 0 and bool(np.median(enqueue_ms) > LAUNCH_BOUND * np.median(device_ms)),
    }


def _telemetry_flags(telemetry: Mapping[str, Any], provenance: Mapping[str, Any], gpu: Gpu) -> dict[str, bool]:
    if not telemetry.get("samples"):
        return {"no_telemetry": gpu.device == "cuda"}
    arms = telemetry.get("arms", {})
    clock = arms.get(THROUGHPUT, {}).get("sm_clock_median_mhz")
    reasons = {name for arm in arms.values() for name, share in arm.get("throttle_shares", {}).items() if share}
    device = provenance.get("device", {})
    usual = device.get("default_sm_clock_mhz") or device.get("max_sm_clock_mhz") or gpu.max_sm_clock_mhz
    return {
        "throttled": bool(reasons - NO_THROTTLING),
        "slow_clock": clock is not None and usual is not None and clock < SLOW_CLOCK * usual,
        "shared_device": (telemetry.get("other_processes") or 0) > 0,
    }


def falling_memory(memory_bytes: Mapping[int, int | None]) -> list[int]:
    """The batch sizes that use less device memory than a smaller one of the same sweep, by more than
    `MEMORY_ALLOWANCE_BYTES`, ascending.

    Args:
        memory_bytes: by batch size; null where it is not known.
    """
    falling, most = [], 0
    for batch_size, used in sorted(memory_bytes.items()):
        if used is not None:
            if used < most - MEMORY_ALLOWANCE_BYTES:
                falling.append(batch_size)
            most = max(most, used)
    return falling
