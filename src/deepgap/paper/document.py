"""The paper as a document: what it needs of LaTeX, its PDF, and its sources as one archive."""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from deepgap.errors import DeepGapError
from deepgap.files import put_in_place

LIMIT_S = 600
"""Seconds until LaTeX is taken to hang: the paper takes half a minute."""

TIME_VARIABLE = "SOURCE_DATE_EPOCH"
"""The seconds since 1970 that a build that can be repeated takes for the present (reproducible-builds.org)."""

USED = re.compile(r"\\(documentclass|usepackage|bibliographystyle)(?:\[[^]]*\])?\{([^}]*)\}")
ENDING = {"documentclass": "cls", "usepackage": "sty", "bibliographystyle": "bst"}
COMMENT = re.compile(r"(?<!\\)%.*")

FONTS = ("utmr8a.pfb",)
"""One file of each family of fonts that no package names: Times."""

BASE, RECOMMENDED, EXTRA = "texlive-latex-base", "texlive-latex-recommended", "texlive-latex-extra"
SCIENCE, PUBLISHERS, TYPEFACES = "texlive-science", "texlive-publishers", "texlive-fonts-recommended"
DEBIAN = {
    "IEEEtran.cls": PUBLISHERS,
    "IEEEtran.bst": PUBLISHERS,
    "algorithm.sty": SCIENCE,
    "algpseudocode.sty": SCIENCE,
    "siunitx.sty": SCIENCE,
    "placeins.sty": EXTRA,
    "booktabs.sty": RECOMMENDED,
    "microtype.sty": RECOMMENDED,
    "xcolor.sty": RECOMMENDED,
    "multirow.sty": EXTRA,
    "utmr8a.pfb": TYPEFACES,
    **{f"{name}.sty": BASE for name in ("fontenc", "inputenc", "textcomp", "amsmath")},
    **{f"{name}.sty": BASE for name in ("array", "graphicx", "hyperref", "url")},
}
"""Debian's package of each file (bookworm's); another file is most likely in texlive-latex-extra."""


def needed_files(text: str) -> tuple[str, ...]:
    """The class, packages, bibliography style and fonts of a LaTeX text, as TeX's own names of files."""
    found = USED.findall(COMMENT.sub("", text))
    named = (f"{name.strip()}.{ENDING[command]}" for command, names in found for name in names.split(","))
    return tuple(dict.fromkeys((*named, *FONTS)))


def missing_latex(main: Path) -> str | None:
    """A sentence that names what of LaTeX a document needs and this machine lacks; None where all is there."""
    needed = needed_files(main.read_text(encoding="utf-8"))
    programs = [name for name in ("latexmk", "pdflatex", "bibtex") if shutil.which(name) is None]
    if shutil.which("kpsewhich") is None:
        lacking, packages = ["TeX Live", *programs], {"latexmk", *map(_debian, needed)}
    else:
        said = subprocess.run(["kpsewhich", *needed], cwd=main.parent, capture_output=True, encoding="utf-8")
        found = {Path(line).name for line in said.stdout.splitlines()}
        lacking = programs + [name for name in needed if name not in found]
        packages = {"latexmk" if name == "latexmk" else _debian(name) for name in lacking}
    if not lacking:
        return None
    verb = "is" if len(lacking) == 1 else "are"
    return (
        f"{main} cannot be compiled here: {', '.join(lacking)} {verb} missing; install TeX Live with "
        f"what docs/paper.md lists (on Debian: apt-get install {' '.join(sorted(packages))})."
    )


def _debian(name: str) -> str:
    return BASE if name in ("pdflatex", "bibtex") else DEBIAN.get(name, EXTRA)


def compile_pdf(main: Path, pdf: Path) -> None:
    """Compile a LaTeX document beside which all its parts lie, and keep only the PDF.

    Raises:
        DeepGapError: LaTeX or one of the document's packages is not installed, or LaTeX stops; the sentence says what
            to do.
    """
    with tempfile.TemporaryDirectory() as folder:
        run_latex(main, Path(folder))
        shutil.move(Path(folder, main.stem).with_suffix(".pdf"), pdf)


def bundle(main: Path, parts: Iterable[Path], archive: Path) -> None:
    """Write a document and its parts as a .tar.gz from which LaTeX makes it anew, without the rest of the project.

    What goes in is compiled in a folder of its own, where nothing else lies; the bibliography goes in as it came out
    of BibTeX, too, because arXiv takes that. The same files are the same bytes: names are sorted, owners and times
    are fixed. The time is that of `TIME_VARIABLE`, else 1970.

    Args:
        main: the document; the names in the archive are relative to its folder.

    Raises:
        DeepGapError: see `compile_pdf`; `TIME_VARIABLE` is no time; a part that the document needs is not among
            `parts`, which stops LaTeX.
    """
    files, time_s = sorted({main, *parts}), _fixed_time()
    with tempfile.TemporaryDirectory() as folder:
        alone, made = Path(folder, "alone"), Path(folder, "made")
        for file in files:
            target = alone / file.relative_to(main.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        run_latex(alone / main.name, made)
        bibliography = Path(main.stem).with_suffix(".bbl")
        shutil.copyfile(made / bibliography, alone / bibliography)
        packed = [path for path in alone.rglob("*") if path.is_file()]
        content = {path.relative_to(alone).as_posix(): path.read_bytes() for path in packed}
    with put_in_place(archive) as partial:
        partial.write_bytes(pack(content, time_s))


def _fixed_time() -> int:
    text = os.environ.get(TIME_VARIABLE, "0")
    if not re.fullmatch(r"[0-9]{1,10}", text):
        raise DeepGapError(f"{TIME_VARIABLE} is {text!r}; it must be seconds since 1970, or not be set.")
    return int(text)


def pack(content: Mapping[str, bytes], time_s: int) -> bytes:
    """A .tar.gz of files by name, the same bytes for the same content with the same zlib."""
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(content):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content[name]), time_s
            archive.addfile(member, io.BytesIO(content[name]))
    return gzip.compress(tarred.getvalue(), mtime=0)


def run_latex(main: Path, folder: Path) -> None:
    """Compile a document into a folder.

    Raises:
        DeepGapError: see `compile_pdf`.
    """
    if missing := missing_latex(main):
        raise DeepGapError(missing)
    # Without the user's own latexmkrc, which may name other folders or open a viewer that never ends.
    options = ["-norc", "-pdf", "-interaction=nonstopmode", "-halt-on-error", f"-outdir={folder}"]
    status, said = _run(["latexmk", *options, main.name], main.parent)
    if status is None:
        raise DeepGapError(
            f"LaTeX did not end within {LIMIT_S // 60} min in {main}; its last line: {_last_line(said)}"
        )
    if status:
        problem = next((line for line in said.splitlines() if line.startswith("!")), _last_line(said))
        raise DeepGapError(f"LaTeX stopped in {main}: {problem.lstrip('! ')}")


def _run(command: Sequence[str], folder: Path) -> tuple[int | None, str]:
    """The exit status of a command, null when it was killed after `LIMIT_S`, and all that it printed."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={TIME_VARIABLE: "0", **os.environ, "FORCE_SOURCE_DATE": "1"},
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
