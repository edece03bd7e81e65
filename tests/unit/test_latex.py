"""The PDF and the archive of its sources: with nothing of the user's own, the same bytes again, and never hanging."""

from __future__ import annotations

import re
import subprocess
import tarfile
from pathlib import Path

import psutil
import pytest

from deepgap.errors import DeepGapError
from deepgap.paper import document
from deepgap.paper.document import DEBIAN, bundle, compile_pdf, missing_latex, needed_files, pack
from tests.conftest import ROOT, eventually, runs

MAIN = ROOT / "paper/main.tex"
needs_latex = pytest.mark.skipif(
    missing_latex(MAIN) is not None, reason=f"needs LaTeX with the packages of the paper: {missing_latex(MAIN)}"
)


def write_document(folder: Path, body: str) -> Path:
    folder.mkdir(exist_ok=True)
    main = folder / "main.tex"
    main.write_text(f"\\documentclass{{article}}\\begin{{document}}{body}\\end{{document}}\n", encoding="utf-8")
    return main


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Let these be the only programs beside the shell's."""
    folder.mkdir()
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@needs_latex
def test_the_users_latexmkrc_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".latexmkrc").write_text("$aux_dir = 'stray'; $out_dir = 'stray'; die 'read';\n", encoding="utf-8")
    monkeypatch.setenv("HOME", str(home))
    main = write_document(tmp_path / "pa per", "x")
    compile_pdf(main, tmp_path / "x.pdf")
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")
    assert list(main.parent.iterdir()) == [main]


@needs_latex
def test_what_stops_latex_is_told(tmp_path: Path) -> None:
    with pytest.raises(DeepGapError, match=r"LaTeX stopped in .*main\.tex: Undefined control sequence"):
        compile_pdf(write_document(tmp_path, r"\nosuchcommand"), tmp_path / "x.pdf")


