"""What is measured again, and what is only rendered again."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.workflow.conftest import SUMMARY_TARGETS, TINY, Project

pytestmark = pytest.mark.xdist_group("workflow")

CPU = ("--config", "gpu=CPU")
RENDERED = {"aggregate": 1, "render_table": 1, "write_numbers": 1, "draw_figure": 1, "render_figure": 1}


def test_nothing_changed(project):
    assert project.plan(*SUMMARY_TARGETS, *CPU) == {}


def test_a_new_batch_size_measures_its_cells_alone(project):
    project.change(batch_sizes=[1, 2, 96])
    assert project.plan(*SUMMARY_TARGETS, *CPU) == {"measure_cell": 1 * 1 * 2, **RENDERED}


def test_a_new_sweep_measures_its_cells_alone(project):
    protocols = {**TINY["protocols"], "tiny": {**TINY["protocols"]["tiny"], "sweeps": 3}}
    project.change(protocols=protocols)
    assert project.plan(*SUMMARY_TARGETS, *CPU) == {"measure_cell": 1 * 1 * 2, **RENDERED}


def test_changed_iterations_measure_every_cell_that_uses_them(project):
    protocols = {**TINY["protocols"], "tiny": {**TINY["protocols"]["tiny"], "timed_iterations": 3}}
    project.change(protocols=protocols)
    assert project.plan(*SUMMARY_TARGETS, *CPU) == {"measure_cell": 4, **RENDERED}


def test_another_protocol_measures_nothing(project):
    project.change(protocols={**TINY["protocols"], "other": {**TINY["protocols"]["other"], "timed_iterations": 9}})
    assert "measure_cell" not in project.plan(*SUMMARY_TARGETS, *CPU)


def test_a_new_seed_builds_weights_and_measures_all(project):
    project.change(weights={"source": "seeded", "seed": 1})
    built = {"build_weights": 1, "compute_reference": 1}
    assert project.plan(*SUMMARY_TARGETS, *CPU) == {**built, "measure_cell": 4, **RENDERED}


def test_a_deleted_cell_is_measured_alone(project):
    project.cells()[1].unlink()
    assert project.plan("cells", *CPU) == {"cells": 1, "measure_cell": 1}


def test_times_of_files_do_not_count(project):
    for path in project.root.rglob("*"):
        os.utime(path)
    assert "measure_cell" not in project.plan(*SUMMARY_TARGETS, *CPU)


def test_snakemakes_own_records_do_not_count(project):
    shutil.rmtree(project.root / ".snakemake")
    shutil.rmtree(project.root / "build")
    assert "measure_cell" not in project.plan(*SUMMARY_TARGETS, *CPU)


def test_a_clone_measures_nothing(project, tmp_path):
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
        subprocess.run(["git", *identity, *arguments], cwd=project.root, check=True, capture_output=True)

    git("init", "-q")
    git("add", "--force", "Snakefile", "config", "data", "envs", "paper", "profiles", "src", "workflow", "results")
    git("commit", "-q", "-m", "cells")
    git("clone", "-q", ".", str(tmp_path / "clone"))
    plan = Project(tmp_path / "clone").plan("cells", "paper/numbers.tex", *CPU)
    assert "measure_cell" not in plan
    assert "build_weights" not in plan


def test_an_edit_of_a_script_or_a_comment_measures_nothing(project):
    script = project.root / "workflow/scripts/measure_cell.py"
    script.write_text(script.read_text() + "\n# A comment.\n")
    project.edit("src/deepgap/measure.py", "INPUT_SEED = 0", "INPUT_SEED = 0  # A comment.")
    project.edit("src/deepgap/stats.py", "MINIMUM_RUNS = 3", "# A comment.\nMINIMUM_RUNS = 3")
    assert project.plan(*SUMMARY_TARGETS, *CPU) == {}


def test_a_raised_method_version_measures_all(project):
    project.edit("src/deepgap/method.py", "METHOD_VERSION = ", "METHOD_VERSION = 1000 + ")
    built = {"build_weights": 1, "draw_held_out": 1, "compute_reference": 1}
    assert project.plan(*SUMMARY_TARGETS, *CPU) == {**built, "measure_cell": 4, **RENDERED}


def test_an_edit_of_an_imported_module_renders_what_uses_it(project):
    project.edit("src/deepgap/latex.py", 'r"\\textbackslash{}"', 'r"\\backslash{}"')
    plan = project.plan(*SUMMARY_TARGETS, *CPU)
    assert "measure_cell" not in plan
    assert "aggregate" not in plan
    assert plan["render_table"] == 1


def test_an_edit_of_the_theme_draws_figures_alone(project):
    project.edit("src/deepgap/theme.py", 'FONT = "STIX"', 'FONT = "STIX Two"')
    assert project.plan(*SUMMARY_TARGETS, *CPU) == {"draw_figure": 1, "render_figure": 1}


def test_an_edit_of_the_statistics_aggregates_and_measures_nothing(project):
    project.edit("src/deepgap/stats.py", "RESAMPLES = 1000", "RESAMPLES = 2000")
    plan = project.plan(*SUMMARY_TARGETS, *CPU)
    assert "measure_cell" not in plan
    assert plan["aggregate"] == 1


def test_reader_mode_has_no_measuring_rules(project):
    project.cells()[0].unlink()
    assert project.plan(*SUMMARY_TARGETS) == RENDERED
    run = project.run("--dry-run", "cells")
    assert run.returncode != 0


@pytest.fixture
def real_study(tmp_path) -> Project:
    """The project with its committed cells, as a clone has them."""
    root = tmp_path / "real"
    root.mkdir()
    for part in ("Snakefile", "config", "data", "envs", "paper", "profiles", "src", "workflow"):
        (root / part).symlink_to(ROOT / part)
    (root / "config").unlink()
    shutil.copytree(ROOT / "config", root / "config")
    (root / "results").mkdir()
    for folder in (ROOT / "results").iterdir():
        if folder.name not in ("CPU", "summary"):
            (root / "results" / folder.name).symlink_to(folder)
    return Project(root)


def test_the_committed_cells_are_the_studys(real_study):
    study = real_study.study()
    listed = {Path(cell.path).name for cell in study.cells("H200")}
    committed = {path.name for path in (ROOT / "results/H200/cells").glob("*.parquet")}
    assert committed
    assert committed <= listed
    plan = real_study.plan("cells", "--config", "gpu=H200")
    assert plan.get("measure_cell", 0) == len(listed - committed)


def test_a_new_batch_size_adds_models_times_modes_times_sweeps(real_study):
    before = real_study.plan("cells", "--config", "gpu=H200").get("measure_cell", 0)
    path = real_study.root / "config/config.yaml"
    text = path.read_text()
    assert "96, 128, 256, 384, 512]" in text
    path.write_text(text.replace("96, 128, 256, 384, 512]", "96, 128, 160, 256, 384, 512]"))
    plan = real_study.plan("cells", "--config", "gpu=H200")
    assert plan["measure_cell"] - before == 3 * 6 * 3


def test_the_scripts_fit_the_trap_of_snakemakes_preamble():
    for script in Path(ROOT / "workflow/scripts").glob("*.py"):
        assert "from __future__" not in script.read_text(), script.name
