"""The timed loops of a cell: how a call is warmed up and timed, and when enough is known.

Nothing is allocated, generated or polled between the two ends of a timed span, and Python's garbage collector is off.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from deepgap.cells.cell_file import COLD, LATENCY, OK, THROUGHPUT
from deepgap.runtimes import Call

ENERGY = "energy"
INPUT_BUFFERS = 2
NS_PER_MS = 1e6

STEADY = 0.02
"""The two halves of a steady block of warm-up calls differ by at most this part."""
WARMUP_MS = 100
"""Warm-up lasts at least this long: clocks that rise from idle need tens of milliseconds."""
WARMUP_BLOCKS = 10
WARMUP_LIMIT_MS = 1000
"""No block of warm-up calls begins later than this because the device is not steady."""
CHECK_EVERY = 13
"""Calls between two looks at the interval of the median."""
FEWEST_QUEUED = 20
"""Calls of the shortest throughput run of an adaptive protocol."""

Row = tuple[str, None, str, int, int, int, float, float, float, float | None]


@dataclass(frozen=True)
class Span:
    """Back-to-back calls between two synchronisations. Times are of `time.perf_counter_ns`."""

    calls: int
    began_ns: int
    enqueued_ns: int | None
    done_ns: int
    device_ms: float

    @property
    def host_ms(self) -> float:
        return (self.done_ns - self.began_ns) / NS_PER_MS

    def row(self, arm: str, repeat: int, iteration: int, zero_ns: int) -> Row:
        """A row of `cells.SCHEMA`; `zero_ns` is the cell's start."""
        enqueue_ms = None if self.enqueued_ns is None else (self.enqueued_ns - self.began_ns) / NS_PER_MS
        start_ms = (self.began_ns - zero_ns) / NS_PER_MS
        return (OK, None, arm, repeat, iteration, self.calls, start_ms, self.device_ms, self.host_ms, enqueue_ms)


@dataclass(frozen=True)
class Timer:
    """How calls are timed on a kind of device.

    each(call, count, before): a span a call, synchronised after each; `before` runs outside the span.
    run(call, count): one span of calls that keep the device fed, synchronised at its end.
    """

    each: Callable[[Call, int, Callable[[], object] | None], list[Span]]
    run: Callable[[Call, int], Span]


def cuda_each(call: Call, count: int, before: Callable[[], object] | None = None) -> list[Span]:
    """Time calls one by one on the current CUDA stream, with an event pair a call."""
    import torch

    clock = time.perf_counter_ns
    starts, ends = ([torch.cuda.Event(enable_timing=True) for _ in range(count)] for _ in range(2))  # type: ignore[no-untyped-call]
    marks: list[tuple[int, int, int]] = []
    for i in range(count):
        if before is not None:
            before()
        begin = clock()
        starts[i].record()
        call(i % INPUT_BUFFERS)
        ends[i].record()
        enqueued = clock()
        ends[i].synchronize()
        marks.append((begin, enqueued, clock()))
    times = [start.elapsed_time(end) for start, end in zip(starts, ends, strict=True)]
    return [Span(1, *mark, device_ms) for mark, device_ms in zip(marks, times, strict=True)]


def cuda_run(call: Call, count: int) -> Span:
    """Time calls queued one behind the other on the current CUDA stream."""
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin = time.perf_counter_ns()
    start.record()
    for i in range(count):
        call(i % INPUT_BUFFERS)
    end.record()
    enqueued = time.perf_counter_ns()
    end.synchronize()
    done = time.perf_counter_ns()
    return Span(count, begin, enqueued, done, start.elapsed_time(end))


def host_each(call: Call, count: int, before: Callable[[], object] | None = None) -> list[Span]:
    """Time calls one by one on the host, where a call returns when it is done."""
    clock = time.perf_counter_ns
    marks: list[tuple[int, int]] = []
    for i in range(count):
        if before is not None:
            before()
        begin = clock()
        call(i % INPUT_BUFFERS)
        marks.append((begin, clock()))
    return [Span(1, begin, None, done, (done - begin) / NS_PER_MS) for begin, done in marks]


def host_run(call: Call, count: int) -> Span:
    """Time calls one behind the other on the host."""
    begin = time.perf_counter_ns()
    for i in range(count):
        call(i % INPUT_BUFFERS)
    done = time.perf_counter_ns()
    return Span(count, begin, None, done, (done - begin) / NS_PER_MS)


CUDA = Timer(cuda_each, cuda_run)
HOST = Timer(host_each, host_run)


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