def test_latex_that_hangs_is_ended_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "latexmk"
    child = tmp_path / "child"
    script = f"#!/bin/sh\necho waiting for the viewer\nsleep 600 & echo $! > '{child}'\nwait\n"
    program.write_text(script, encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(document, "LIMIT_S", 3)
    monkeypatch.setattr(document, "missing_latex", lambda main: None)
    with pytest.raises(DeepGapError, match=r"did not end within .*; its last line: waiting for the viewer"):
        compile_pdf(write_document(tmp_path, "x"), tmp_path / "x.pdf")
    number = int(child.read_text(encoding="utf-8"))
    assert eventually(lambda: not psutil.pid_exists(number) or not runs(psutil.Process(number)))


def test_a_document_needs_what_its_preamble_names() -> None:
    text = r"\documentclass[a]{One} % \usepackage{no}" + "\n" + r"\usepackage[x]{two, three}\bibliographystyle{four}"
    assert needed_files(text)[:4] == ("One.cls", "two.sty", "three.sty", "four.bst")


def test_debians_package_of_everything_that_the_paper_needs_is_known_and_told() -> None:
    needed = needed_files(MAIN.read_text(encoding="utf-8"))
    assert "IEEEtran.cls" in needed and "hyperref.sty" in needed
    assert set(needed) - set(DEBIAN) == set(), "name their packages in deepgap.paper.document.DEBIAN"
    listed = re.search(r"apt-get install (.*)", (ROOT / "docs/paper.md").read_text(encoding="utf-8"))
    assert listed is not None and {DEBIAN[name] for name in needed} <= set(listed[1].split())


def test_all_packages_that_are_missing_are_named_in_one_sentence(tmp_path, monkeypatch) -> None:
    main = tmp_path / "main.tex"
    main.write_text(r"\documentclass{IEEEtran}\usepackage{siunitx,amsmath}\usepackage{rare}", encoding="utf-8")
    found = "echo /tex/amsmath.sty; echo /tex/utmr8a.pfb"
    programs(tmp_path / "bin", monkeypatch, kpsewhich=found, latexmk="", pdflatex="", bibtex="")
    packages = "texlive-latex-extra texlive-publishers texlive-science"
    assert missing_latex(main) == (
        f"{main} cannot be compiled here: IEEEtran.cls, siunitx.sty, rare.sty are missing; install TeX Live with "
        f"what docs/paper.md lists (on Debian: apt-get install {packages})."
    )
    main.write_text(r"\documentclass{IEEEtran}", encoding="utf-8")
    with pytest.raises(DeepGapError, match=r"IEEEtran\.cls is missing; .*texlive-publishers\)"):
        compile_pdf(main, tmp_path / "x.pdf")


def test_without_tex_live_all_of_it_is_named(tmp_path, monkeypatch) -> None:
    programs(tmp_path / "bin", monkeypatch)
    sentence = missing_latex(MAIN)
    assert sentence is not None and "TeX Live, latexmk, pdflatex, bibtex are missing" in sentence
    assert "apt-get install latexmk texlive-fonts-recommended" in sentence and "texlive-publishers" in sentence


def test_an_archive_is_the_same_bytes_whatever_the_order_and_the_clock() -> None:
    one = pack({"b.tex": b"2", "a/x.pdf": b"1"}, 7)
    assert pack({"a/x.pdf": b"1", "b.tex": b"2"}, 7) == one
    assert pack({"a/x.pdf": b"1", "b.tex": b"2"}, 8) != one


@needs_latex
def test_an_archive_compiles_alone_and_one_that_lacks_a_part_is_not_made(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "paper"
    main = write_document(folder, r"\input{tables/t.tex}\cite{a}\bibliographystyle{plain}\bibliography{refs}")
    (folder / "tables").mkdir()
    table, refs = folder / "tables/t.tex", folder / "refs.bib"
    table.write_text("cells", encoding="utf-8")
    refs.write_text("@misc{a, title={A}, author={B}, year={2000}}\n", encoding="utf-8")
    archives = [tmp_path / "one.tar.gz", tmp_path / "two.tar.gz"]
    bundle(main, [table, refs], archives[0])
    table.touch()
    bundle(main, [refs, table], archives[1])
    assert archives[0].read_bytes() == archives[1].read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    with pytest.raises(DeepGapError, match="SOURCE_DATE_EPOCH is 'today'; it must be seconds"):
        bundle(main, [refs, table], archives[1])
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    bundle(main, [refs, table], archives[1])
    with tarfile.open(archives[1]) as archive:
        assert archive.getnames() == ["main.bbl", "main.tex", "refs.bib", "tables/t.tex"]
        assert {(member.mtime, member.uid, member.uname) for member in archive} == {(86400, 0, "")}
        archive.extractall(tmp_path / "alone", filter="data")
    (tmp_path / "alone/refs.bib").unlink()
    command = ["latexmk", "-norc", "-pdf", "-bibtex-", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    run = subprocess.run(command, cwd=tmp_path / "alone", capture_output=True, encoding="utf-8", errors="replace")
    assert run.returncode == 0 and (tmp_path / "alone/main.pdf").is_file(), run.stdout[-2000:]
    with pytest.raises(DeepGapError, match=r"LaTeX stopped in .*tables/t\.tex"):
        bundle(main, [refs], tmp_path / "three.tar.gz")
    assert not (tmp_path / "three.tar.gz").exists()


@needs_latex
def test_a_sentence_without_its_number_is_left_out_with_the_blank_after_it(tmp_path: Path):
    text = MAIN.read_text(encoding="utf-8")
    start = text.index(r"\newcount\absentnumbers")
    told = text[start : text.index(r"\input{numbers.tex}", start)]
    cases = {
        r"A \told{It is \known.} B": r"A It is 5. B",
        r"A \told{It is \unknown.} B": "A B",
        r"A \told{One. \told{Two \unknown.} Three \known.} B": "A One. Three 5. B",
        r"A \told{One \unknown. \told{Two \known.}} B": "A B",
        r"A \told{\told{Two \unknown.}}\told{One \known.} B": "A One 5. B",
    }
    lines = [
        rf"\setbox1\hbox{{{case}}}\setbox2\hbox{{{wanted}}}"
        rf"\ifdim\wd1=\wd2\relax\else\errmessage{{case {number} differs}}\fi"
        for number, (case, wanted) in enumerate(cases.items())
    ]
    body = "\n".join(lines)
    known = r"\newcommand{\known}{5}\newcommand{\unknown}{\notmeasured}"
    document = rf"\documentclass{{article}}{told}{known}\begin{{document}}{body}\end{{document}}"
    (tmp_path / "told.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "told.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert run.returncode == 0, [line for line in run.stdout.splitlines() if line.startswith("!")]
