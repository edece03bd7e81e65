"""Spans of calls, and how they are timed on a GPU and on a processor."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from deepgap.cells.cell_file import OK

if TYPE_CHECKING:
    import torch

INPUT_BUFFERS = 2
"""Distinct batches, among which calls rotate."""
NS_PER_MS = 1e6

QUEUE_MS = 100.0
"""About how long the queue of a sustained run holds work for: enough that the host may be away for some time."""
MARKS = 8
"""In how many parts that queue is: the host looks at its end after each."""

TimedCall: TypeAlias = Callable[[int], object]
"""Enqueue the work of one call on the input buffer of this index."""


class Row(NamedTuple):
    """A row of `cell_file.SCHEMA`."""

    status: str
    reason: str | None
    arm: str
    run: int
    iteration: int
    calls: int
    start_ms: float
    device_ms: float
    host_ms: float
    enqueue_ms: float | None


@dataclass(frozen=True)
class Span:
    """Back-to-back calls between two synchronisations. Host times are the timer's clock in nanoseconds.

    enqueued_ns: when the last call had returned; null where calls return when they are done.
    device_ms: between two events around the calls on their stream; on a processor the time of the host.
    """

    calls: int
    began_ns: int
    enqueued_ns: int | None
    done_ns: int
    device_ms: float

    @property
    def host_ms(self) -> float:
        return (self.done_ns - self.began_ns) / NS_PER_MS

    @property
    def enqueue_ms(self) -> float | None:
        return None if self.enqueued_ns is None else (self.enqueued_ns - self.began_ns) / NS_PER_MS

    def row(self, arm: str, run: int, iteration: int, zero_ns: int) -> Row:
        """The span as a row; `zero_ns` is the cell's start on the same clock."""
        start_ms = (self.began_ns - zero_ns) / NS_PER_MS
        return Row(OK, None, arm, run, iteration, self.calls, start_ms, self.device_ms, self.host_ms, self.enqueue_ms)


class Timer(ABC):
    """How calls are timed on a kind of device."""

    def __init__(self, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self.clock = clock

    @abstractmethod
    def each(self, call: TimedCall, count: int, before: Callable[[], object] | None = None) -> list[Span]:
        """A span a call, synchronised after each; `before` runs in front of each span, outside of it."""

    @abstractmethod
    def queue(self, call: TimedCall, count: int) -> Span:
        """One span of this many calls, one queued behind the other, synchronised at its end."""

    @abstractmethod
    def sustain(self, call: TimedCall, seconds: float, call_ms: float) -> Span:
        """One span of calls that keep the device busy for at least `seconds` of the host's clock.

        The queue is bounded: no more work is in it than `QUEUE_MS` takes, or two calls where those take longer, so
        that the run ends soon after its seconds, and the driver's own queue and the memory of calls in flight stay
        small.

        Args:
            call_ms: about how long a call takes.
        """


class CudaTimer(Timer):
    """On the current CUDA stream, with a pair of events around each span."""

    def __init__(
        self,
        clock: Callable[[], int] = time.perf_counter_ns,
        make_event: Callable[[bool], torch.cuda.Event] | None = None,
    ) -> None:
        """`make_event` makes an event of the stream; its argument says whether it is to have a time."""
        super().__init__(clock)
        self._event: Callable[[bool], Any] = make_event or _cuda_event

    def each(self, call: TimedCall, count: int, before: Callable[[], object] | None = None) -> list[Span]:
        clock = self.clock
        starts, ends = ([self._event(True) for _ in range(count)] for _ in range(2))
        marks: list[tuple[int, int, int]] = []
        for i in range(count):
            if before is not None:
                before()
            began = clock()
            starts[i].record()
            call(i % INPUT_BUFFERS)
            ends[i].record()
            enqueued = clock()
            ends[i].synchronize()
            marks.append((began, enqueued, clock()))
        times = [start.elapsed_time(end) for start, end in zip(starts, ends, strict=True)]
        return [Span(1, *mark, device_ms) for mark, device_ms in zip(marks, times, strict=True)]

    def queue(self, call: TimedCall, count: int) -> Span:
        start, end = self._event(True), self._event(True)
        began = self.clock()
        start.record()
        for i in range(count):
            call(i % INPUT_BUFFERS)
        end.record()
        enqueued = self.clock()
        end.synchronize()
        return Span(count, began, enqueued, self.clock(), start.elapsed_time(end))

    def sustain(self, call: TimedCall, seconds: float, call_ms: float) -> Span:
        # The host waits for the mark that is `marks` parts back, so the parts behind it keep the device busy.
        part = max(1, int(QUEUE_MS / MARKS / call_ms))
        marks = MARKS if part > 1 else min(MARKS, max(2, round(QUEUE_MS / call_ms)))
        free, waiting = deque(self._event(False) for _ in range(marks)), deque[Any]()
        start, end = self._event(True), self._event(True)
        count = 0
        began = self.clock()
        until = began + round(seconds * 1e9)
        start.record()
        while self.clock() < until:
            if not free:
                oldest = waiting.popleft()
                oldest.synchronize()
                free.append(oldest)
            for i in range(count, count + part):
                call(i % INPUT_BUFFERS)
            count += part
            mark = free.popleft()
            mark.record()
            waiting.append(mark)
        end.record()
        enqueued = self.clock()
        end.synchronize()
        return Span(count, began, enqueued, self.clock(), start.elapsed_time(end))


class HostTimer(Timer):
    """On a processor, where a call returns when it is done."""

    def each(self, call: TimedCall, count: int, before: Callable[[], object] | None = None) -> list[Span]:
        clock = self.clock
        marks: list[tuple[int, int]] = []
        for i in range(count):
            if before is not None:
                before()
            began = clock()
            call(i % INPUT_BUFFERS)
            marks.append((began, clock()))
        return [self._span(1, *mark) for mark in marks]

    def queue(self, call: TimedCall, count: int) -> Span:
        began = self.clock()
        for i in range(count):
            call(i % INPUT_BUFFERS)
        return self._span(count, began, self.clock())

    def sustain(self, call: TimedCall, seconds: float, call_ms: float) -> Span:
        count = 0
        began = self.clock()
        until = began + round(seconds * 1e9)
        while self.clock() < until:
            call(count % INPUT_BUFFERS)
            count += 1
        return self._span(count, began, self.clock())

    @staticmethod
    def _span(calls: int, began: int, done: int) -> Span:
        return Span(calls, began, None, done, (done - began) / NS_PER_MS)


def _cuda_event(timed: bool) -> torch.cuda.Event:
    import torch

    return torch.cuda.Event(enable_timing=timed)  # type: ignore[no-untyped-call]
