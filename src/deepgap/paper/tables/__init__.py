"""The tables of the paper, one file each.

A file in this folder is a table and defines `context(summary)`, a pure function that returns the values of
its template paper/templates/<name>.tex.j2. One that does not show the cells of all kinds of device says of which in
`DEVICES`; it is not rendered again when others change, and their cells are not in its summary.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepgap.paper import declared

if TYPE_CHECKING:
    from deepgap.analyse.summary import Summary

TABLES = (
    "table1_peaks",
    "table2_hosts",
    "table3_hardware",
    "table4_fidelity",
    "table5_performance_per_watt",
    "table6_attribution",
    "table7_audit",
    "table8_reproduction",
    "table9_saturation",
    "table10_flags",
)


def load_table(name: str) -> Callable[[Summary], dict[str, Any]]:
    """The context function of this table; the name must be one of `TABLES`."""
    context: Callable[[Summary], dict[str, Any]] = importlib.import_module(f"{__name__}.{name}").context
    return context


def shown_devices(name: str) -> tuple[str, ...]:
    """The kinds of device whose cells a table shows."""
    return declared.shown_devices(Path(__file__).with_name(f"{name}.py"))
