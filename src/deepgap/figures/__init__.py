"""The figures of the paper, one file each.

A file in this folder is a figure and defines `draw(summary)`, a pure function that returns an Altair chart,
and `CAPTION`, its caption without numbers.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import altair as alt

    from deepgap.summary import Summary

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
    """The caption of a figure, read from its file without importing the drawing library."""
    tree = ast.parse(Path(__file__).with_name(f"{name}.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["CAPTION"]:
            return str(ast.literal_eval(node.value))
    raise LookupError(f"figures/{name}.py has no CAPTION")
