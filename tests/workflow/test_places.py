"""Paths, times and places of a checkout, in real runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.workflow.conftest import Project

TABLE = "paper/tables/peaks.tex"
TOMORROW_S = 86400


def test_cells_from_a_clock_that_runs_ahead_are_rendered_and_then_up_to_date(project: Project) -> None:
    ahead = time.time() + TOMORROW_S
    for cell in project.cells():
        os.utime(cell, (ahead, ahead))
    run = project.run(TABLE, "--forceall")
    assert run.returncode == 0 and "clock skew" not in run.stdout, run.stdout
    assert project.plan(TABLE) == {}


def test_a_checkout_whose_path_and_python_have_a_blank_renders(project: Project) -> None:
    root = project.root.with_name("with bl'ank")
    project.root.rename(root)
    # A Python whose own path has the blank as well, as .venv/bin/python there.
    folder = root / ".venv/bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(sys.executable)
    # Python finds its packages by the file beside its program, wherever links lead.
    home = Path(sys.executable).resolve().parent
    (root / ".venv/pyvenv.cfg").write_text(f"home = {home}\n", encoding="utf-8")
    moved = Project(root)
    environment = moved.environment({"PYTHONPATH": os.pathsep.join([str(root / "src"), *sys.path])})
    command = [str(folder / "python"), "-m", "snakemake", "--cores", "1", "--forceall", TABLE]
    run = subprocess.run(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    )
    assert run.returncode == 0, run.stdout


def test_a_run_from_another_folder_says_where_to_go(project: Project) -> None:
    run = project.run("-n", "--directory", str(project.root.parent))
    assert run.returncode and f"--directory {project.root})" in run.stdout and "Traceback" not in run.stdout


def test_a_user_without_a_name_runs(project: Project) -> None:
    code = "import getpass, sys; from snakemake.cli import main\n"
    code += "def unnamed(): import os; return os.environ.get('USER') or {}['getpwuid']\n"
    code += "getpass.getuser = unnamed; sys.exit(main(['--cores', '1', '-n']))"
    environment = {name: value for name, value in project.environment({}).items() if name not in ("USER", "LOGNAME")}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=project.root, env=environment, capture_output=True, encoding="utf-8"
    )
    assert run.returncode == 0, run.stderr
