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

SHOWS = ("measured", "published")
"""The kinds of values that a figure shows, unless it says otherwise; none in one of data sheets or of the study."""

SHOWN_FIGURE = re.compile(r"\\paperfigure\{(\w+)\}|\\includegraphics(?:\[[^]]*\])?\{figures/(\w+)\}")
SHOWN_TABLE = re.compile(r"\\input\{(?:\w+/)?tables/(\w+)\.tex\}")
TABLE_FLOAT = re.compile(r"\\begin\{table\*?\}(.*?)\\end\{table\*?\}", re.DOTALL)
TABLE_CAPTION = re.compile(r"\\caption\{([^{}]*)\}")
USED_MACRO = re.compile(r"\\([A-Z][A-Za-z]+)")
DEFINED_MACRO = re.compile(r"\\newcommand\{\\([A-Z][A-Za-z]+)\}")
"""Those whose names begin with a capital, as all do that are written here."""
COMMENT = re.compile(r"(?<!\\)%.*")


@dataclass(frozen=True)
class Shown:
    """The figures and tables that a text shows, in its order, and the macros that it uses and does not define."""

    figures: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    macros: tuple[str, ...] = ()


def find_parts(folder: Path) -> tuple[str, ...]:
    """The names of the parts in a folder, sorted."""
    names = (file.stem for file in folder.glob("*.py"))
    return tuple(sorted(name for name in names if name.isidentifier() and not name.startswith("_")))


def shown_in(text: str) -> Shown:
    r"""What a LaTeX text shows, and which macros it uses.

    It shows figures by `\paperfigure` or `\includegraphics`, tables by `\input{tables/...}`, in a folder or not.
    """
    plain = COMMENT.sub("", text)
    figures = dict.fromkeys(one or other for one, other in SHOWN_FIGURE.findall(plain))
    macros = set(USED_MACRO.findall(plain)) - set(DEFINED_MACRO.findall(plain))
    return Shown(tuple(figures), tuple(dict.fromkeys(SHOWN_TABLE.findall(plain))), tuple(sorted(macros)))


def read_shown(file: Path) -> Shown:
    """What the LaTeX text in a file shows; nothing where there is no such file."""
    return shown_in(file.read_text(encoding="utf-8") if file.is_file() else "")


def read_titles(file: Path) -> dict[str, str]:
    """`table_titles` of the LaTeX text in a file; none where there is no such file."""
    return table_titles(file.read_text(encoding="utf-8") if file.is_file() else "")


def table_titles(text: str) -> dict[str, str]:
    """The number and the caption of each table that a LaTeX text shows: `Table I: Peaks`, in its order."""
    titles: dict[str, str] = {}
    for place, float_ in enumerate(TABLE_FLOAT.findall(COMMENT.sub("", text)), 1):
        caption = TABLE_CAPTION.search(float_)
        for name in SHOWN_TABLE.findall(float_):
            titles[name] = f"Table {roman(place)}" + (f": {caption[1]}" if caption else "")
    return titles


def roman(number: int) -> str:
    """A number below 40 in Roman numerals."""
    tens, ones = divmod(number, 10)
    return "X" * tens + ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")[ones]


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
    return _some_of(file, "DEVICES", DEVICES)


def shown_values(file: Path) -> tuple[str, ...]:
    """The kinds of values that the figure of this file shows: its `SHOWS`, or all. Raises: see `shown_devices`."""
    return _some_of(file, "SHOWS", SHOWS)


def _some_of(file: Path, name: str, known: tuple[str, ...]) -> tuple[str, ...]:
    declared = read_declared(file, name, known)
    if not isinstance(declared, tuple) or not set(declared) <= set(known):
        allowed = " and ".join(map(repr, known))
        raise DeepGapError(f"{file} has {name} = {declared!r}; it may be a tuple of {allowed}.")
    return declared
