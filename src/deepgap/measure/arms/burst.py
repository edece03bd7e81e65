"""Burst: a short queued run, before power and temperature have settled."""

from __future__ import annotations

import math

from deepgap.measure.arms.timer import Span, TimedCall, Timer

BURST_MS = 100.0
FEWEST_QUEUED = 4


def time_burst(call: TimedCall, timer: Timer, call_ms: float) -> Span:
    """One span of as many calls as take about `BURST_MS`, and a few in any case.

    Args:
        call_ms: the median latency.
    """
    return timer.queue(call, max(FEWEST_QUEUED, math.ceil(BURST_MS / call_ms)))
