"""What is measured again, and what is only rendered again: the rows of staleness.py, one test each."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import ROOT, read_yaml
from tests.unit.cells import write_study_cells
from tests.workflow import matrix
from tests.workflow.conftest import CACHES, CPU, TINY, Project, copy_file, copy_study
from tests.workflow.matrix import chosen_rows
from tests.workflow.staleness import CELLS, COMMAND, DOCUMENT, ROWS, TARGETS, Row, Start, write_document

ABSENT = {"models": ["resnet18"], "modes": ["eager-fp16"], "batch_sizes": [1]}
"""Axes of a GPU that is not here."""
REFERENCE = {"models": ["resnet50"], "modes": ["eager-fp16"], "batch_sizes": [1]}
"""Cells of a GPU that are committed."""


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    run = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, encoding="utf-8"
    )
    return run.stdout


@pytest.fixture(scope="session")
def repository(measured_int8, once) -> Project:
    """The measured tiny study with six cells of the reference data, rendered, its cells committed."""
    return once("repository", lambda root: make_repository(copy_study(measured_int8, root)))


def make_repository(project: Project) -> None:
    root = project.root
    adaptive = read_yaml(ROOT / "config/config.yaml")["protocols"]["adaptive"]
    tiny = read_yaml(root / "config/config.yaml")["protocols"]["tiny"]
    project.change(
        protocols={"tiny": tiny, "other": TINY["protocols"]["other"], "adaptive": adaptive},
        overrides={"T4": ABSENT, "H100": {"protocol": "adaptive", "grids": [REFERENCE]}},
    )
    for cell in project.study().cells("H100"):
        for file in (Path(cell.path), Path(cell.path.replace("/cells/", "/telemetry/"))):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, root / file)
    run = project.run(*TARGETS, *CPU)
    assert run.returncode == 0, run.stdout
    assert len(project.cells()) == CELLS
    for name in (".gitignore", ".gitattributes"):
        shutil.copy(ROOT / name, root / name)
    git(root, "init", "-q")
    git(root, "add", ".")
    # The project keeps the cells of gpu=CPU to the user.
    git(root, "add", "--force", "results/CPU/cells")
    git(root, "commit", "-q", "-m", "A measured study")


def clone(repository: Project, target: Path, start: Start) -> Project:
    git(repository.root, "clone", "-q", ".", str(target))
    committed = set(git(repository.root, "ls-files").split())
    if start != Start.CLONED:
        made = {path for path in repository.root.rglob("*") if path.is_file() and ".git" not in path.parts}
        for name in {path.relative_to(repository.root).as_posix() for path in made} - committed:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            copy_file(str(repository.root / name), str(target / name))
    if start == Start.WORKED:
        for name in committed:
            shutil.copystat(repository.root / name, target / name)
    return Project(target)


@pytest.fixture
def folder(tmp_path):
    """Emptied after the test: a copy of the study has a hundred megabytes."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "row" in metafunc.fixturenames:
        chosen = chosen_rows(metafunc.config.getoption("whole_matrix"))
        metafunc.parametrize("row", chosen, ids=[row.does for row in chosen])


def test_exactly_what_a_change_concerns_runs_again(row: Row, repository, folder):
    project = clone(repository, folder / "project", row.start)
    row.change(project)
    arguments = (*row.targets, *(("--config", f"gpu={row.gpu}") if row.gpu else ()))
    assert project.plan(*arguments) == row.jobs
    if row.really:
        kept = {cell: cell.stat().st_mtime_ns for cell in project.cells()}
        run = project.run(*arguments)
        assert run.returncode == 0, run.stdout
        assert {**Counter(re.findall(r"^Finished jobid: \d+ \(Rule: (\w+)\)$", run.stdout, re.MULTILINE))} == row.jobs
        assert {cell: cell.stat().st_mtime_ns for cell in kept} == kept
        assert project.plan(*arguments) == {}


