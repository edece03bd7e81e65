"""Text for LaTeX: escaping, numbers, and the templates of the tables."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import jinja2

from deepgap.errors import DeepGapError
from deepgap.text import significant

LIMIT_S = 600
"""Seconds until LaTeX is taken to hang: the paper takes half a minute."""

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


def compile_pdf(main: Path, pdf: Path) -> None:
    """Compile a LaTeX document and keep only the PDF.

    Args:
        main: the document, beside which its bibliography lies.
        pdf: the PDF, in the folder in which the document's parts are found.

    Raises:
        DeepGapError: latexmk is not installed, or LaTeX stops; the sentence says what to do.
    """
    if shutil.which("latexmk") is None:
        raise DeepGapError(
            "The PDF needs latexmk, which is not installed; install TeX Live with it and what paper/main.tex uses "
            "(on Debian: latexmk texlive-latex-extra texlive-science texlive-publishers texlive-fonts-recommended)."
        )
    with tempfile.TemporaryDirectory() as folder:
        # Without the user's own latexmkrc, which may name other folders or open a viewer that never ends.
        options = ["-norc", "-pdf", "-interaction=nonstopmode", "-halt-on-error", f"-outdir={folder}"]
        status, said = _run(
            ["latexmk", *options, str(main.resolve())], pdf.parent, BIBINPUTS=f"{main.resolve().parent}:"
        )
        if status is None:
            raise DeepGapError(
                f"LaTeX did not end within {LIMIT_S // 60} min in {main}; its last line: {_last_line(said)}"
            )
        if status:
            problem = next((line for line in said.splitlines() if line.startswith("!")), _last_line(said))
            raise DeepGapError(f"LaTeX stopped in {main}: {problem.lstrip('! ')}")
        shutil.move(Path(folder, main.stem).with_suffix(".pdf"), pdf)


def _run(command: Sequence[str], folder: Path, **environment: str) -> tuple[int | None, str]:
    """The exit status of a command, null when it was killed after `LIMIT_S`, and all that it printed."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=LIMIT_S)
        return process.returncode, said
    except subprocess.TimeoutExpired:
        _kill(process)
        return None, process.communicate()[0]
    finally:
        _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    """End a process and its children, which hold its pipe."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it printed nothing")
