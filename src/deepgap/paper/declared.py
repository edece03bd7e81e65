"""What the files of figures and tables declare, read without importing them and the libraries that they draw with."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from deepgap.errors import DeepGapError

DEVICES = ("cpu", "cuda")
"""The kinds of device whose cells a figure or a table shows, unless it says otherwise."""


def read_declared(file: Path, name: str, default: Any = None) -> Any:
    """The value of a constant of a Python file, which is written as a literal.

    Raises:
        LookupError: there is no such constant, and no default.
    """
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]:
            return ast.literal_eval(node.value)
    if default is None:
        raise LookupError(f"{file} has no {name}")
    return default


def shown_devices(file: Path) -> tuple[str, ...]:
    """The kinds of device whose cells the figure or table of this file shows: its `DEVICES`, or all.

    Raises:
        DeepGapError: it names what is no kind of device, or not a tuple.
    """
    devices = read_declared(file, "DEVICES", DEVICES)
    if not isinstance(devices, tuple) or not set(devices) <= set(DEVICES):
        raise DeepGapError(
            f"{file} has DEVICES = {devices!r}; it may be a tuple of {' and '.join(map(repr, DEVICES))}."
        )
    return devices
