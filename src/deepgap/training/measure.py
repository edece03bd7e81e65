"""Measure one cell of the second study, in the process of its framework's interpreter.

The bench, the arms and their rules, the telemetry and the file are those of the first study; what is put on it is a
workload in a framework.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from deepgap.cells.cell_file import LATENCY, SCHEMA, THROUGHPUT
from deepgap.errors import MissingLibraryError, UnsupportedError
from deepgap.measure.bench import Bench, Outcome, RefusedError, failure, idle, set_up, watch, write_outcome
from deepgap.measure.runs import Subject, Timed, no_garbage_collection, time_runs
from deepgap.study.gpus import Gpu
from deepgap.training.facts import WorkloadFacts, read_facts
from deepgap.training.frameworks import Framework, Job, Prepared, load_frameworks
from deepgap.training.workloads import load_workloads


@dataclass(frozen=True)
class Request:
    """One cell to measure.

    recipe: `TrainingCell.recipe`; gpu: the profile it names. facts_file: of the workload at its image size.
    telemetry_file: where the device's samples go; null on a CPU. place: of the cell in its session, from 1.
    card: which of the machine's devices of this GPU, from 1; null is any.
    """

    recipe: Mapping[str, Any]
    gpu: Gpu
    facts_file: Path
    cell_file: Path
    telemetry_file: Path | None = None
    place: int | None = None
    card: int | None = None


def measure_training_cell(request: Request, say: Callable[[str], None]) -> None:
    """Measure a cell on a device taken for it alone, in this process, and write its file and its telemetry.

    The process must not have touched the device before, and should end soon, because it keeps the device until then.

    Raises:
        DeviceError: this machine has no such device.
        WeightsError: the file of facts is missing or damaged.
        CellError: the rows break the contract of a cell's file.
    """
    recipe, framework = request.recipe, load_frameworks()[request.recipe["runtime"]]
    preload = partial(framework.preload, request.gpu.device == "cuda")
    bench, facts = set_up(recipe, request.gpu, say, lambda: _load(request.facts_file, preload), request.card)
    arithmetic = facts.of_phase(recipe["phase"])
    bench.observed["facts"] = {"multiply_adds": arithmetic.step}
    bench.observed["training"] = {
        "parameters": facts.parameters,
        "forward_multiply_adds": arithmetic.forward,
        "step_multiply_adds": arithmetic.step,
    }
    (rows, timed), samples = watch(bench, lambda: _measure(bench, framework, facts))
    outcome = Outcome(rows, timed, facts.weights_sha256, _libraries(framework))
    write_outcome(bench, outcome, samples, request.cell_file, request.telemetry_file, request.place)


def _load(facts_file: Path, preload: Callable[[], None]) -> WorkloadFacts:
    facts = read_facts(facts_file)
    preload()
    return facts


def _libraries(framework: Framework) -> Mapping[str, str]:
    with suppress(MissingLibraryError):
        return framework.libraries()
    return {}


def _measure(bench: Bench, framework: Framework, facts: WorkloadFacts) -> tuple[pl.DataFrame, Timed | None]:
    """Rows, and what was timed; what is expected to fail becomes a row."""
    try:
        timed = _time(bench, framework, facts)
    except Exception as error:
        rows = failure(error)
        if rows is None:
            raise
        bench.memory.observe_end()
        return rows, None
    return pl.DataFrame(timed.rows, schema=SCHEMA, orient="row"), timed


def why_undefined(recipe: Mapping[str, Any]) -> str | None:
    """Why a workload is not defined at a batch size or an image size; null where it is."""
    workload = load_workloads()[recipe["model"]]
    if workload.most is not None and recipe["batch_size"] > workload.most:
        return f"{workload.label} is defined for batches of up to {workload.most} samples."
    if recipe["image_size"] < workload.smallest_image:
        return f"{workload.label} needs images of {workload.smallest_image} pixels at least."
    return None


def _time(bench: Bench, framework: Framework, facts: WorkloadFacts) -> Timed:
    """All of a cell from its context to its last loss."""
    recipe, phases, observed = bench.recipe, bench.phases, bench.observed
    undefined = why_undefined(recipe)
    if undefined is not None:
        raise UnsupportedError(undefined)
    job = Job(load_workloads()[recipe["model"]], recipe, bench.on_gpu, bench.choose_threads())
    with phases("context"):
        framework.start(job)
        bench.memory.observe_context()
    with phases("idle"):
        idle(bench)
    with framework.around(job):
        with phases("prepare"):
            prepared = framework.prepare(job)
            prepared.wait()
        if prepared.weights_sha256 != facts.weights_sha256:
            raise RefusedError("the initial weights are not those of the workload in the other frameworks")
        with phases("first_call"):
            prepared.call(0)
            prepared.wait()
        observed["prepare_ms"] = phases.seconds["prepare"] * 1000
        observed["first_call_ms"] = phases.seconds["first_call"] * 1000
        first = _loss(prepared)
        subject = Subject(prepared.call, _nothing, _nothing, bench.meter, prepared.parts)
        with no_garbage_collection():
            timed = time_runs(subject, prepared.timer, recipe["protocol"], bench.zero_ns, phases)
        observed |= {name: getattr(timed, name) for name in ("warmup_calls", "steady", "converged")}
        bench.memory.observe_end()
        bench.memory.seen |= prepared.memory()
        steps = _calls(timed) if job.trains else 0
        observed["training"] |= {"steps": steps, "loss_first": first, "loss_last": _loss(prepared)}
    return timed


def _loss(prepared: Prepared) -> float | None:
    """The loss of the last call.

    Raises:
        RefusedError: it, or an answer, is not finite.
    """
    if not prepared.finite():
        raise RefusedError("a loss or an answer is not finite")
    return prepared.loss()


def _calls(timed: Timed) -> int:
    """The first call, those of warm-up, and the timed ones of whole steps."""
    return 1 + timed.warmup_calls + sum(row.calls for row in timed.rows if row.arm in (LATENCY, THROUGHPUT))


def _nothing() -> Any:
    raise AssertionError("no arm of the second study copies or flushes")
