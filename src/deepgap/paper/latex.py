"""Text for LaTeX: escaping, numbers, and the templates of the tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from deepgap.text import significant

ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "×": r"\texttimes{}",
    "≤": r"$\leq$",
    "\N{MINUS SIGN}": r"$-$",
}


class Latex(str):
    """Text that is LaTeX already and is not escaped."""


ABSENT = Latex("---")


def escape(text: object) -> Latex:
    """The LaTeX that prints this text as it stands, a space for what cannot be printed; `Latex` is left alone."""
    if isinstance(text, Latex):
        return text
    return Latex("".join(ESCAPES.get(char, char if char.isprintable() else " ") for char in str(text)))


def number(value: float | None) -> Latex:
    r"""`\num{...}` of a value that is exact as it stands; a dash for None."""
    return ABSENT if value is None else Latex(rf"\num{{{value:.15g}}}")


def rounded(value: float | None, digits: int = 4) -> Latex:
    r"""`\num{...}` of a measured value with this many significant digits, zeros kept; a dash for None."""
    return ABSENT if value is None else Latex(rf"\num{{{significant(value, digits)}}}")


def interval(low: float | None, high: float | None, digits: int = 4) -> Latex:
    r"""`[\num{low}, \num{high}]`; nothing where there is no interval."""
    if low is None or high is None:
        return Latex("")
    return Latex(f"[{rounded(low, digits)}, {rounded(high, digits)}]")


def render(template: Path, context: Mapping[str, Any]) -> str:
    r"""Fill a template with `\VAR{...}`, `\BLOCK{...}` and `\#{...}`; all values are escaped, none may be
    missing.

    Raises:
        jinja2.UndefinedError: the template names what the context lacks.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        undefined=jinja2.StrictUndefined,
        block_start_string=r"\BLOCK{",
        block_end_string="}",
        variable_start_string=r"\VAR{",
        variable_end_string="}",
        comment_start_string=r"\#{",
        comment_end_string="}",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
        finalize=_finalize,
    )
    environment.filters |= {"number": number, "rounded": rounded}
    environment.globals |= {"interval": interval}
    return environment.get_template(template.name).render(context)


def _finalize(value: object) -> str:
    # Undefined values pass through, so that they are refused when they are printed.
    return value if isinstance(value, jinja2.Undefined) else escape(value)  # type: ignore[return-value]
