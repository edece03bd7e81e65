"""Where and as whom deep-gap is run."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from deepgap.errors import DeepGapError
from deepgap.jobs import startup
from deepgap.jobs.startup import check_place, usable_home, user_name
from deepgap.measure.worker import WarmWorker
from tests.conftest import ROOT


@pytest.mark.parametrize("root", ["/somewhere/else", "https://example.org/deep-gap", "x"])
def test_another_folder_than_the_checkout_needs_a_study_of_its_own(tmp_path: Path, root: str) -> None:
    with pytest.raises(DeepGapError, match=rf"no config/config.yaml; run it in deep-gap's checkout \('cd {root}'"):
        check_place(root, tmp_path)
    (tmp_path / "config").mkdir()
    for name in ("config.yaml", "gpus.yaml"):
        (tmp_path / "config" / name).touch()
    assert not check_place(root, tmp_path)


def test_the_checkout_itself_is_right(tmp_path: Path) -> None:
    link = tmp_path / "with blank"
    link.symlink_to(tmp_path)
    assert check_place(str(tmp_path), link)


def test_a_folder_that_may_not_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    with pytest.raises(DeepGapError, match=r"may not write into .*results, where Snakemake"):
        check_place(str(tmp_path), tmp_path, may_write=lambda folder: folder.name != "results")


def test_a_brace_in_the_path_is_a_sentence(tmp_path: Path) -> None:
    here = tmp_path / "a{b}"
    here.mkdir()
    with pytest.raises(DeepGapError, match="has a brace, which Snakemake takes for a placeholder"):
        check_place(str(here), here)


def test_a_user_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(startup.getpass, "getuser", fail)
    assert user_name() == f"user-{os.getuid()}"


def test_a_home_that_cannot_be_used_is_replaced_by_the_checkouts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert usable_home(tmp_path / "checkout") == str(tmp_path)
    for home in ("/proc/nohome", ""):
        monkeypatch.setenv("HOME", home)
        assert usable_home(tmp_path / "checkout") == str(tmp_path / "checkout/.home")
    monkeypatch.delenv("HOME")
    assert usable_home(tmp_path / "checkout") == str(tmp_path / "checkout/.home")


def make(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`make setup` in a folder with the Makefile and a Python that prints and fails."""
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / "python").write_text('#!/bin/sh\necho "home $HOME"; mkdir -p .venv/bin; exit 9\n', encoding="utf-8")
    (folder / "python").chmod(0o755)
    command = ["make", "setup", "PYTHON=./python"]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, encoding="utf-8", check=False
    )


def test_make_tells_of_a_brace_before_it_installs(tmp_path: Path) -> None:
    run = make(tmp_path / "with{brace}")
    assert run.returncode and "path has a brace" in run.stderr
    assert not (tmp_path / "with{brace}/.venv").exists() and "home" not in run.stdout


def test_make_has_a_home_where_the_user_has_none(tmp_path: Path) -> None:
    assert f"home {tmp_path}\n" in make(tmp_path / "a b", HOME=str(tmp_path)).stdout
    assert f"home {tmp_path / 'c d'}/.home\n" in make(tmp_path / "c d", HOME="/nonexistent").stdout


def test_a_long_temporary_folder_has_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    worker = WarmWorker()
    try:
        assert worker.folder.is_dir()
    finally:
        worker.close()
