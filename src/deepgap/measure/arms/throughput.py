"""Throughput: calls queued for seconds, so that the clocks and the power are those of steady work."""

from __future__ import annotations

from deepgap.measure.arms.timer import Span, TimedCall, Timer


def time_throughput(call: TimedCall, timer: Timer, seconds: float, call_ms: float) -> Span:
    """One span of at least `seconds`. Where launching takes longer than computing, the device is not kept busy.

    Args:
        call_ms: the median latency, by which the depth of the queue is chosen.
    """
    return timer.sustain(call, seconds, call_ms)
