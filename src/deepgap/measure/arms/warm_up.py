"""Warm-up: calls until the device is steady."""

from __future__ import annotations

from typing import NamedTuple

from deepgap.measure.arms.timer import NS_PER_MS, TimedCall, Timer

STEADY = 0.02
"""The two halves of a steady block of calls differ by at most this part."""
WARMUP_MS = 100
"""Warm-up lasts at least this long: clocks that rise from idle need tens of milliseconds."""
WARMUP_BLOCKS = 10
WARMUP_LIMIT_MS = 1000
"""No block of calls begins later than this because the device is not steady."""


class WarmedUp(NamedTuple):
    """The calls made, and whether the device became steady."""

    calls: int
    steady: bool


def warm_up(call: TimedCall, timer: Timer, iterations: int) -> WarmedUp:
    """Call until the device is steady, in blocks of `iterations`.

    Steady: the halves of the last block took the same time within `STEADY`, and `WARMUP_MS` have passed. After
    `WARMUP_BLOCKS` blocks or `WARMUP_LIMIT_MS` it is given up, unless that took less than `WARMUP_MS`.
    """
    began = timer.clock()
    first, second = iterations - iterations // 2, iterations // 2
    blocks = 0
    while True:
        head = timer.queue(call, first).host_ms / first
        tail = timer.queue(call, second).host_ms / second if second else head
        blocks += 1
        steady = abs(head - tail) <= STEADY * head
        elapsed_ms = (timer.clock() - began) / NS_PER_MS
        if elapsed_ms >= WARMUP_MS and (steady or blocks >= WARMUP_BLOCKS or elapsed_ms >= WARMUP_LIMIT_MS):
            return WarmedUp(blocks * iterations, steady)