def time_repeats(
    call: Call, timer: Timer, protocol: Mapping[str, Any], zero_ns: int, phases: Phases
) -> tuple[list[Row], dict[str, Any]]:
    """All repeats of a cell: warm up, then the latency arm, then the throughput arm.

    Returns:
        The rows, and `warmup_calls` and `steady` of all repeats.
    """
    rows: list[Row] = []
    times_ms: list[float] = []
    warmup_calls, steady = 0, True
    for repeat in range(1, protocol["repeats"] + 1):
        with phases("warm_up"):
            calls, settled = warm_up(call, timer, protocol["warmup_iterations"])
            warmup_calls, steady = warmup_calls + calls, steady and settled
        with phases("latency"):
            spans = _time_latency(call, timer, protocol, times_ms)
            times_ms += [span.device_ms for span in spans]
        with phases("throughput"):
            run = timer.run(call, _queued_calls(protocol, median(span.device_ms for span in spans)))
        rows += [span.row(LATENCY, repeat, i, zero_ns) for i, span in enumerate(spans, 1)]
        rows.append(run.row(THROUGHPUT, repeat, 1, zero_ns))
    return rows, {"warmup_calls": warmup_calls, "steady": steady}


def time_cold(
    call: Call, timer: Timer, protocol: Mapping[str, Any], flush: Callable[[], object], zero_ns: int
) -> list[Row]:
    """The cold arm: calls before each of which `flush` overwrites the L2 cache, outside the span."""
    rows = []
    for repeat in range(1, protocol["repeats"] + 1):
        spans = timer.each(call, protocol["cold_iterations"], flush)
        rows += [span.row(COLD, repeat, i, zero_ns) for i, span in enumerate(spans, 1)]
    return rows


def time_energy(call: Call, timer: Timer, seconds: float, throughput_ms: float, zero_ns: int) -> Row:
    """The energy arm: one run of at least `seconds`, by the time of a call in a throughput run.

    A run that was too short, because calls have become faster, is made again with more calls.
    """
    calls = math.ceil(1.02 * seconds * 1000 / throughput_ms)
    span = timer.run(call, calls)
    while span.host_ms < seconds * 1000:
        calls = math.ceil(1.05 * calls * seconds * 1000 / span.host_ms)
        span = timer.run(call, calls)
    return span.row(ENERGY, 1, 1, zero_ns)


def warm_up(call: Call, timer: Timer, iterations: int) -> tuple[int, bool]:
    """Call until the device is steady, in blocks of `iterations`.

    Steady: the halves of the last block took the same time within `STEADY`, and `WARMUP_MS` have passed. After
    `WARMUP_BLOCKS` blocks or `WARMUP_LIMIT_MS` it is given up, unless that took less than `WARMUP_MS`.

    Returns:
        The calls made, and whether the device became steady.
    """
    began = time.perf_counter()
    first, second = iterations - iterations // 2, iterations // 2
    blocks, steady = 0, False
    while True:
        head = timer.run(call, first).host_ms / first
        tail = timer.run(call, second).host_ms / second if second else head
        blocks += 1
        steady = abs(head - tail) <= STEADY * head
        elapsed_ms = (time.perf_counter() - began) * 1000
        if elapsed_ms >= WARMUP_MS and (steady or blocks >= WARMUP_BLOCKS or elapsed_ms >= WARMUP_LIMIT_MS):
            return blocks * iterations, steady


def _time_latency(call: Call, timer: Timer, protocol: Mapping[str, Any], earlier_ms: Sequence[float]) -> list[Span]:
    """One repeat's latency calls; with `stop`, until the cell's median is known well enough."""
    most, stop = protocol["timed_iterations"], protocol["stop"]
    if not stop:
        return timer.each(call, most, None)
    spans = timer.each(call, stop["minimum_iterations"], None)
    while len(spans) < most:
        known = half_width([*earlier_ms, *(span.device_ms for span in spans)]) <= stop["half_width"]
        if known and sum(span.host_ms for span in spans) >= stop["minimum_ms"]:
            break
        spans += timer.each(call, min(CHECK_EVERY, most - len(spans)), None)
    return spans


def half_width(samples: Sequence[float]) -> float:
    """Half of the 95 % interval of the median of `samples`, as a part of the median.

    The interval of order statistics by the normal approximation of the sign test (Conover, Practical Nonparametric
    Statistics, 3rd ed., section 3.2); infinite for fewer than eight samples.
    """
    count = len(samples)
    if count < 8:
        return math.inf
    ordered = sorted(samples)
    reach = 1.96 * math.sqrt(count) / 2
    low = max(1, math.floor(count / 2 - reach))
    high = min(count, math.ceil(count / 2 + reach) + 1)
    return (ordered[high - 1] - ordered[low - 1]) / 2 / median(ordered)


def _queued_calls(protocol: Mapping[str, Any], call_ms: float) -> int:
    most: int = protocol["timed_iterations"]
    stop = protocol["stop"]
    return min(most, max(FEWEST_QUEUED, math.ceil(stop["minimum_ms"] / call_ms))) if stop else most


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
