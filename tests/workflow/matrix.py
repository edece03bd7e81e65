"""Which rows of the staleness matrix a test run goes through.

All, where what decides what is stale is another than when all rows last passed (`RECORD`), or where pytest is called
with `--whole-matrix`, as `make test-all` does; else every fifth. `python -m tests.workflow.matrix` writes the record.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from deepgap.jobs.digest import PACKAGE, import_closure, syntax_digest
from tests.conftest import ROOT
from tests.workflow.staleness import ROWS, Row

RECORD = ROOT / "tests/workflow/matrix.sha256"
READ = ("Snakefile", "config", "envs/workflow.txt", "profiles/default", "tests/workflow/staleness.py", "workflow")
"""Beside the modules that plan a run: files and folders, byte by byte."""
EVERY = 5


def planning_modules() -> set[str]:
    """The modules that the rules import, with all of deepgap that these import."""
    named = set()
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        text = file.read_text(encoding="utf-8")
        for module, names in re.findall(r"^from (deepgap[\w.]*) import \(?([\w\s,]+?)\)?$", text, re.MULTILINE):
            inner = {f"{module}.{name}" for name in re.findall(r"\w+", names)}
            named |= {module} | {name for name in inner if is_module(name)}
    return import_closure(named)


def is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def digest() -> str:
    """Over all that decides: the meaning of the modules, the names and bytes of the files."""
    found = hashlib.sha256(syntax_digest(planning_modules()).encode())
    for name in READ:
        path = ROOT / name
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        assert files, name
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                found.update(f"{file.relative_to(ROOT)}\n".encode() + Path(file).read_bytes())
    return found.hexdigest()


def chosen_rows(whole: bool) -> Sequence[Row]:
    """The rows of a test run.

    Args:
        whole: all, whatever the record says.
    """
    passed = RECORD.read_text(encoding="utf-8").strip() if RECORD.is_file() else ""
    return ROWS[::EVERY] if passed == digest() and not whole else ROWS


if __name__ == "__main__":
    RECORD.write_text(f"{digest()}\n", encoding="utf-8")
