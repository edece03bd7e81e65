"""The figures of the paper, one file each.

A file in this folder is a figure and defines `draw(summary)`, a pure function that returns an Altair chart,
and `CAPTION`, its caption without numbers. One that does not show the cells of all kinds of device says of which in
`DEVICES`; it is not drawn again when others change, and their cells are not in its summary.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from deepgap.paper import declared

if TYPE_CHECKING:
    import altair as alt

    from deepgap.analyse.summary import Summary

FIGURES = (
    "fig01_generations",
    "fig02_structure",
    "fig03_precision",
    "fig04_operations",
    "fig05_telemetry",
    "fig06_throughput",
    "fig07_latency_by_model",
    "fig08_latency_over_batch",
    "fig09_memory_over_batch",
    "fig10_pareto",
    "fig11_speedup",
    "fig12_p99_over_batch",
    "fig13_performance_per_watt",
    "fig14_attribution",
    "fig15_roofline",
    "fig16_fidelity_against_speed",
    "fig17_cpu_threads",
)


def load_figure(name: str) -> Callable[[Summary], alt.VConcatChart]:
    """The `draw` of the figure of this name; the name must be one of `FIGURES`."""
    draw: Callable[[Summary], alt.VConcatChart] = importlib.import_module(f"{__name__}.{name}").draw
    return draw


def read_caption(name: str) -> str:
    """The caption of a figure."""
    return str(declared.read_declared(_file(name), "CAPTION"))


def shown_devices(name: str) -> tuple[str, ...]:
    """The kinds of device whose cells a figure shows."""
    return declared.shown_devices(_file(name))


def _file(name: str) -> Path:
    return Path(__file__).with_name(f"{name}.py")
