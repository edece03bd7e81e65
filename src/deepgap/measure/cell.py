"""Measure one cell: load the model, warm up, time, and write the file.

Method: the arms are separate spans (`deepgap.measure.arms`); inputs live on the device and rotate; the device is
sampled by a process of its own (`deepgap.measure.telemetry`); memory is that of a fresh context. What is expected to
fail becomes a row that says why (`cell_file.FAILURES`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

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
from deepgap.errors import MissingLibraryError, UnsupportedError, first_line
from deepgap.host import HostLimits, host_limits, host_threads
from deepgap.measure.arms.cold import flush_l2
from deepgap.measure.arms.end_to_end import with_copies
from deepgap.measure.arms.timer import NS_PER_MS, CudaTimer, HostTimer
from deepgap.measure.device import keep_nvml_open, take_device
from deepgap.measure.energy import energy_of_meter, energy_of_samples, open_rapl, sustained_spans
from deepgap.measure.launch import time_launch
from deepgap.measure.memory import Memory, is_out_of_memory
from deepgap.measure.pinning import Pinning, pin_process
from deepgap.measure.precision import set_precision, synchronise, work_stream
from deepgap.measure.provenance import collect_provenance
from deepgap.measure.runs import Phases, Subject, Timed, no_garbage_collection, time_runs
from deepgap.measure.samples import describe_samples
from deepgap.measure.session import describe_session
from deepgap.measure.source import Reference, Request, Source, load_reference, open_source
from deepgap.measure.subject import Prepared, RefusedError, check_answers, prepare
from deepgap.measure.telemetry import Samples, Telemetry, open_nvml, open_nvml_counter
from deepgap.runtimes import Runtime, load_runtimes
from deepgap.study.gpus import Device

IDLE_S = 0.4
"""How long the device idles with a context, for its idle power: three steps of NVML's energy counter at least."""


@dataclass
class Bench:
    """One cell on its device while it is being measured; `observed` is filled on the way."""

    request: Request
    reference: Reference
    runtime: Runtime
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
    def recipe(self) -> Mapping[str, Any]:
        return self.request.recipe

    @property
    def on_gpu(self) -> bool:
        return self.device.index >= 0

    def now_ms(self) -> float:
        """Since the cell's start."""
        return (time.perf_counter_ns() - self.zero_ns) / NS_PER_MS


@dataclass(frozen=True)
class Measured:
    """The rows of a cell, what all its runs say (null where nothing was timed), and its source."""

    rows: pl.DataFrame
    timed: Timed | None
    source: Source


def measure_cell(request: Request, say: Callable[[str], None]) -> None:
    """Measure a cell on a device taken for it alone, in this process, and write its file and its telemetry.

    The process must not have touched CUDA before, because the device's memory is read before and after its
    context, and should end soon, because it keeps the device until then.

    Raises:
        DeviceError: this machine has no such device.
        WeightsError, GraphError, EngineError: the source file is missing, damaged or foreign.
        ImageError: the held-out images or their reference are.
        CellError: the rows break the contract of a cell's file.
    """
    bench = _set_up(request, say)
    measured, samples = _watch(bench) if bench.on_gpu else (_measure(bench), None)
    observed = bench.observed | describe_device(bench, measured, samples)
    rows = refuse_what_cannot_be(bench, measured.rows)
    provenance = bench.provenance or collect_provenance(bench.device, bench.limits)
    provenance |= {"session": describe_session(request.place), "libraries": _libraries(bench.runtime)}
    recipe, source = dict(request.recipe), measured.source
    if samples is not None and request.telemetry_file is not None:
        about = {"recipe": recipe, "clock_zero_unix_s": observed["clock_zero_unix_s"]}
        write_telemetry(request.telemetry_file, samples.frame, about)
    observed["cell_s"] = bench.waited_s + bench.now_ms() / 1000
    footer = Footer(recipe, source.weights_sha256, provenance, observed, graph_sha256=source.graph_sha256)
    write_cell(request.cell_file, rows, footer)


def _libraries(runtime: Runtime) -> dict[str, str]:
    """The runtime's; a cell that cannot be needs none to say so."""
    with suppress(MissingLibraryError):
        return dict(runtime.libraries())
    return {}


def _set_up(request: Request, say: Callable[[str], None]) -> Bench:
    """Take a device, and the baselines of its memory."""
    phases = Phases()
    with phases("wait"):
        keep_nvml_open()
        device = take_device(request.gpu, say, card=request.card)
    waited_s = phases.seconds["wait"]
    zero_ns, zero_unix_s = time.perf_counter_ns(), time.time()
    with phases("load"):
        reference = load_reference(request)
    # Before the cell keeps to its own cores, which is no limit from outside.
    limits = host_limits()
    pinning = pin_process(device.index >= 0)
    observed: dict[str, Any] = {
        "clock_zero_unix_s": zero_unix_s,
        "host_load": os.getloadavg()[0],
        "phases_s": phases.seconds,
        "pinned_cores": list(pinning.measuring),
        "launch": None,
        "facts": dict(request.facts or {}),
    }
    runtime = load_runtimes()[request.recipe["runtime"]]
    with phases("wait"):
        # Until the context of the cell before is gone.
        memory = Memory(device)
    return Bench(
        request, reference, runtime, device, pinning, phases, memory, zero_ns, observed, limits, waited_s=waited_s
    )


