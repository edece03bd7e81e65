"""The part of a device's peak that a training step reaches, over batch size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepgap.analyse.training.summary import TrainingSummary
from deepgap.paper.training.grid import draw_over_batch

if TYPE_CHECKING:
    import altair as alt

CAPTION = (
    "Operations of training steps, two a multiply-add, as a part of the dense peak of the mode's precision, over "
    "batch size, logarithmic; medians over sweeps. A processor's peak is not known, so that it has no row. FP32 "
    "may exceed 100 % where convolutions multiply less often than their layers say."
)


def draw(summary: TrainingSummary) -> alt.VConcatChart:
    """Rows are devices, columns workloads."""
    return draw_over_batch(summary, "share", "Share of peak (%)", factor=100)
