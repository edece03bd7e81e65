"""The second paper's figures and tables, one file each in `figures` and `tables`, found by their names.

They are what the first paper's are, of another summary: a figure defines `draw(summary)` and `CAPTION`, a table
`context(summary)`, with a `TrainingSummary`; a table's template is paper/templates/training/<name>.tex.j2.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepgap.paper import parts

if TYPE_CHECKING:
    import altair as alt

    from deepgap.analyse.training.summary import TrainingSummary

FOLDER = Path(__file__).parent
FIGURES = parts.find_parts(FOLDER / "figures")
TABLES = parts.find_parts(FOLDER / "tables")


def load_figure(name: str) -> Callable[[TrainingSummary], alt.VConcatChart]:
    """The `draw` of the figure of this name; the name must be one of `FIGURES`."""
    draw: Callable[[TrainingSummary], alt.VConcatChart] = importlib.import_module(f"{__name__}.figures.{name}").draw
    return draw


def load_table(name: str) -> Callable[[TrainingSummary], dict[str, Any]]:
    """The context function of this table; the name must be one of `TABLES`."""
    context: Callable[[TrainingSummary], dict[str, Any]]
    context = importlib.import_module(f"{__name__}.tables.{name}").context
    return context


def read_caption(name: str) -> str:
    """The caption of a figure."""
    return str(parts.read_declared(FOLDER / "figures" / f"{name}.py", "CAPTION"))
