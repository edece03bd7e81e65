"""What a launch costs on this host and device: the floor of every call that launches kernels."""

from __future__ import annotations

import time
from itertools import pairwise
from statistics import median
from typing import Any

LAUNCHES = 200
"""So few that they fit in the driver's queue of 1,024."""
AHEAD_CYCLES = 20_000_000
"""Clock cycles for which the device is kept busy meanwhile: some 10 ms, longer than the launches take."""


def time_launch() -> dict[str, Any]:
    """What launches of a kernel that does nothing cost, queued behind a longer one so that neither side waits.

    Returns:
        enqueue_ns: median host time of a launch. device_ns: device time of a launch, from one to the next.
    """
    import torch

    def launch(cycles: int) -> None:
        torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    launch(0)
    torch.cuda.current_stream().synchronize()
    launch(AHEAD_CYCLES)
    start.record()
    marks = [time.perf_counter_ns()]
    for _ in range(LAUNCHES):
        launch(0)
        marks.append(time.perf_counter_ns())
    end.record()
    end.synchronize()
    return {
        "enqueue_ns": float(median(later - earlier for earlier, later in pairwise(marks))),
        "device_ns": 1e6 * start.elapsed_time(end) / LAUNCHES,
    }
