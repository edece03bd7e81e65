"""Flags: what is odd about a measurement. A flag is told beside the numbers and never drops them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl

from deepgap.cells.bounds import arms_ratio, highest_share
from deepgap.cells.cell_file import LATENCY, OK, THROUGHPUT
from deepgap.cells.footer import Footer
from deepgap.study.gpus import Gpu

SLOW_CLOCK = 0.75
VARIATION = 0.025
LAUNCH_BOUND = 0.8
NEAR_PEAK = 0.6
ARMS_TOLERANCE = 0.1
ENERGY_TOLERANCE = 0.05
MEMORY_ALLOWANCE_BYTES = 32 * 2**20

HELD_SAMPLES = 0.05
HELD_CLOCK = 0.98
"""The clocks were held down where a reason for it stood in more than `HELD_SAMPLES` of an arm's samples and their
mean was under `HELD_CLOCK` of the maximum. One sample alone flagged whole batch sizes whose clock stood at its
maximum: a cap that is touched costs no clock. Of an H200's cells at batch 512 those of five modes had a sample with a
reason, and one mode ran at 0.86 of the maximum. A clock within 2 % moves a time by less than the 2.5 % of
`VARIATION`."""

NO_THROTTLING = frozenset({"none", "gpu_idle", "applications_clocks_setting"})
"""NVML's clock event reasons that are no throttling: nothing limits the clocks, the device has nothing to do, or they
are as they were set (nvml.h, nvmlClocksEventReasons). All other reasons count."""

POWER_CAP = "sw_power_cap"

FLAGS = {
    "above_peak": "more operations a second than the dense peak: FP32 convolutions computed by Winograd's algorithm",
    "arms_disagree": "throughput times median latency is more than 10 % off the batch size",
    "busy_host": "the host's load was above its number of cores, or on a GPU's host above half of it",
    "cpu_quota": "a quota of the host's control groups holds the process to less than its cores",
    "energy_mismatch": "the integral of the power is more than 5 % off the energy counter",
    "launch_bound": "launching a call takes over 0.8 of its device time (trtexec's rule)",
    "low_fidelity": "the answers agree less with those of FP32 than the study's floor asks for",
    "memory_falls": "less device memory than at a smaller batch size, by more than 32 MiB",
    "mixed_devices": "cells of one family had devices or hosts with other limits, clocks or memory",
    "mixed_engine": "cells of one family ran several builds of their engine or graph",
    "mixed_hosts": "the family is launch-bound and was timed on several hosts: its figures are those of one",
    "mixed_stack": "cells of one family were measured with different versions of software or driver",
    "near_peak": "over 60 % of the dense peak",
    "no_telemetry": "a GPU's clocks and temperature were not watched",
    "not_converged": "a run ended before its stopping rule was met",
    "partly_failed": "some sweeps of the family were timed and others failed",
    "power_held": "the power limit held the clocks under 0.98 of their maximum, in over 5 % of an arm's samples",
    "shared_device": "another process used the device",
    "slow_clock": "median SM clock under 0.75 of the default, or of the maximum without one (nvbench's rule)",
    "throttled": "heat, a brake or another cause than the power limit held the clocks down in the same way",
    "unsteady": "the warm-up reached no steady state",
    "variable": "standard deviation of the latency over 2.5 % of its mean",
    "weights_differ": "modes or sweeps of one GPU and model had different weights",
}
"""What each flag means. `memory_falls`, `partly_failed`, `weights_differ` and those that begin with `mixed` are of
families, the others of cells."""

NOT_PRIMARY = frozenset(
    {
        "busy_host",
        "cpu_quota",
        "launch_bound",
        "low_fidelity",
        "mixed_devices",
        "mixed_engine",
        "mixed_stack",
        "not_converged",
        "partly_failed",
        "shared_device",
        "slow_clock",
        "throttled",
        "unsteady",
        "weights_differ",
    }
)
"""A family with one of these is not in the primary set, of which headlines speak: that is steady, bound by the
device, converged, alone on it, of one device and software, and near enough to FP32's answers. A family whose clocks
the power limit holds down is in it: that is how fast the device is."""


def is_primary(flags: Iterable[str]) -> bool:
    """Whether a timed family with these flags is in the primary set."""
    return NOT_PRIMARY.isdisjoint(flags)


def cell_flags(rows: pl.DataFrame, footer: Footer, gpu: Gpu, floors: Mapping[str, float]) -> list[str]:
    """The flags of one cell, sorted. A failed cell has none, and what was not observed flags nothing.

    Args:
        rows: of the cell, in `cell_file.SCHEMA`.
        gpu: the profile of the recipe's gpu.
        floors: the least value of a figure of `fidelity.Fidelity`, by its name.
    """
    if set(rows["status"]) != {OK}:
        return []
    observed, provenance = footer.observed, footer.provenance
    share = highest_share(rows, footer.recipe, observed.get("facts", {}), gpu)
    fidelity = observed.get("fidelity", {})
    found = {
        "above_peak": share is not None and share[0] > 1,
        "near_peak": share is not None and NEAR_PEAK < share[0] <= 1,
        "arms_disagree": abs(arms_ratio(rows, "device_ms") - 1) > ARMS_TOLERANCE,
        "low_fidelity": any(fidelity.get(name) is not None and fidelity[name] < low for name, low in floors.items()),
        "unsteady": observed.get("steady") is False,
        "not_converged": observed.get("converged") is False,
        "energy_mismatch": _mismatch(observed.get("energy", {}).get("integral_over_counter")),
        **_latency_flags(rows),
        **_host_flags(observed, provenance["host"], gpu),
        **_telemetry_flags(observed.get("telemetry", {}), provenance["device"], gpu),
    }
    return sorted(name for name, holds in found.items() if holds)


def _mismatch(ratio: float | None) -> bool:
    return ratio is not None and abs(ratio - 1) > ENERGY_TOLERANCE


def _latency_flags(rows: pl.DataFrame) -> dict[str, bool]:
    calls = np.array(rows["arm"].to_list()) == LATENCY
    device_ms = rows["device_ms"].to_numpy()[calls]
    enqueue_ms = rows["enqueue_ms"].to_numpy()[calls]
    enqueue_ms = enqueue_ms[~np.isnan(enqueue_ms)]
    return {
        "variable": len(device_ms) > 1 and bool(np.std(device_ms, ddof=1) > VARIATION * np.mean(device_ms)),
        "launch_bound": len(enqueue_ms) > 0 and bool(np.median(enqueue_ms) > LAUNCH_BOUND * np.median(device_ms)),
    }


def _host_flags(observed: Mapping[str, Any], host: Mapping[str, Any], gpu: Gpu) -> dict[str, bool]:
    load, cores = observed.get("host_load") or 0.0, host.get("logical_cores") or np.inf
    # A cell on a processor loads all of its cores, and so did the one before it.
    own = 1.0 if gpu.device == "cpu" else 0.5
    return {
        "busy_host": bool(load > own * cores + 1),
        "cpu_quota": (host.get("limits") or {}).get("cpu_quota_cores") is not None,
    }


def _telemetry_flags(telemetry: Mapping[str, Any], device: Mapping[str, Any], gpu: Gpu) -> dict[str, bool]:
    if not telemetry.get("samples"):
        return {"no_telemetry": gpu.device == "cuda"}
    arms = telemetry.get("arms", {})
    watched = [arms[name] for name in (LATENCY, THROUGHPUT) if name in arms]
    held = [_holding(arm) for arm in watched]
    clock = arms.get(THROUGHPUT, {}).get("sm_clock_median_mhz")
    usual = device.get("default_sm_clock_mhz") or device.get("max_sm_clock_mhz") or gpu.max_sm_clock_mhz
    return {
        "power_held": any(POWER_CAP in reasons for reasons in held),
        "throttled": any(reasons - {POWER_CAP} for reasons in held),
        "slow_clock": clock is not None and usual is not None and clock < SLOW_CLOCK * usual,
        "shared_device": (telemetry.get("other_processes") or 0) > 0,
    }


def _holding(arm: Mapping[str, Any]) -> set[str]:
    """The reasons that held an arm's clocks down; see `HELD_SAMPLES`."""
    share = arm.get("sm_clock_mean_share")
    if share is None or share >= HELD_CLOCK:
        return set()
    held = {name for name, part in (arm.get("throttle_shares") or {}).items() if part > HELD_SAMPLES}
    return held - NO_THROTTLING


def falling_memory(memory_bytes: Mapping[int, int | None]) -> list[int]:
    """The batch sizes that use less device memory than a smaller one of the same curve, by more than
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
