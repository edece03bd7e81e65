"""The tables of the paper, one file each.

A file in this folder is a table, found by its name, and defines `context(summary)`, a pure function that returns the
values of its template paper/templates/<name>.tex.j2. One that does not show the cells of all kinds of device says of
which in `DEVICES`; it is not rendered again when others change, and their cells are not in its summary.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepgap.paper import parts

if TYPE_CHECKING:
    from deepgap.analyse.summary import Summary

FOLDER = Path(__file__).parent
TABLES = parts.find_parts(FOLDER)


def load_table(name: str) -> Callable[[Summary], dict[str, Any]]:
    """The context function of this table; the name must be one of `TABLES`."""
    context: Callable[[Summary], dict[str, Any]] = importlib.import_module(f"{__name__}.{name}").context
    return context


def shown_devices(name: str) -> tuple[str, ...]:
    """The kinds of device whose cells a table shows."""
    return parts.shown_devices(FOLDER / f"{name}.py")
