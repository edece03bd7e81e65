"""Measure one cell: load the model, warm up, time, and write the file.

Method: the arms are separate spans (`deepgap.measure.arms`); inputs live on the device and rotate; the device is
sampled by a process of its own (`deepgap.measure.telemetry`); memory is that of a fresh context. What is expected to
fail becomes a row that says why (`cell_file.FAILURES`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import polars as pl

from deepgap.cells.cell_file import REFUSED, SCHEMA, UNSUPPORTED, failure_row
from deepgap.errors import MissingLibraryError, UnsupportedError, first_line
from deepgap.measure.arms.cold import flush_l2
from deepgap.measure.arms.end_to_end import with_copies
from deepgap.measure.arms.timer import CudaTimer, HostTimer
from deepgap.measure.bench import Bench, Outcome, failure, idle, set_up, watch, write_outcome
from deepgap.measure.launch import time_launch
from deepgap.measure.precision import set_precision, synchronise, work_stream
from deepgap.measure.runs import Subject, Timed, no_garbage_collection, time_runs
from deepgap.measure.source import Reference, Request, Source, load_reference, open_source
from deepgap.measure.subject import Prepared, check_answers, prepare
from deepgap.runtimes import Runtime, load_runtimes


@dataclass(frozen=True)
class Case:
    """What is put on the bench."""

    request: Request
    reference: Reference
    runtime: Runtime


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
    bench, reference = set_up(
        request.recipe, request.gpu, say, lambda: load_reference(request), request.card, request.facts
    )
    case = Case(request, reference, load_runtimes()[request.recipe["runtime"]])
    measured, samples = watch(bench, lambda: _measure(bench, case))
    source = measured.source
    outcome = Outcome(
        measured.rows, measured.timed, source.weights_sha256, _libraries(case.runtime), source.graph_sha256
    )
    write_outcome(bench, outcome, samples, request.cell_file, request.telemetry_file, request.place)


def _libraries(runtime: Runtime) -> dict[str, str]:
    """The runtime's; a cell that cannot be needs none to say so."""
    with suppress(MissingLibraryError):
        return dict(runtime.libraries())
    return {}


def _measure(bench: Bench, case: Case) -> Measured:
    """Load and time the cell; what is expected to fail becomes a row, and what cannot be is not even loaded."""
    recipe = bench.recipe
    try:
        reason = case.runtime.skip(recipe["model"], recipe["precision"], recipe["batch_size"], bench.gpu)
        if reason is not None:
            raise UnsupportedError(reason)
        with bench.phases("load"):
            source = open_source(case.request, case.runtime, bench.device, case.reference)
    except UnsupportedError as error:
        nothing = Source(None, case.reference.weights_sha256)
        return Measured(failure_row(UNSUPPORTED, str(error)), None, nothing)
    if source.engine is not None:
        bench.observed["engine"] = dict(source.engine)
    try:
        timed = _time(bench, case, source)
    except Exception as error:
        rows = failure(error)
        if rows is None:
            raise
        bench.memory.observe_end()
        return Measured(rows, None, source)
    rows = pl.DataFrame(timed.rows, schema=SCHEMA, orient="row")
    if not bench.observed["fidelity"].get("all_finite", True):
        rows = failure_row(REFUSED, "answers to held-out images are not finite")
    return Measured(rows, timed, source)


def _time(bench: Bench, case: Case, source: Source) -> Timed:
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
        idle(bench)
    timer = CudaTimer() if on_gpu else HostTimer()
    with torch.inference_mode(), work_stream(on_gpu):
        prepared = prepare(source, recipe, case.runtime, on_gpu, observed, phases)
        subject = Subject(prepared.call, lambda: with_copies(prepared.call, prepared.inputs), flush_l2, bench.meter)
        with no_garbage_collection():
            timed = time_runs(subject, timer, recipe["protocol"], bench.zero_ns, phases)
            if on_gpu:
                with phases("launch"):
                    observed["launch"] = time_launch()
        observed |= {name: getattr(timed, name) for name in ("warmup_calls", "steady", "converged")}
        bench.memory.observe_end()
        with phases("fidelity"):
            observed["fidelity"] = compare_answers(prepared, case.reference)
    return timed


def _set_up_torch(bench: Bench) -> None:
    import torch

    set_precision(bench.recipe["precision"])
    threads = bench.choose_threads()
    torch.set_num_threads(threads)
    with suppress(RuntimeError):
        # PyTorch takes this number once a process.
        torch.set_num_interop_threads(1)


def compare_answers(prepared: Prepared, reference: Reference) -> dict[str, Any]:
    """`observed.fidelity`; what is expected to fail here leaves what was timed, and gives its reason."""
    try:
        return check_answers(prepared, reference)
    except Exception as error:
        if failure(error) is None:
            raise
        return {"absent": first_line(error)}
