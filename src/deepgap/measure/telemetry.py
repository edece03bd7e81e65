"""What the device did while a cell was measured: sampled through NVML by a process of its own.

The samples have the clock of the cell's timed spans (CLOCK_MONOTONIC, which all processes of a host share), as
milliseconds since the cell's start.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

import polars as pl

from deepgap.cells.telemetry_file import INTERVAL_S, SAMPLES
from deepgap.measure.locks import release_all

COUNTER_INTERVAL_S = 0.005
"""Between two looks at the energy counter, whose own steps are about 100 ms apart."""
ANSWER_S = 5.0
"""How long a sampling process may take to hand over its samples: a call of a broken driver may never return."""
HIGHEST_POWER_W = 3000.0
LIMITS = {
    "temperature_c": (0, 150),
    "power_w": (0, HIGHEST_POWER_W),
    "power_average_w": (0, HIGHEST_POWER_W),
    "power_instant_w": (0, HIGHEST_POWER_W),
    "energy_mj": (0, 2**63 - 1),
    "sm_clock_mhz": (0, 10_000),
    "memory_clock_mhz": (0, 50_000),
    "utilisation_percent": (0, 100),
    "memory_utilisation_percent": (0, 100),
    "memory_used_bytes": (0, 2**44),
    "clock_event_reasons": (0, 2**32 - 1),
    "performance_state": (0, 15),
    "compute_processes": (0, 100_000),
}
"""What a reading can be at all. A driver tells nonsense now and then, and 32 for a performance state not known."""
POWER_OVER_LIMIT = 5
"""A card cannot take this many times the power that it is held to, for no moment."""
COUNTER_DELAY_MS = 1000
"""The energy counter moves in steps: it may tell at once what was used so long before."""

Reader: TypeAlias = "Callable[[], dict[str, int | float | None]]"
"""Reads one sample without its times: a value for each column of `SAMPLES` that is known."""

Counter: TypeAlias = "Callable[[], int | None]"
"""Reads the energy counter in millijoules; null where the device has none."""


@dataclass(frozen=True)
class Samples:
    """What was sampled, in `SAMPLES`, and why there is nothing where it is empty (`absent`)."""

    frame: pl.DataFrame
    absent: str | None = None


class Telemetry:
    """A process that samples a device until it is stopped, or until the process that started it is gone."""

    def __init__(
        self,
        open_reader: Callable[[], Reader],
        zero_ns: int,
        core: int | None = None,
        open_counter: Callable[[], Counter] | None = None,
    ) -> None:
        """Start sampling.

        Args:
            open_reader: called in the sampling process; for a GPU `lambda: open_nvml(index)`.
            zero_ns: the time of `time.perf_counter_ns` from which the samples' times count.
            core: the core on which to run, beside those of what is measured; null leaves it to the system.
            open_counter: likewise called there; then the energy counter is read between samples, too, for the time
                of its steps. Null where sampling has no core of its own.
        """
        # A fork, because a new interpreter would take seconds of the cell's time. This process has not touched CUDA.
        context = multiprocessing.get_context("fork")
        self._connection, other = context.Pipe()
        # A daemon, because an interpreter that ends by an exception would wait for any other process before it closes
        # the connection.
        arguments = (self._connection, other, open_reader, zero_ns, core, open_counter)
        self._process = context.Process(target=_sample, args=arguments, daemon=True)
        self._process.start()
        other.close()

    def stop(self) -> Samples:
        """End the process and return its samples.

        A process that has failed, was killed, or does not answer within `ANSWER_S` gives none, with the reason:
        nothing is invented in their place, and what was measured beside it stays.
        """
        nothing = pl.DataFrame(schema=SAMPLES)
        try:
            # A process that has failed reads no more, and has left its reason.
            with suppress(BrokenPipeError):
                self._connection.send(None)
            if not self._connection.poll(ANSWER_S):
                self._process.kill()
                return Samples(nothing, f"the process that samples the device did not answer for {ANSWER_S:g} s")
            rows = self._connection.recv()
        except (EOFError, OSError):
            return Samples(nothing, "the process that samples the device ended before the cell did")
        finally:
            self.close()
        if isinstance(rows, str):
            return Samples(nothing, f"the device could not be sampled ({rows})")
        return Samples(_without_odd_energy(pl.DataFrame(rows, schema=SAMPLES)))

    def close(self) -> None:
        """End the process without its samples. Safe to call twice."""
        self._connection.close()
        self._process.join(timeout=ANSWER_S)
        # A driver's call may hang, which must not keep the cell: not even a kill ends it then.
        self._process.kill()
        self._process.join(timeout=1)


def _sample(
    mine: Connection,
    connection: Connection,
    open_reader: Callable[[], Reader],
    zero_ns: int,
    core: int | None,
    open_counter: Callable[[], Counter] | None,
) -> None:
    """Sample until the other end asks for the samples, or is closed."""
    # Never return: what this process inherited is its parent's to clean up.
    try:
        mine.close()
        # A hung process keeps no lock: the parent's own hold goes on.
        release_all()
        if core is not None:
            with suppress(OSError):
                os.sched_setaffinity(0, {core})
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        connection.send(_collect(connection, open_reader, zero_ns, open_counter))
    except (EOFError, OSError):
        pass
    finally:
        os._exit(0)


def _collect(
    connection: Connection,
    open_reader: Callable[[], Reader],
    zero_ns: int,
    open_counter: Callable[[], Counter] | None,
) -> list[dict[str, Any]] | str:
    rows: list[dict[str, Any]] = []
    try:
        read, counter = open_reader(), open_counter and open_counter()
        seen = _Seen(zero_ns)
        due = time.perf_counter()
        while not _wait(connection, due, seen, counter):
            began = time.perf_counter_ns()
            readings = within_limits(read())
            seen.look(readings.get("energy_mj"), began)
            rows.append({"time_ms": (began - zero_ns) / 1e6, **readings, "energy_since_ms": seen.since_ms})
            due = max(due + INTERVAL_S, time.perf_counter())
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    connection.recv()
    return rows


@dataclass
class _Seen:
    """The energy counter's value, and when it was first seen at it, in milliseconds since the zero."""

    zero_ns: int
    value: float | None = None
    since_ms: float | None = None

    def look(self, value: float | None, at_ns: int) -> None:
        if value != self.value:
            self.value = value
            self.since_ms = None if value is None else (at_ns - self.zero_ns) / 1e6


