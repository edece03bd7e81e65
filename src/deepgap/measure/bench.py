"""The bench of a cell: a device taken for it alone, watched while it measures, and what it tells afterwards.

Both studies measure on it: what is loaded and called is theirs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from deepgap.cells.bounds import broken_bound
from deepgap.cells.cell_file import (
    OK,
    OUT_OF_MEMORY,
    REFUSED,
    SCHEMA,
    THROUGHPUT,
    UNSUPPORTED,
    failure_row,
    write_cell,
)
from deepgap.cells.footer import Footer
from deepgap.cells.telemetry_file import write_telemetry
from deepgap.errors import UnsupportedError, first_line
from deepgap.host import HostLimits, host_limits, host_threads
from deepgap.measure.arms.timer import NS_PER_MS
from deepgap.measure.device import keep_nvml_open, take_device
from deepgap.measure.energy import energy_of_meter, energy_of_samples, open_rapl, sustained_spans
from deepgap.measure.memory import Memory, is_out_of_memory
from deepgap.measure.pinning import Pinning, pin_process
from deepgap.measure.provenance import collect_provenance
from deepgap.measure.runs import Phases, Timed
from deepgap.measure.samples import describe_samples
from deepgap.measure.session import describe_session
from deepgap.measure.telemetry import Samples, Telemetry, open_nvml, open_nvml_counter
from deepgap.study.gpus import Device, Gpu

IDLE_S = 0.4
"""How long the device idles with a context, for its idle power: three steps of NVML's energy counter at least."""

T = TypeVar("T")


class RefusedError(Exception):
    """What a cell computes cannot be right: an expected result, recorded as a row."""


@dataclass
class Bench:
    """One cell on its device while it is being measured; `observed` is filled on the way."""

    recipe: Mapping[str, Any]
    gpu: Gpu
    device: Device
    pinning: Pinning
    phases: Phases
    memory: Memory
    zero_ns: int
    observed: dict[str, Any]
    limits: HostLimits = field(default_factory=host_limits)
    waited_s: float = 0.0
    provenance: dict[str, Any] = field(default_factory=dict)
    idle_ms: tuple[float, float] | None = None
    idle_power_w: float | None = None
    meter: Callable[[], float] | None = None
    no_meter: str | None = None

    @property
    def on_gpu(self) -> bool:
        return self.device.index >= 0

    def now_ms(self) -> float:
        """Since the cell's start."""
        return (time.perf_counter_ns() - self.zero_ns) / NS_PER_MS

    def choose_threads(self) -> int:
        """The threads of the recipe, told in `observed`.

        Raises:
            UnsupportedError: the process may not use so many cores.
        """
        usable = min(host_threads(), len(self.pinning.measuring))
        threads: int = self.recipe["threads"] or usable
        self.observed |= {"intraop_threads": threads, "interop_threads": 1}
        if threads > usable:
            raise UnsupportedError(f"{threads} threads were asked for, but the process may use {usable} cores.")
        return threads


def set_up(
    recipe: Mapping[str, Any],
    gpu: Gpu,
    say: Callable[[str], None],
    load: Callable[[], T],
    card: int | None = None,
    facts: Mapping[str, Any] | None = None,
) -> tuple[Bench, T]:
    """Take a device, read what is no memory of the cell, and take the baselines of its memory.

    Args:
        load: what the cell reads before its memory counts.

    Raises:
        DeviceError: this machine has no such device.
    """
    phases = Phases()
    with phases("wait"):
        keep_nvml_open()
        device = take_device(gpu, say, card=card)
    waited_s = phases.seconds["wait"]
    zero_ns, zero_unix_s = time.perf_counter_ns(), time.time()
    with phases("load"):
        loaded = load()
    # Before the cell keeps to its own cores, which is no limit from outside.
    limits = host_limits()
    pinning = pin_process(device.index >= 0)
    observed: dict[str, Any] = {
        "clock_zero_unix_s": zero_unix_s,
        "host_load": os.getloadavg()[0],
        "phases_s": phases.seconds,
        "pinned_cores": list(pinning.measuring),
        "launch": None,
        "facts": dict(facts or {}),
    }
    with phases("wait"):
        # Until the context of the cell before is gone.
        memory = Memory(device)
    bench = Bench(recipe, gpu, device, pinning, phases, memory, zero_ns, observed, limits, waited_s=waited_s)
    return bench, loaded


def watch(bench: Bench, measure: Callable[[], T]) -> tuple[T, Samples | None]:
    """Measure while the device is sampled; a processor is not."""
    if not bench.on_gpu:
        return measure(), None
    os.environ["CUDA_VISIBLE_DEVICES"] = bench.device.uuid
    telemetry = _start_telemetry(bench.device, bench.zero_ns, bench.pinning)
    try:
        measured = measure()
        with bench.phases("telemetry"):
            return measured, telemetry.stop()
    finally:
        telemetry.close()


