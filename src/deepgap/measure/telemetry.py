"""What the device did while a cell was measured: sampled through NVML by a process of its own.

The samples have the clock of the cell's timed spans (CLOCK_MONOTONIC, which all processes of a host share), as
milliseconds since the cell's start.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

import polars as pl

from deepgap.cells.telemetry_file import CLOCK_EVENT_REASONS, INTERVAL_S, SAMPLES
from deepgap.errors import TelemetryError

MINIMUM_ENERGY_S = 5.0

Reader: TypeAlias = "Callable[[], dict[str, int | float | None]]"
"""Reads one sample without its time: a value for each column of `SAMPLES` that is known."""


class Telemetry:
    """A process that samples a device until it is stopped, or until the process that started it is gone."""

    def __init__(self, open_reader: Callable[[], Reader], zero_ns: int) -> None:
        """Start sampling.

        Args:
            open_reader: called in the sampling process; for a GPU `lambda: open_nvml(index)`.
            zero_ns: the time of `time.perf_counter_ns` from which the samples' times count.
        """
        # A fork, because a new interpreter would take seconds of the cell's time. This process has not touched CUDA.
        context = multiprocessing.get_context("fork")
        self._connection, other = context.Pipe()
        # A daemon, because an interpreter that ends by an exception would wait for any other process before it closes
        # the connection.
        arguments = (self._connection, other, open_reader, zero_ns)
        self._process = context.Process(target=_sample, args=arguments, daemon=True)
        self._process.start()
        other.close()

    def stop(self) -> pl.DataFrame:
        """End the process and return its samples, in `SAMPLES`.

        Raises:
            TelemetryError: the process ended before, by whatever cause; nothing is invented in its place.
        """
        try:
            # A process that has failed reads no more, and has left its reason.
            with suppress(BrokenPipeError):
                self._connection.send(None)
            rows = self._connection.recv()
        except (EOFError, OSError):
            raise TelemetryError(
                "The process that samples the device ended before the cell did, so the cell's clocks and power are "
                "not known; run Snakemake again to measure it."
            ) from None
        finally:
            self.close()
        if isinstance(rows, str):
            raise TelemetryError(
                f"The device could not be sampled ({rows}); run Snakemake again to measure the cell."
            )
        return pl.DataFrame(rows, schema=SAMPLES)

    def close(self) -> None:
        """End the process without its samples. Safe to call twice."""
        self._connection.close()
        self._process.join(timeout=5)
        # A driver's call may hang, which must not keep the cell.
        self._process.kill()
        self._process.join()


def _sample(mine: Connection, connection: Connection, open_reader: Callable[[], Reader], zero_ns: int) -> None:
    """Sample until the other end asks for the samples, or is closed."""
    # Never return: what this process inherited, above all the device's lock, is its parent's to clean up.
    try:
        mine.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        connection.send(_collect(connection, open_reader, zero_ns))
    except (EOFError, OSError):
        pass
    finally:
        os._exit(0)


def _collect(connection: Connection, open_reader: Callable[[], Reader], zero_ns: int) -> list[dict[str, Any]] | str:
    rows: list[dict[str, Any]] = []
    try:
        read = open_reader()
        due = time.perf_counter()
        while not connection.poll(max(0.0, due - time.perf_counter())):
            began = time.perf_counter_ns()
            rows.append({"time_ms": (began - zero_ns) / 1e6, **read()})
            due = max(due + INTERVAL_S, time.perf_counter())
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    connection.recv()
    return rows


def open_nvml(index: int) -> Reader:
    """A reader of the device of this NVML index. Starts NVML in the calling process."""
    import pynvml as nvml

    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    reasons = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
    reasons = reasons or nvml.nvmlDeviceGetCurrentClocksThrottleReasons

    def ask(query: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return query(handle, *arguments)
        except nvml.NVMLError:
            return None

    def watts(field: int) -> float | None:
        values = ask(nvml.nvmlDeviceGetFieldValues, [field])
        if values is None or values[0].nvmlReturn != nvml.NVML_SUCCESS:
            return None
        return float(values[0].value.uiVal) / 1000

    def read() -> dict[str, int | float | None]:
        power = ask(nvml.nvmlDeviceGetPowerUsage)
        use = ask(nvml.nvmlDeviceGetUtilizationRates)
        memory = ask(nvml.nvmlDeviceGetMemoryInfo)
        processes = ask(nvml.nvmlDeviceGetComputeRunningProcesses)
        return {
            "temperature_c": ask(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
            "power_w": None if power is None else power / 1000,
            "power_average_w": watts(nvml.NVML_FI_DEV_POWER_AVERAGE),
            "power_instant_w": watts(nvml.NVML_FI_DEV_POWER_INSTANT),
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


def summarise_samples(samples: pl.DataFrame, start_ms: float, end_ms: float) -> dict[str, Any]:
    """The samples between two times as plain JSON values, for the cell's footer; null where nothing is known.

    Returns:
        samples, interval_ms (median), sm_clock_median_mhz, sm_clock_min_mhz, temperature_max_c, power_mean_w,
        power_semantics (what power_mean_w averages), throttle_reasons (names of all clock event reasons seen),
        other_processes (the most compute processes beside this one).
    """
    within = samples.filter(pl.col("time_ms").is_between(start_ms, end_ms))
    power, semantics = "power_w", "nvmlDeviceGetPowerUsage"
    if within.height and within["power_instant_w"].null_count() == 0:
        power, semantics = "power_instant_w", "NVML_FI_DEV_POWER_INSTANT"
    seen = 0
    for mask in within["clock_event_reasons"].drop_nulls():
        seen |= mask
    processes = within["compute_processes"].drop_nulls().to_list()
    return {
        "samples": within.height,
        "interval_ms": within["time_ms"].diff().median(),
        "sm_clock_median_mhz": within["sm_clock_mhz"].median(),
        "sm_clock_min_mhz": within["sm_clock_mhz"].min(),
        "temperature_max_c": within["temperature_c"].max(),
        "power_mean_w": within[power].mean(),
        "power_semantics": semantics,
        "throttle_reasons": [name for name, bit in CLOCK_EVENT_REASONS.items() if seen & bit],
        "other_processes": max(0, max(processes) - 1) if processes else None,
    }


def mean_power_w(samples: pl.DataFrame, start_ms: float, end_ms: float) -> float | None:
    """Mean power between two times by the total energy counter.

    The counter moves in steps of some 20 to 100 ms. Only samples at which it has moved tell its value of that time,
    so the mean is taken between the first and the last of them. Null with fewer than three, or when they span less
    than four fifths of the time asked for.
    """
    moved = samples.filter(pl.col("energy_mj").diff() > 0, pl.col("time_ms").is_between(start_ms, end_ms))
    if moved.height < 3:
        return None
    span_ms = moved["time_ms"][-1] - moved["time_ms"][0]
    if span_ms < 0.8 * (end_ms - start_ms):
        return None
    return float((moved["energy_mj"][-1] - moved["energy_mj"][0]) / span_ms)


def energy_per_image(
    samples: pl.DataFrame, window_ms: tuple[float, float], idle_ms: tuple[float, float] | None, images: int
) -> dict[str, Any]:
    """Energy of a steady window as plain JSON values, with and without the idle power, or why there is none.

    Args:
        samples: of the cell, in `SAMPLES`.
        window_ms: start and end of the run that handled `images`.
        idle_ms: start and end of a time in which the device had a context and nothing to do.
    """
    window_s = (window_ms[1] - window_ms[0]) / 1000
    if window_s < MINIMUM_ENERGY_S:
        return {"absent": f"a window of {window_s:.1f} s; {MINIMUM_ENERGY_S:g} s are needed"}
    power = mean_power_w(samples, *window_ms)
    if power is None:
        return {"absent": "the device has no energy counter, or it did not move during the window"}
    idle = None if idle_ms is None else mean_power_w(samples, *idle_ms)
    return {
        "window_s": window_s,
        "images": images,
        "joules": power * window_s,
        "idle_power_w": idle,
        "joules_per_image": power * window_s / images,
        "joules_per_image_above_idle": None if idle is None else (power - idle) * window_s / images,
    }
