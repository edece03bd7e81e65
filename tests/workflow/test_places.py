"""Paths, times and places of a checkout, in real runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path

from tests.workflow.conftest import CPU, FIGURE, SUMMARY_TARGETS, Project

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
    run = run_in_own_python(Project(root), TABLE, packages=sys.path)
    assert run.returncode == 0, run.stdout


def run_in_own_python(project: Project, *targets: str, packages: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Make these files again with `.venv/bin/python` of the checkout, which finds the packages of these folders."""
    folder = project.root / ".venv/bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(sys.executable)
    # Python finds its packages by the file beside its program, wherever links lead.
    home = Path(sys.executable).resolve().parent
    (project.root / ".venv/pyvenv.cfg").write_text(f"home = {home}\n", encoding="utf-8")
    environment = project.environment({"PYTHONPATH": os.pathsep.join([str(project.root / "src"), *packages])})
    return subprocess.run(
        [str(folder / "python"), "-m", "snakemake", "--cores", "1", "--forceall", *targets],
        cwd=project.root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


def test_a_run_from_another_folder_says_where_to_go(project: Project) -> None:
    run = project.run("-n", "--directory", str(project.root.parent))
    assert run.returncode and f"--directory {project.root})" in run.stdout and "Traceback" not in run.stdout


MODULE = """
configfile: "config/config.yaml"

module deep_gap:
    snakefile: "{snakefile}"
    config: config

use rule * from deep_gap
"""


def test_another_workflow_renders_its_own_study_with_the_module(project: Project) -> None:
    """As snakedeploy lays it out: a folder with config/, profiles/ and a Snakefile that names the module."""
    root = project.root.with_name("deployed")
    for part in ("config", "profiles", "results/CPU"):
        shutil.copytree(project.root / part, root / part)
    (root / "workflow").mkdir()
    snakefile = MODULE.format(snakefile=project.root / "workflow/Snakefile")
    (root / "workflow/Snakefile").write_text(snakefile, encoding="utf-8")
    deployed = Project(root)
    package = str(project.root / "src")
    run = deployed.run(TABLE, FIGURE, PYTHONPATH=package)
    assert run.returncode == 0, run.stdout
    assert (root / TABLE).read_bytes() == (project.root / TABLE).read_bytes()
    assert (root / FIGURE).read_bytes() == (project.root / FIGURE).read_bytes()
    again = deployed.run("-n", TABLE, FIGURE, PYTHONPATH=package)
    assert "Nothing to be done" in again.stdout, again.stdout
    # Without a target it asks for all of the paper.
    assert "All is rendered but the PDF" in deployed.run("-n", PYTHONPATH=package).stdout


def test_a_local_config_changes_the_study_and_the_command_line_stands_above_it(project: Project) -> None:
    local = project.root / "config/local.yaml"
    local.write_text("batch_sizes: [1, 2, 4]\n", encoding="utf-8")
    assert project.plan("cells", *CPU)["measure_cell"] == 2
    assert "measure_cell" not in project.plan("cells", *CPU, "batch_sizes=[1, 2]")
    local.write_text("models: [resnet19]\n", encoding="utf-8")
    run = project.run("-n", *CPU)
    assert run.returncode and "config/local.yaml changes the study" in run.stdout and "resnet19" in run.stdout


def test_a_user_without_a_home_runs(project: Project) -> None:
    run = project.run("check", HOME="/proc/nohome", XDG_CACHE_HOME="")
    assert run.returncode == 0 and "Traceback" not in run.stdout, run.stdout


def test_a_user_without_a_name_runs(project: Project) -> None:
    code = "import getpass, sys; from snakemake.cli import main\n"
    code += "def unnamed(): import os; return os.environ.get('USER') or {}['getpwuid']\n"
    code += "getpass.getuser = unnamed; sys.exit(main(['--cores', '1', '-n']))"
    environment = {name: value for name, value in project.environment({}).items() if name not in ("USER", "LOGNAME")}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=project.root, env=environment, capture_output=True, encoding="utf-8"
    )
    assert run.returncode == 0, run.stderr


MEASURE = {"torch", "torchvision", "onnx", "onnxruntime", "onnxscript", "PIL", "pynvml", "cudnn", "triton"}
"""What envs/measure.txt brings and envs/reader.txt does not."""


def test_a_reader_renders_without_what_measures(project: Project, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    for installed in Path(sysconfig.get_path("purelib")).iterdir():
        if installed.name.removesuffix(".py") not in MEASURE:
            (packages / installed.name).symlink_to(installed)
    run = run_in_own_python(project, *SUMMARY_TARGETS, packages=[str(packages)])
    assert run.returncode == 0, run.stdout
    assert "Aggregate the cells of CPU" in run.stdout