def test_all_rows_are_gone_through_but_where_what_decides_them_has_passed(monkeypatch, tmp_path):
    record = tmp_path / "record"
    monkeypatch.setattr(matrix, "RECORD", record)
    assert chosen_rows(whole=False) == ROWS
    record.write_text(f"{matrix.digest()}\n", encoding="utf-8")
    assert 10 <= len(chosen_rows(whole=False)) < len(ROWS)
    assert chosen_rows(whole=True) == ROWS
    monkeypatch.setattr(matrix, "READ", (*matrix.READ, "Makefile"))
    assert chosen_rows(whole=False) == ROWS
    assert {"deepgap.study.study", "deepgap.jobs.digest", "deepgap.measure.session"} <= matrix.planning_modules()


def test_the_documents_table_is_that_of_the_rows():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == write_document(text), f"docs/staleness.md is not what its rows say; write it again with: {COMMAND}"


def test_reader_mode_has_no_rule_that_measures(repository):
    run = repository.run("--dry-run", "cells")
    assert run.returncode != 0
    assert "MissingRuleException" in run.stdout


@pytest.fixture
def real_study(tmp_path) -> Project:
    """The project with its committed cells, as a clone has them."""
    root = tmp_path / "real"
    root.mkdir()
    for part in ("Snakefile", "config", "data", "envs", "paper", "profiles", "src", "workflow"):
        (root / part).symlink_to(ROOT / part)
    (root / "config").unlink()
    shutil.copytree(ROOT / "config", root / "config", ignore=CACHES)
    (root / "results").mkdir()
    for folder in (ROOT / "results").iterdir():
        if folder.name not in ("CPU", "summary"):
            (root / "results" / folder.name).symlink_to(folder)
    return Project(root)


def test_the_committed_cells_are_the_studys(real_study):
    study, folders = real_study.study(), sorted((ROOT / "results").glob("*/cells"))
    if not any(any(folder.iterdir()) for folder in folders):
        pytest.skip("no cells are committed")
    for folder in folders:
        gpu = folder.parent.name
        listed, committed = ({Path(path).name for path in paths} for paths in (
            (cell.path for cell in study.cells(gpu)), folder.glob("*.parquet")))  # fmt: skip
        assert committed <= listed, gpu


def test_a_new_batch_size_adds_modes_times_sweeps(real_study):
    """Of the one grid that has it; nothing else is measured anew."""
    before = real_study.plan("cells", "--config", "gpu=H200")["measure_cell"]
    path = real_study.root / "config/config.yaml"
    text = path.read_text(encoding="utf-8")
    assert "[1, 8, 32, 64, 128, 512]" in text
    path.write_text(text.replace("[1, 8, 32, 64, 128, 512]", "[1, 8, 32, 64, 128, 160, 512]"), encoding="utf-8")
    after = real_study.plan("cells", "--config", "gpu=H200")["measure_cell"]
    assert after - before == 9 * 6


def test_a_cell_without_telemetry_does_not_stop_another_site_from_measuring_it(real_study):
    """Both have it by the same name; only the one that is measured now gets samples."""
    (real_study.root / "results/H200").unlink(missing_ok=True)
    cells = write_study_cells(real_study.study(), "H200", real_study.root)
    plan = real_study.plan("summary", "--config", "gpu=H200", "site=lab2")
    assert plan["measure_cell"] == len(cells)


def test_a_digest_of_code_has_the_script_of_its_rule():
    """An edit of what a script does renders again what it made."""
    found = 0
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        for rule in file.read_text(encoding="utf-8").split("\nrule ")[1:]:
            if "code_digest(" in rule:
                (script,) = re.findall(r'"\.\./scripts/(\w+\.py)"', rule)
                assert f'script=own("workflow/scripts/{script}")' in rule, script
                found += 1
    assert found


def test_the_scripts_fit_the_trap_of_snakemakes_preamble():
    for script in Path(ROOT / "workflow/scripts").glob("*.py"):
        assert "from __future__" not in script.read_text(encoding="utf-8"), script.name
