"""What a launch costs on this host and device: the floor of every call that launches kernels."""

from __future__ import annotations

from statistics import median
from typing import Any

from deepgap.measure.arms.timer import Timer

LAUNCHES = 200


def time_launch(timer: Timer) -> dict[str, Any]:
    """Medians of launches of a kernel that does nothing, each on an idle device.

    Returns:
        enqueue_ns: host time of the launch with the two events around it. device_ns: device time between these.
    """
    import torch

    spans = timer.each(lambda index: torch.cuda._sleep(0), LAUNCHES)  # type: ignore[no-untyped-call]
    return {
        "enqueue_ns": median(1e6 * (span.enqueue_ms or 0.0) for span in spans),
        "device_ns": median(1e6 * span.device_ms for span in spans),
    }