def _wait(connection: Connection, due: float, seen: _Seen, counter: Counter | None) -> bool:
    """Wait until a sample is due and look at the counter meanwhile; whether the samples are asked for."""
    while counter is not None and due - time.perf_counter() > COUNTER_INTERVAL_S:
        if connection.poll(COUNTER_INTERVAL_S):
            return True
        at_ns = time.perf_counter_ns()
        seen.look(counter(), at_ns)
    return connection.poll(max(0.0, due - time.perf_counter()))


def within_limits(readings: Mapping[str, int | float | None]) -> dict[str, int | float | None]:
    """The readings, null where one cannot be (`LIMITS`)."""
    kept = dict(readings)
    for name, (low, high) in LIMITS.items():
        value = kept.get(name)
        if value is not None and not low <= value <= high:
            kept[name] = None
    return kept


def _without_odd_energy(samples: pl.DataFrame) -> pl.DataFrame:
    """The samples without values of the energy counter that fit neither the one before nor the one after.

    Between two samples the counter grows, and by no more than the highest power could.
    """
    step, span_ms = pl.col("energy_mj").diff(), pl.col("time_ms").diff()
    fits = step.is_between(0, HIGHEST_POWER_W * (span_ms + COUNTER_DELAY_MS)).fill_null(True)
    # The first has none before it, the last none after.
    before, after = fits & (pl.int_range(pl.len()) > 0), fits.shift(-1, fill_value=False)
    alone = pl.len() < 3
    return samples.with_columns(pl.when(before | after | alone).then("energy_mj"))


def open_nvml(index: int) -> Reader:
    """A reader of the device of this NVML index. Starts NVML in the calling process."""
    import pynvml as nvml

    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    reasons = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
    reasons = reasons or nvml.nvmlDeviceGetCurrentClocksThrottleReasons

    def ask(query: Callable[..., Any], *arguments: Any) -> Any:
        # A reading that fails in whatever way is absent, and the others are not.
        with suppress(Exception):
            return query(handle, *arguments)
        return None

    limit = ask(nvml.nvmlDeviceGetEnforcedPowerLimit)
    highest_w = POWER_OVER_LIMIT * limit / 1000 if limit else HIGHEST_POWER_W

    def watts(milliwatts: int | None) -> float | None:
        return None if milliwatts is None or milliwatts > highest_w * 1000 else milliwatts / 1000

    def field_watts(field: int) -> float | None:
        values = ask(nvml.nvmlDeviceGetFieldValues, [field])
        if values is None or values[0].nvmlReturn != nvml.NVML_SUCCESS:
            return None
        return watts(int(values[0].value.uiVal))

    def read() -> dict[str, int | float | None]:
        use = ask(nvml.nvmlDeviceGetUtilizationRates)
        memory = ask(nvml.nvmlDeviceGetMemoryInfo)
        processes = ask(nvml.nvmlDeviceGetComputeRunningProcesses)
        return {
            "temperature_c": ask(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
            "power_w": watts(ask(nvml.nvmlDeviceGetPowerUsage)),
            "power_average_w": field_watts(nvml.NVML_FI_DEV_POWER_AVERAGE),
            "power_instant_w": field_watts(nvml.NVML_FI_DEV_POWER_INSTANT),
            "energy_mj": ask(nvml.nvmlDeviceGetTotalEnergyConsumption),
            "sm_clock_mhz": ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
            "memory_clock_mhz": ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM),
            "utilisation_percent": None if use is None else use.gpu,
            "memory_utilisation_percent": None if use is None else use.memory,
            "memory_used_bytes": None if memory is None else memory.used,
            "clock_event_reasons": ask(reasons),
            "performance_state": ask(nvml.nvmlDeviceGetPerformanceState),
            "compute_processes": None if processes is None else len(processes),
        }

    return read


def open_nvml_counter(index: int) -> Counter:
    """The energy counter of the device of this NVML index. Starts NVML in the calling process."""
    import pynvml as nvml

    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def read() -> int | None:
        with suppress(nvml.NVMLError):
            return int(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        return None

    return read
