"""The PDF is compiled with nothing of the user's own, and never hangs."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from deepgap.errors import DeepGapError
from deepgap.paper import latex
from deepgap.paper.latex import compile_pdf

needs_latexmk = pytest.mark.skipif(shutil.which("latexmk") is None, reason="needs latexmk")


def document(folder: Path, body: str) -> Path:
    folder.mkdir(exist_ok=True)
    main = folder / "main.tex"
    main.write_text(f"\\documentclass{{article}}\\begin{{document}}{body}\\end{{document}}\n", encoding="utf-8")
    return main


@needs_latexmk
def test_the_users_latexmkrc_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".latexmkrc").write_text("$aux_dir = 'stray'; $out_dir = 'stray'; die 'read';\n", encoding="utf-8")
    monkeypatch.setenv("HOME", str(home))
    main = document(tmp_path / "pa per", "x")
    compile_pdf(main, tmp_path / "x.pdf")
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")
    assert list(main.parent.iterdir()) == [main]


@needs_latexmk
def test_what_stops_latex_is_told(tmp_path: Path) -> None:
    with pytest.raises(DeepGapError, match=r"LaTeX stopped in .*main\.tex: Undefined control sequence"):
        compile_pdf(document(tmp_path, r"\nosuchcommand"), tmp_path / "x.pdf")


def test_latex_that_hangs_is_ended_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "latexmk"
    program.write_text("#!/bin/sh\necho waiting for the viewer\nsleep 60 & wait\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(latex, "LIMIT_S", 1)
    started = time.monotonic()
    with pytest.raises(DeepGapError, match=r"did not end within .*; its last line: waiting for the viewer"):
        compile_pdf(document(tmp_path, "x"), tmp_path / "x.pdf")
    assert time.monotonic() - started < 20
