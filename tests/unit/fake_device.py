"""A device in virtual time: a host's clock, a queue of work behind it, a counter of energy. Nothing is waited for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import polars as pl

from deepgap.cells.telemetry_file import SAMPLES
from deepgap.measure.arms.timer import CudaTimer, HostTimer


@dataclass
class FakeHost:
    """A clock that moves only when something takes time."""

    now_ns: int = 0

    def clock(self) -> int:
        # Reading a clock takes time, too; without it a loop that waits for one would not end.
        self.now_ns += 50
        return self.now_ns

    def take(self, milliseconds: float) -> None:
        self.now_ns += round(milliseconds * 1e6)

    def call(self, milliseconds: float | Callable[[], float]) -> Callable[[int], None]:
        """A call on the host of this duration, or of the next one."""
        return lambda index: self.take(milliseconds() if callable(milliseconds) else milliseconds)

    def timer(self) -> HostTimer:
        return HostTimer(self.clock)


@dataclass
class FakeGpu:
    """A GPU whose work begins when what was queued before is done.

    waits: times at which the host waited for the device. idle_ms: how long the device had nothing to do between the
    first work and the last. deepest_ms: the most work in the queue.
    """

    host: FakeHost = field(default_factory=FakeHost)
    done_ns: int = 0
    began: bool = False
    waits: int = 0
    idle_ms: float = 0.0
    deepest_ms: float = 0.0

    def call(self, device_ms: float | Callable[[], float], launch_ms: float = 0.01) -> Callable[[int], None]:
        def launch(index: int) -> None:
            self.host.take(launch_ms)
            if self.began:
                self.idle_ms += max(0, self.host.now_ns - self.done_ns) / 1e6
            self.began = True
            duration = device_ms() if callable(device_ms) else device_ms
            self.done_ns = max(self.done_ns, self.host.now_ns) + round(duration * 1e6)
            self.deepest_ms = max(self.deepest_ms, (self.done_ns - self.host.now_ns) / 1e6)

        return launch

    def make_event(self, timed: bool) -> FakeEvent:
        return FakeEvent(self, timed)

    def timer(self) -> CudaTimer:
        return CudaTimer(self.host.clock, self.make_event)  # type: ignore[arg-type]


@dataclass
class FakeEvent:
    """A CUDA event: it happens when the work queued before it is done."""

    gpu: FakeGpu
    timed: bool
    at_ns: int = 0

    def record(self) -> None:
        self.gpu.host.take(0.001)
        self.at_ns = max(self.gpu.done_ns, self.gpu.host.now_ns)

    def synchronize(self) -> None:
        self.gpu.waits += 1
        self.gpu.host.now_ns = max(self.gpu.host.now_ns, self.at_ns)

    def elapsed_time(self, end: FakeEvent) -> float:
        assert self.timed and end.timed, "an event without a time was asked for it"
        return (end.at_ns - self.at_ns) / 1e6


def samples_of(**columns: list) -> pl.DataFrame:
    """Samples with these columns; a sample every 50 ms unless they say otherwise."""
    count = len(next(iter(columns.values())))
    columns.setdefault("time_ms", [50.0 * i for i in range(count)])
    return pl.DataFrame({name: columns.get(name, [None] * count) for name in SAMPLES}, schema=SAMPLES)


def counter_samples(
    joules: Callable[[float], float],
    end_ms: float,
    step_ms: float = 100.0,
    phase_ms: float = 0.0,
    interval_ms: float = 50.0,
    poll_ms: float | None = 5.0,
    delay_ms: Callable[[], float] = lambda: 0.0,
) -> pl.DataFrame:
    """Samples of a counter that shows every `step_ms`, from `phase_ms` on, what was used since 0 ms until then.

    Args:
        joules: used until a time in milliseconds. Its power is told at each sample, too.
        poll_ms: between two looks at the counter; null where samples alone look at it.
        delay_ms: how late a look is.
    """

    def shown_mj(at_ms: float) -> int:
        steps = math.floor((at_ms - phase_ms) / step_ms)
        return round(1000 * joules(phase_ms + steps * step_ms)) if steps >= 0 else 0

    rows, value, since_ms, due = [], -1, 0.0, 0.0
    look_ms = 0.0
    while look_ms <= end_ms:
        at_ms = look_ms + delay_ms()
        if shown_mj(at_ms) != value:
            value, since_ms = shown_mj(at_ms), at_ms
        if look_ms >= due:
            rows.append((at_ms, value, since_ms, 1000 * (joules(at_ms + 1) - joules(at_ms))))
            due += interval_ms
        look_ms += poll_ms or interval_ms
    times, energy, since, power = (list(column) for column in zip(*rows, strict=True))
    return samples_of(
        time_ms=times,
        energy_mj=energy,
        energy_since_ms=since if poll_ms else [None] * len(times),
        power_instant_w=power,
    )
