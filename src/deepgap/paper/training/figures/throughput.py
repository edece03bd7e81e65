"""Samples a second of a training step over batch size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepgap.analyse.training.summary import TrainingSummary
from deepgap.paper.training.grid import draw_over_batch

if TYPE_CHECKING:
    import altair as alt

CAPTION = (
    "Samples a second of queued training steps over batch size, logarithmic: medians over sweeps, a process each, "
    "and from six sweeps on their exact order-statistic interval of at least 95 %. The modes jax and tensorflow "
    "are Keras on that framework, the others PyTorch. A sample of CycleGAN is a pair of images. A mixed precision "
    "has the colour of its products. A cross at the foot is a batch size at which a mode failed."
)


def draw(summary: TrainingSummary) -> alt.VConcatChart:
    """Rows are devices, columns workloads."""
    return draw_over_batch(summary, "samples_s", "Samples/s", spread=True)
