"""Latency: one call, then synchronise."""

from __future__ import annotations

from deepgap.measure.arms.stopping import Collected, Rule
from deepgap.measure.arms.timer import TimedCall, Timer


def time_latency(call: TimedCall, timer: Timer, rule: Rule) -> Collected:
    """A span a call until the rule is met."""
    return rule.collect(lambda count: timer.each(call, count))
