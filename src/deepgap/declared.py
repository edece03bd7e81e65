"""What the files of figures and tables declare, read without importing them and the libraries that they draw with."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

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
