"""Whole runs that something goes wrong in: what is killed, a disk that is full, memory that does not suffice."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from deepgap.cells.cell_file import read_cell
from deepgap.measure.locks import FOLDER_VARIABLE
from deepgap.study.artifacts import Artifacts
from tests.conftest import eventually, runs
from tests.workflow.conftest import TINY, Project, copy_study

pytestmark = pytest.mark.xdist_group("faults")

TIMED = 40
"""Timed calls of a cell: a second or more of batch 1, so that a fault meets them and the runs stay short."""
IN_TIMING_S = 0.6
"""A cell has used this much of the processor when it is past its warm-up."""
MIB = 1 << 20


@pytest.fixture(scope="module")
def unmeasured(prepared, tmp_path_factory) -> Project:
    """Two cells to measure, with all that they need."""
    project = copy_study(prepared, tmp_path_factory.mktemp("unmeasured") / "project")
    tiny = {**TINY["protocols"]["tiny"], "timed_iterations": TIMED}
    project.change(batch_sizes=[1], protocols={**TINY["protocols"], "tiny": tiny})
    assert project.plan("cells", "--config", "gpu=CPU") == {"measure_cell": 2, "cells": 1}
    return project


@pytest.fixture
def fresh(unmeasured, tmp_path) -> Project:
    return copy_study(unmeasured, tmp_path / "project")


class Run:
    """A run of Snakemake whose first cell is being timed, and its processes."""

    def __init__(self, project: Project) -> None:
        self.process = project.start("cells", "--config", "gpu=CPU")
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:
            said += line
            if "[cell 1 of 2]" in line:
                break
        else:
            pytest.fail(said)
        assert eventually(self._is_timing), said
        assert project.cells() == []

    def _is_timing(self) -> bool:
        self.family = psutil.Process(self.process.pid).children(recursive=True)
        workers = [process for process in self.family if "deepgap.measure.worker" in process.cmdline()]
        self.worker = next(process for process in workers if process.ppid() == self.process.pid)
        cells = [process for process in workers if process.ppid() == self.worker.pid]
        if not cells or cells[0].cpu_times().user <= IN_TIMING_S:
            return False
        self.cell = cells[0]
        return True

    def end(self) -> str:
        """What it said after the fault. Nothing that it started may be left then."""
        assert self.process.stdout is not None
        said = self.process.stdout.read()
        self.process.wait(timeout=120)
        assert eventually(lambda: not any(map(runs, self.family)))
        return said


def check_cells(project: Project, count: int) -> None:
    """All files among the cells are whole cells of the study, and there are so many."""
    files = project.cells()
    assert len(files) == count
    names = {Path(cell.path).name for cell in project.study().cells("CPU")}
    for file in files:
        assert file.name in names
        rows, _ = read_cell(file)
        assert rows.height == TIMED + 1


def complete(project: Project) -> None:
    """Run again and find what was missing."""
    run = project.run("cells", "--config", "gpu=CPU")
    assert run.returncode == 0, run.stdout
    check_cells(project, 2)


def the_sentences(said: str) -> set[str]:
    """What failed jobs say."""
    assert "Traceback" not in said, said
    return {line for line in said.splitlines() if line.startswith("deep-gap: ")}


def the_sentence(said: str) -> str:
    """The one sentence of a failed job."""
    sentences = the_sentences(said)
    assert len(sentences) == 1, said
    return sentences.pop()


@pytest.mark.parametrize(
    ("send", "number", "finishes_its_cell"),
    [
        pytest.param(os.kill, signal.SIGKILL, False, id="SIGKILL"),
        # As Ctrl-C in a terminal does.
        pytest.param(os.killpg, signal.SIGINT, False, id="SIGINT to the group"),
        # Snakemake then finishes the jobs that run and starts no other.
        pytest.param(os.kill, signal.SIGTERM, True, id="SIGTERM"),
        # As a batch system does.
        pytest.param(os.killpg, signal.SIGTERM, False, id="SIGTERM to the group"),
    ],
)
def test_a_killed_run_leaves_no_process_and_no_partial_cell(fresh, send, number, finishes_its_cell):
    run = Run(fresh)
    send(run.process.pid, number)
    run.end()
    assert run.process.returncode != 0
    check_cells(fresh, 1 if finishes_its_cell else 0)
    if number == signal.SIGKILL:
        assert fresh.run("--unlock").returncode == 0
    complete(fresh)


def test_a_cell_that_is_killed_is_told_in_a_sentence_and_measured_again(fresh):
    run = Run(fresh)
    run.cell.kill()
    sentence = the_sentence(run.end())
    assert sentence == "deep-gap: The process that measured the cell was killed; run Snakemake again to measure it."
    assert run.process.returncode != 0
    # The other one is measured all the same.
    check_cells(fresh, 1)
    complete(fresh)


def test_a_run_goes_on_without_its_warm_worker(fresh):
    """The cell in hand is finished, and the next one's job measures by itself."""
    run = Run(fresh)
    run.worker.kill()
    said = run.end()
    assert run.process.returncode == 0, said
    check_cells(fresh, 2)
    assert fresh.plan("cells", "--config", "gpu=CPU") == {}