def _watch(bench: Bench) -> tuple[Measured, Samples]:
    """Measure while the device is sampled."""
    os.environ["CUDA_VISIBLE_DEVICES"] = bench.device.uuid
    telemetry = _start_telemetry(bench.device, bench.zero_ns, bench.pinning)
    try:
        measured = _measure(bench)
        with bench.phases("telemetry"):
            return measured, telemetry.stop()
    finally:
        telemetry.close()


def _start_telemetry(device: Device, zero_ns: int, pinning: Pinning) -> Telemetry:
    # Without a core of its own the sampler looks at the device no more often than it must.
    counter = None if pinning.spare is None else lambda: open_nvml_counter(device.index)
    return Telemetry(lambda: open_nvml(device.index), zero_ns, pinning.spare, counter)


def _measure(bench: Bench) -> Measured:
    """Load and time the cell; what is expected to fail becomes a row, and what cannot be is not even loaded."""
    recipe = bench.recipe
    try:
        reason = bench.runtime.skip(recipe["model"], recipe["precision"], recipe["batch_size"], bench.request.gpu)
        if reason is not None:
            raise UnsupportedError(reason)
        with bench.phases("load"):
            source = open_source(bench.request, bench.runtime, bench.device, bench.reference)
    except UnsupportedError as error:
        nothing = Source(None, bench.reference.weights_sha256)
        return Measured(failure_row(UNSUPPORTED, str(error)), None, nothing)
    if source.engine is not None:
        bench.observed["engine"] = dict(source.engine)
    try:
        timed = _time(bench, source)
    except Exception as error:
        rows = _failure(error)
        if rows is None:
            raise
        bench.memory.observe_end()
        return Measured(rows, None, source)
    rows = pl.DataFrame(timed.rows, schema=SCHEMA, orient="row")
    if not bench.observed["fidelity"].get("all_finite", True):
        rows = failure_row(REFUSED, "answers to held-out images are not finite")
    return Measured(rows, timed, source)


def _failure(error: Exception) -> pl.DataFrame | None:
    """The row of an expected failure; null for any other."""
    if isinstance(error, UnsupportedError):
        return failure_row(UNSUPPORTED, str(error))
    if isinstance(error, RefusedError):
        return failure_row(REFUSED, str(error))
    return failure_row(OUT_OF_MEMORY, first_line(error)) if is_out_of_memory(error) else None


def _time(bench: Bench, source: Source) -> Timed:
    """All of a cell from its context to its answers."""
    import torch

    recipe, phases, on_gpu, observed = bench.recipe, bench.phases, bench.on_gpu, bench.observed
    _set_up_torch(bench)
    with phases("context"):
        if on_gpu:
            torch.backends.cudnn.benchmark = True
            torch.zeros(1, device="cuda")
            synchronise(on_gpu)
            bench.memory.observe_context()
    with phases("idle"):
        _idle(bench)
    timer = CudaTimer() if on_gpu else HostTimer()
    with torch.inference_mode(), work_stream(on_gpu):
        prepared = prepare(source, recipe, bench.runtime, on_gpu, observed, phases)
        subject = Subject(prepared.call, lambda: with_copies(prepared.call, prepared.inputs), flush_l2, bench.meter)
        with no_garbage_collection():
            timed = time_runs(subject, timer, recipe["protocol"], bench.zero_ns, phases)
            if on_gpu:
                with phases("launch"):
                    observed["launch"] = time_launch()
        observed |= {name: getattr(timed, name) for name in ("warmup_calls", "steady", "converged")}
        bench.memory.observe_end()
        with phases("fidelity"):
            observed["fidelity"] = compare_answers(bench, prepared)
    return timed


def _set_up_torch(bench: Bench) -> None:
    import torch

    set_precision(bench.recipe["precision"])
    usable = min(host_threads(), len(bench.pinning.measuring))
    threads = bench.recipe["threads"] or usable
    torch.set_num_threads(threads)
    with suppress(RuntimeError):
        # PyTorch takes this number once a process.
        torch.set_num_interop_threads(1)
    bench.observed |= {"intraop_threads": threads, "interop_threads": 1}
    if threads > usable:
        raise UnsupportedError(f"{threads} threads were asked for, but the process may use {usable} cores.")


def _idle(bench: Bench) -> None:
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


def compare_answers(bench: Bench, prepared: Prepared) -> dict[str, Any]:
    """`observed.fidelity`; what is expected to fail here leaves what was timed, and gives its reason."""
    try:
        return check_answers(prepared, bench.reference)
    except Exception as error:
        if _failure(error) is None:
            raise
        return {"absent": first_line(error)}


def describe_device(bench: Bench, measured: Measured, samples: Samples | None) -> dict[str, Any]:
    """`memory`, `telemetry` and `energy` of the footer.

    Args:
        samples: of the device; null on a processor.
    """
    frame = None if samples is None or samples.absent else samples.frame
    memory, timed = bench.memory.describe(frame), measured.timed
    if timed is None:
        nothing = {"absent": "nothing was timed"}
        return {"memory": memory, "telemetry": nothing, "energy": nothing}
    rows = pl.DataFrame(timed.rows, schema=SCHEMA, orient="row")
    spans = sustained_spans(rows.filter(pl.col("arm") == THROUGHPUT), bench.recipe["batch_size"])
    if frame is not None:
        clock_mhz = bench.provenance["device"].get("max_sm_clock_mhz") or bench.request.gpu.max_sm_clock_mhz
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
    problem = broken_bound(rows, bench.recipe, bench.observed["facts"], bench.request.gpu)
    return rows if problem is None else failure_row(REFUSED, problem)
