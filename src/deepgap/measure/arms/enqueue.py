"""Enqueue: what it takes the host to hand over calls, with room in the driver's queue."""

from __future__ import annotations

from deepgap.measure.arms.timer import Span, TimedCall, Timer

ENQUEUE_CALLS = 3
"""So few that the launches of a deep network (some 300 kernels a call) fit in the driver's queue of 1,024."""


def time_enqueue(call: TimedCall, timer: Timer) -> Span:
    """One span of a few calls queued on an idle device; its enqueue time is what counts."""
    return timer.queue(call, ENQUEUE_CALLS)
