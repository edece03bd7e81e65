"""What a run does before its first cell, and what Snakemake itself costs meanwhile."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deepgap.measure.locks import FileLock, lock_folder
from deepgap.study.artifacts import Artifacts
from tests.conftest import ROOT
from tests.workflow.conftest import TINY, Project, copy_project

JOBS = 20
TOY = f"""
from deepgap.jobs.scheduler import calm_scheduler

looks = []

rule all:
    input: expand("out/{{i}}", i=range({JOBS}))

rule wait:
    output: "out/{{i}}"
    resources: gpu=1
    shell: "sleep 0.15; touch {{output}}"

onstart:
    if config["calm"]:
        calm_scheduler(workflow.scheduler)
    select = workflow.scheduler.job_selector
    workflow.scheduler.job_selector = lambda jobs: looks.append(1) or select(jobs)

onsuccess:
    print("looks:", len(looks))
"""


def looks(folder: Path, calm: int) -> int:
    """How often the scheduler chose among the jobs that are ready, in a run of a toy."""
    folder.mkdir()
    (folder / "Snakefile").write_text(TOY, encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--resources", "gpu=1", "--scheduler", "greedy"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    run = subprocess.run(
        [*command, "--config", f"calm={calm}"], cwd=folder, env=environment, capture_output=True, encoding="utf-8"
    )
    found = re.search(r"looks: (\d+)", run.stdout + run.stderr)
    assert found is not None, run.stderr
    return int(found[1])


def test_the_scheduler_looks_once_a_job_and_no_more(tmp_path):
    """Counted and not timed, so that a busy machine cannot matter."""
    assert looks(tmp_path / "calm", 1) <= JOBS + 2
    assert looks(tmp_path / "as it comes", 0) > 1.5 * JOBS


def test_a_scheduler_of_another_version_is_left_as_it_is():
    from deepgap.jobs.scheduler import calm_scheduler

    class Other:
        __slots__ = ()

    calm_scheduler(Other())


FAILING = """
from deepgap.errors import DiskError
from deepgap.jobs.arguments import run_script


def main(job):
    raise DiskError("There is no room.")


run_script(main, globals(), outputs=["weights"])
"""


@pytest.fixture
def bare(tmp_path) -> Project:
    """A tiny study for which nothing was made."""
    project = copy_project(tmp_path / "project")
    project.change(**TINY)
    return project


def test_prepare_makes_all_but_what_takes_a_gpu(bare):
    bare.change(modes=["eager-fp32", "cudnn-int8"], overrides={})
    assert bare.plan("prepare", "--config", "gpu=T4") == {
        "build_weights": 1,
        "export_onnx": 1,
        "count_facts": 1,
        "calibrate": 1,
        "quantize": 1,
        "draw_held_out": 1,
        "compute_reference": 1,
        "prepare": 1,
    }
    assert bare.plan("cells", "--config", "gpu=T4").keys() >= {"build_engine", "measure_cell"}


def test_what_takes_no_gpu_is_made_where_there_is_none_and_the_scheduler_is_calm(bare):
    """No device is asked for, and no worker started, when no cell is to be measured."""
    study = bare.study()
    held_out = Artifacts(study).held_out(study.model("resnet18"), "T4")
    snakefile = bare.root / "Snakefile"
    told = 'onsuccess:\n    print("limit:", workflow.scheduler.job_rate_limiter, "session" in globals())\n'
    snakefile.write_text(snakefile.read_text(encoding="utf-8") + told, encoding="utf-8")
    run = bare.run(held_out, "--config", "gpu=T4")
    assert run.returncode == 0, run.stdout
    assert (bare.root / held_out).is_file()
    assert "limit: None False" in run.stdout


def test_a_build_waits_while_another_clone_measures_on_the_host_whatever_their_temporary_folders(bare, tmp_path):
    study = bare.study()
    held_out = Artifacts(study).held_out(study.model("resnet18"), "CPU")
    # As a cell on some card holds it.
    cell = FileLock(lock_folder() / "deepgap-host.lock")
    assert cell.try_take(shared=True)
    other = tmp_path / "another temporary folder"
    other.mkdir()
    run = bare.start(held_out, "--config", "gpu=CPU", TMPDIR=str(other))
    assert run.stdout is not None
    said = ""
    for line in run.stdout:
        said += line
        if "waiting until its processor is free" in line:
            break
    else:
        pytest.fail(said)
    assert not (bare.root / held_out).exists()
    cell.release()
    rest, _ = run.communicate(timeout=120)
    assert run.returncode == 0, said + rest
    assert "waiting until" not in rest
    assert (bare.root / held_out).is_file()


PRIORITIES = """
from types import SimpleNamespace

for stem, cell in to_measure.items():
    print(f"job measure {cell.model} {at_place(order[stem])}")
for name in model_begins:
    print(f"job build {name} {before_model(SimpleNamespace(model=name))}")
"""


def test_a_model_is_built_right_before_its_first_cell(bare):
    bare.change(models=["resnet18", "resnet50"])
    snakefile = bare.root / "workflow/Snakefile"
    snakefile.write_text(snakefile.read_text(encoding="utf-8") + PRIORITIES, encoding="utf-8")
    run = bare.run("--dry-run", "cells", "--config", "gpu=CPU")
    assert run.returncode == 0, run.stdout
    jobs = re.findall(r"^job (\w+) (\w+) (-?\d+)$", run.stdout, re.MULTILINE)
    assert len({priority for _, _, priority in jobs}) == len(jobs) == 8 + 2
    ordered = [job[:2] for job in sorted(jobs, key=lambda job: -int(job[2]))]
    for model in ("resnet18", "resnet50"):
        place = ordered.index(("build", model))
        assert ordered[place + 1] == ("measure", model) and ("measure", model) not in ordered[:place]
    # The other model waits for no build but its own.
    assert ordered[0][0] == "build" and ordered[1][0] == "measure"
    assert [job for job in ordered if job[0] == "measure"] == [job[:2] for job in jobs if job[0] == "measure"]


def test_the_default_profile_keeps_going():
    assert "keep-going: true" in (ROOT / "profiles/default/config.yaml").read_text(encoding="utf-8")


def test_what_failed_is_told_once_at_the_end(bare):
    """Both models fail for one reason, which stands in the log of each."""
    bare.change(models=["resnet18", "resnet50"])
    (bare.root / "workflow/scripts/build_weights.py").write_text(FAILING, encoding="utf-8")
    run = bare.run("prepare", "--config", "gpu=CPU")
    assert run.returncode != 0
    told = run.stdout[run.stdout.index("2 jobs failed:") :].splitlines()
    assert told[1] == "deep-gap: There is no room."
    assert [line[:37] for line in told[2:4]] == ["    build_weights build/weights/resnet"[:37]] * 2
    # What does not need the weights was made all the same.
    assert list((bare.root / "build/heldout").iterdir())
