"""The figures of the paper, one file each.

A file in this folder is a figure, found by its name, and defines `draw(summary)`, a pure function that returns an
Altair chart, and `CAPTION`, its caption without numbers. One that does not show the cells of all kinds of device says
of which in `DEVICES`; it is not drawn again when others change, and their cells are not in its summary. One
without measured or without published values says which it has in `SHOWS`. A figure is as wide as its data ask for, a
column or the page, and the text places it by its width; one that has nothing to show is a sentence in words, which is
narrower than any figure and which the text leaves out.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from deepgap.paper import parts

if TYPE_CHECKING:
    import altair as alt

    from deepgap.analyse.summary import Summary

FOLDER = Path(__file__).parent
FIGURES = parts.find_parts(FOLDER)


def load_figure(name: str) -> Callable[[Summary], alt.VConcatChart]:
    """The `draw` of the figure of this name; the name must be one of `FIGURES`."""
    draw: Callable[[Summary], alt.VConcatChart] = importlib.import_module(f"{__name__}.{name}").draw
    return draw


def read_caption(name: str) -> str:
    """The caption of a figure."""
    return str(parts.read_declared(FOLDER / f"{name}.py", "CAPTION"))


def shown_devices(name: str) -> tuple[str, ...]:
    """The kinds of device whose cells a figure shows."""
    return parts.shown_devices(FOLDER / f"{name}.py")


def shown_values(name: str) -> tuple[str, ...]:
    """The kinds of values that a figure shows, measured and published."""
    return parts.shown_values(FOLDER / f"{name}.py")
