"""Cold: latency of calls before each of which the L2 cache was overwritten."""

from __future__ import annotations

from collections.abc import Callable

from deepgap.measure.arms.stopping import Collected, Rule
from deepgap.measure.arms.timer import TimedCall, Timer

FLUSH_FACTOR = 2
"""Bytes overwritten before a call, over those of the cache."""


def time_cold(call: TimedCall, timer: Timer, rule: Rule, flush: Callable[[], object]) -> Collected:
    """A span a call until the rule is met; `flush` runs before each, outside of its span."""
    return rule.collect(lambda count: timer.each(call, count, flush))


def flush_l2() -> Callable[[], None]:
    """A function that overwrites the device's L2 cache and waits until that is done."""
    import torch

    size = FLUSH_FACTOR * torch.cuda.get_device_properties().L2_cache_size
    buffer = torch.empty(size, dtype=torch.int8, device="cuda")

    def flush() -> None:
        buffer.zero_()
        torch.cuda.current_stream().synchronize()

    return flush