@pytest.fixture
def small_disk(fresh) -> Iterator[Path]:
    """The folder of the results on a disk of its own."""
    results = fresh.root / "results"
    results.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(results)], capture_output=True, encoding="utf-8"
    )
    if mount.returncode:
        pytest.skip(f"a disk cannot be mounted here: {mount.stderr.strip()}")
    yield results
    subprocess.run(["umount", "--lazy", str(results)], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(512))
        except OSError:
            return filler


@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount here")
def test_a_full_disk_is_told_in_a_sentence_and_room_lets_the_run_go_on(fresh, small_disk):
    filler = fill(small_disk)
    run = fresh.run("cells", "--config", "gpu=CPU")
    assert run.returncode != 0
    told = "could not be written (No space left on device); make room on its disk"
    sentences = the_sentences(run.stdout)
    assert len(sentences) == 2
    for cell in fresh.study().run_order("CPU"):
        assert any(f"{cell.path} {told}" in sentence for sentence in sentences)
    check_cells(fresh, 0)
    filler.unlink()
    complete(fresh)


def measure_by_hand(
    project: Project,
    output: Path,
    batch_size: int,
    limit: Callable[[], None] | None = None,
    wrapper: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """The script without Snakemake and worker, with one thread, on a device of its own."""
    study = project.study()
    artifacts = Artifacts(study)
    cell = replace(study.cells("CPU")[0], batch_size=batch_size, threads=1)
    model = study.model(cell.model)
    request = {"recipe": cell.recipe, "gpu": asdict(study.gpus["CPU"]), "engine_recipe": None}
    command = [sys.executable, *wrapper, "workflow/scripts/measure_cell.py", "--request", json.dumps(request)]
    command += ["--source", artifacts.source(cell), "--held_out", artifacts.held_out(model, "CPU")]
    command += ["--reference", artifacts.reference(model, "CPU"), "--facts", artifacts.facts(model)]
    command += ["--cell", str(output / f"{cell.stem}.parquet")]
    # A process that may not write must not leave half a .pyc.
    locks = tempfile.mkdtemp(dir=output.parent)
    environment = project.environment({FOLDER_VARIABLE: locks, "PYTHONDONTWRITEBYTECODE": "1"})
    return subprocess.run(
        command,
        cwd=project.root,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        preexec_fn=limit,
        timeout=120,
    )


def test_a_file_that_may_not_grow_is_told_in_a_sentence(unmeasured, tmp_path):
    """A quota, as it were: no file may have more than 4 KiB, and a cell has five."""
    cells = tmp_path / "cells"
    run = measure_by_hand(unmeasured, cells, 1, limit=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)))
    assert run.returncode == 1
    assert ".parquet could not be written (File too large); make room" in the_sentence(run.stderr)
    assert list(cells.iterdir()) == []


CAPPED = """
import resource, runpy, sys
import torch, torchvision
import deepgap.measure.cell

room, script = int(sys.argv[1]), sys.argv[2]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
sys.argv = sys.argv[2:]
runpy.run_path(script, run_name="__main__")
"""


@pytest.mark.parametrize("batch_size", [1, 512])
def test_a_batch_that_memory_does_not_suffice_for_is_a_row_and_a_small_one_is_measured(
    unmeasured, tmp_path, batch_size
):
    """In 1.5 GiB beside the libraries: the first activations alone of 512 images are 1.5 GiB."""
    cells = tmp_path / "cells"
    run = measure_by_hand(unmeasured, cells, batch_size, wrapper=["-c", CAPPED, str(1536 * MIB)])
    assert run.returncode == 0, run.stderr
    (file,) = cells.iterdir()
    rows, footer = read_cell(file)
    if batch_size == 1:
        assert rows.height == TIMED + 1
        assert "fidelity" in footer.observed
        return
    assert rows.select("status", "arm", "device_ms").rows() == [("out_of_memory", None, None)]
    assert "can't allocate memory" in rows["reason"].item()
    assert "fidelity" not in footer.observed
    assert footer.observed["memory"]["host_peak_bytes"] > 500 * MIB
