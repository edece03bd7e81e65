"""The runs of a cell: a warm-up with the arms of the protocol behind it, in their order."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from deepgap.cells.cell_file import BURST, COLD, END_TO_END, ENQUEUE, LATENCY, THROUGHPUT
from deepgap.measure.arms.burst import time_burst
from deepgap.measure.arms.cold import time_cold
from deepgap.measure.arms.end_to_end import time_end_to_end
from deepgap.measure.arms.enqueue import time_enqueue
from deepgap.measure.arms.latency import time_latency
from deepgap.measure.arms.stopping import Rule
from deepgap.measure.arms.throughput import time_throughput
from deepgap.measure.arms.timer import Row, Span, TimedCall, Timer
from deepgap.measure.arms.warm_up import warm_up


class Phases:
    """Seconds spent in the named parts of a cell."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


@dataclass(frozen=True)
class Subject:
    """What is timed.

    call: one inference, or one step.
    end_to_end: makes one with its copies when that arm comes, since it takes memory. flush: makes what overwrites the
        device's cache, likewise.
    meter: reads a counter of the processor's energy, in joules, at both ends of the throughput arm; null where there
        is none or the device's samples tell it.
    parts: makes the call of a part of the subject, by its arm, when it comes.
    """

    call: TimedCall
    end_to_end: Callable[[], TimedCall]
    flush: Callable[[], Callable[[], object]]
    meter: Callable[[], float] | None = None
    parts: Mapping[str, Callable[[], TimedCall]] = field(default_factory=dict)


@dataclass
class Timed:
    """What was timed so far: rows in the order of time, and what all runs say.

    metered: what the meter read before and after each throughput span, in joules.
    """

    rows: list[Row] = field(default_factory=list)
    warmup_calls: int = 0
    steady: bool = True
    converged: bool = True
    metered: list[tuple[float, float]] = field(default_factory=list)


def time_runs(subject: Subject, timer: Timer, protocol: Mapping[str, Any], zero_ns: int, phases: Phases) -> Timed:
    """All runs of a cell."""
    timed = Timed()
    for run in range(1, protocol["runs"] + 1):
        _time_run(_Run(run, timed, zero_ns, phases), subject, timer, protocol)
    return timed


@dataclass(frozen=True)
class _Run:
    """One run that is being timed."""

    number: int
    timed: Timed
    zero_ns: int
    phases: Phases

    def add(self, arm: str, spans: Sequence[Span]) -> None:
        rows = self.timed.rows
        rows += [span.row(arm, self.number, i, self.zero_ns) for i, span in enumerate(spans, 1)]


def _time_run(run: _Run, subject: Subject, timer: Timer, protocol: Mapping[str, Any]) -> None:
    call, asked, rule, timed = subject.call, protocol["arms"], Rule.of(protocol), run.timed
    with run.phases("warm_up"):
        calls, steady = warm_up(call, timer, protocol["warmup_iterations"])
        timed.warmup_calls += calls
        timed.steady &= steady
    with run.phases(LATENCY):
        spans, converged = time_latency(call, timer, rule)
        timed.converged &= converged
        run.add(LATENCY, spans)
        call_ms = median(span.host_ms for span in spans)
    if ENQUEUE in asked:
        with run.phases(ENQUEUE):
            run.add(ENQUEUE, [time_enqueue(call, timer)])
    with run.phases(THROUGHPUT):
        before = subject.meter and subject.meter()
        run.add(THROUGHPUT, [time_throughput(call, timer, protocol["throughput_s"], call_ms)])
        if subject.meter is not None and before is not None:
            timed.metered.append((before, subject.meter()))
    if BURST in asked:
        with run.phases(BURST):
            run.add(BURST, [time_burst(call, timer, call_ms)])
    if COLD in asked:
        with run.phases(COLD):
            run.add(COLD, time_cold(call, timer, rule, subject.flush()).spans)
    if END_TO_END in asked:
        with run.phases(END_TO_END):
            run.add(END_TO_END, time_end_to_end(subject.end_to_end(), timer, rule).spans)
    for arm, make in subject.parts.items():
        if arm in asked:
            with run.phases(arm):
                part = make()
                # Compiling and choosing algorithms is over then.
                warm_up(part, timer, protocol["warmup_iterations"])
                run.add(arm, time_latency(part, timer, rule).spans)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect garbage now, and none until the block ends."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
