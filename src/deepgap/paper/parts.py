"""The parts of the paper: figures and tables, found by their files.

A part is a file of the folder `figures` or `tables`; the text shows it where it names it. What a part declares is
read without importing it, so that planning does not load the libraries that draw.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepgap.errors import DeepGapError

DEVICES = ("cpu", "cuda")
"""The kinds of device whose cells a figure or a table shows, unless it says otherwise."""

SHOWN_FIGURE = re.compile(r"\\(?:pagefigure|columnfigure)\{(\w+)\}|\\includegraphics(?:\[[^]]*\])?\{figures/(\w+)\}")
SHOWN_TABLE = re.compile(r"\\input\{tables/(\w+)\.tex\}")
COMMENT = re.compile(r"(?<!\\)%.*")


@dataclass(frozen=True)
class Shown:
    """The figures and tables that a text shows, each in the order of the text."""

    figures: tuple[str, ...]
    tables: tuple[str, ...]


def find_parts(folder: Path) -> tuple[str, ...]:
    """The names of the parts in a folder, sorted."""
    names = (file.stem for file in folder.glob("*.py"))
    return tuple(sorted(name for name in names if name.isidentifier() and not name.startswith("_")))


def shown_in(text: str) -> Shown:
    r"""What a LaTeX text shows by `\pagefigure`, `\columnfigure`, `\includegraphics` and `\input{tables/...}`."""
    plain = COMMENT.sub("", text)
    figures = dict.fromkeys(one or other for one, other in SHOWN_FIGURE.findall(plain))
    return Shown(tuple(figures), tuple(dict.fromkeys(SHOWN_TABLE.findall(plain))))


def read_shown(file: Path) -> Shown:
    """What the LaTeX text in a file shows; nothing where there is no such file."""
    return shown_in(file.read_text(encoding="utf-8") if file.is_file() else "")


def in_order(found: Iterable[str], shown: Iterable[str]) -> tuple[str, ...]:
    """The found parts in the order in which a text shows them, and after them those that it does not show."""
    found, shown = list(found), list(shown)
    return tuple([name for name in shown if name in found] + [name for name in found if name not in shown])


def read_declared(file: Path, name: str, default: Any = None) -> Any:
    """The value of a constant of a Python file, which is written as a literal.

    Raises:
        LookupError: there is no such constant, and no default.
    """
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
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