def _start_telemetry(device: Device, zero_ns: int, pinning: Pinning) -> Telemetry:
    # Without a core of its own the sampler looks at the device no more often than it must.
    counter = None if pinning.spare is None else lambda: open_nvml_counter(device.index)
    return Telemetry(lambda: open_nvml(device.index), zero_ns, pinning.spare, counter)


def failure(error: Exception) -> pl.DataFrame | None:
    """The row of an expected failure; null for any other."""
    if isinstance(error, UnsupportedError):
        return failure_row(UNSUPPORTED, str(error))
    if isinstance(error, RefusedError):
        return failure_row(REFUSED, str(error))
    return failure_row(OUT_OF_MEMORY, first_line(error)) if is_out_of_memory(error) else None


def idle(bench: Bench) -> None:
    """Let the device be, for its idle power, and ask meanwhile what takes no device."""
    if not bench.on_gpu:
        bench.meter, bench.no_meter = open_rapl()
    began_ms = bench.now_ms()
    before = bench.meter and bench.meter()
    bench.provenance = collect_provenance(bench.device, bench.limits)
    if bench.on_gpu or bench.meter:
        time.sleep(max(0.0, IDLE_S - (bench.now_ms() - began_ms) / 1000))
    bench.idle_ms = (began_ms, bench.now_ms())
    if bench.meter is not None and before is not None:
        bench.idle_power_w = 1000 * (bench.meter() - before) / (bench.idle_ms[1] - began_ms)


def describe_device(bench: Bench, timed: Timed | None, samples: Samples | None) -> dict[str, Any]:
    """`memory`, `telemetry` and `energy` of the footer.

    Args:
        timed: null where nothing was.
        samples: of the device; null on a processor.
    """
    frame = None if samples is None or samples.absent else samples.frame
    memory = bench.memory.describe(frame)
    if timed is None:
        nothing = {"absent": "nothing was timed"}
        return {"memory": memory, "telemetry": nothing, "energy": nothing}
    rows = pl.DataFrame(timed.rows, schema=SCHEMA, orient="row")
    spans = sustained_spans(rows.filter(pl.col("arm") == THROUGHPUT), bench.recipe["batch_size"])
    if frame is not None:
        clock_mhz = bench.provenance["device"].get("max_sm_clock_mhz") or bench.gpu.max_sm_clock_mhz
        telemetry = describe_samples(frame, rows, clock_mhz)
        return {
            "memory": memory,
            "telemetry": telemetry,
            "energy": energy_of_samples(frame, spans, bench.idle_ms),
        }
    absent = "NVML samples NVIDIA GPUs alone" if samples is None else samples.absent
    metered = bench.meter is not None
    return {
        "memory": memory,
        "telemetry": {"absent": absent},
        "energy": energy_of_meter(timed.metered, spans, bench.idle_power_w)
        if metered
        else {"absent": bench.no_meter or absent},
    }


def refuse_what_cannot_be(bench: Bench, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows, or the row that says why they cannot be."""
    if set(rows["status"]) != {OK}:
        return rows
    problem = broken_bound(rows, bench.recipe, bench.observed["facts"], bench.gpu)
    return rows if problem is None else failure_row(REFUSED, problem)


@dataclass(frozen=True)
class Outcome:
    """What a cell's file and its telemetry are written from. timed: null where nothing was.

    graph_sha256: of the ONNX graph; null where there is none. place: of the cell in its session, from 1.
    """

    rows: pl.DataFrame
    timed: Timed | None
    weights_sha256: str
    libraries: Mapping[str, str]
    graph_sha256: str | None = None


def write_outcome(
    bench: Bench,
    outcome: Outcome,
    samples: Samples | None,
    cell_file: Path,
    telemetry_file: Path | None,
    place: int | None,
) -> None:
    """Write the cell's file and its telemetry.

    Raises:
        CellError: the rows break the contract of a cell's file.
    """
    observed = bench.observed | describe_device(bench, outcome.timed, samples)
    rows = refuse_what_cannot_be(bench, outcome.rows)
    provenance = bench.provenance or collect_provenance(bench.device, bench.limits)
    provenance |= {"session": describe_session(place), "libraries": dict(outcome.libraries)}
    recipe = dict(bench.recipe)
    if samples is not None and telemetry_file is not None:
        about = {"recipe": recipe, "clock_zero_unix_s": observed["clock_zero_unix_s"]}
        write_telemetry(telemetry_file, samples.frame, about)
    observed["cell_s"] = bench.waited_s + bench.now_ms() / 1000
    footer = Footer(recipe, outcome.weights_sha256, provenance, observed, graph_sha256=outcome.graph_sha256)
    write_cell(cell_file, rows, footer)
