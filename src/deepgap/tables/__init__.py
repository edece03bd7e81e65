"""The tables of the paper, one file each.

A file in this folder is a table and defines `context(summary)`, a pure function that returns the values of
its template paper/templates/<name>.tex.j2.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepgap.summary import Summary

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
