"""Device memory of a training step over batch size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepgap.analyse.training.summary import TrainingSummary
from deepgap.paper.training.grid import draw_over_batch

if TYPE_CHECKING:
    import altair as alt

CAPTION = (
    "Memory of training over batch size: the most that the driver counted while a cell ran, above the idle "
    "device, and of all sweeps the most; on a processor the growth of the resident set at its peak. JAX is told "
    "not to take a device's memory at once. A cross at the foot is a batch size at which a mode failed."
)


def draw(summary: TrainingSummary) -> alt.VConcatChart:
    """Rows are devices, columns workloads."""
    return draw_over_batch(summary, "memory_bytes", "Memory (GiB)", factor=2.0**-30)
