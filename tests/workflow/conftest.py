"""Real Snakemake runs on a tiny study, in copies of the project."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from filelock import FileLock

from deepgap.build.images.imagesets import describe_calibration
from deepgap.runtimes import load_runtimes
from deepgap.study.artifacts import Artifacts
from deepgap.study.checks import load_study
from deepgap.study.gpus import find_cards, find_platforms, load_gpus
from deepgap.study.study import Study
from deepgap.weights import Weights, save_weights
from tests.conftest import ROOT, read_yaml
from tests.unit.networks import bare_model

PARTS = ("Snakefile", "config", "data", "envs", "paper", "profiles", "src", "workflow")
CACHES = shutil.ignore_patterns("__pycache__", "*.egg-info", "local.yaml")
GENERATED = shutil.ignore_patterns("tables", "figures", "numbers.tex", "claims.tex", "paper.pdf")

TINY: dict[str, Any] = {
    "models": ["resnet18"],
    "modes": ["eager-fp32"],
    "batch_sizes": [1, 2],
    "protocol": "tiny",
    "overrides": {},
    "protocols": {
        "tiny": {
            "warmup_iterations": 1,
            "timed_iterations": 2,
            "runs": 1,
            "sweeps": 2,
            "fidelity_images": 4,
            "throughput_s": 0.05,
        },
        "other": {
            "warmup_iterations": 1,
            "timed_iterations": 3,
            "runs": 1,
            "sweeps": 1,
            "fidelity_images": 4,
            "throughput_s": 0.05,
        },
    },
}


@cache
def planner() -> subprocess.Popen[str]:
    """The process that makes dry runs; it ends with this one, whose pipe it reads."""
    script = Path(__file__).with_name("planner.py")
    return subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")


@dataclass(frozen=True)
class Project:
    """A copy of the project, and ways to change it and to run Snakemake in it."""

    root: Path

    def change(self, **changes: Any) -> None:
        """Replace keys of config.yaml."""
        path = self.root / "config/config.yaml"
        path.write_text(yaml.safe_dump(read_yaml(path) | changes), encoding="utf-8")

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.root / file
        assert old in path.read_text(encoding="utf-8")
        path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "1", *arguments],
            cwd=self.root,
            env=self.environment(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            start_new_session=True,
        )

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **environment)
        output, _ = process.communicate(timeout=240)
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def plan(self, *arguments: str) -> dict[str, int]:
        """The jobs of a dry run by rule, without `total`; empty when there is nothing to do."""
        with tempfile.NamedTemporaryFile(mode="r", encoding="utf-8") as output:
            request = {"folder": str(self.root), "arguments": arguments, "output": output.name}
            print(json.dumps(request), file=planner().stdin, flush=True)
            status = planner().stdout.readline()
            said = output.read()
        assert status == "0\n", said
        table = said.split("Job stats:")[1].split("\n\n")[0] if "Job stats:" in said else ""
        jobs = {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", table, re.MULTILINE)}
        jobs.pop("total", None)
        return jobs

    def study(self) -> Study:
        results, schema = self.root / "results", self.root / "workflow/schemas/gpus.schema.yaml"
        gpus = load_gpus(self.root / "config/gpus.yaml", schema, find_cards(results))
        config_schema = read_yaml(self.root / "workflow/schemas/config.schema.yaml")
        config = read_yaml(self.root / "config/config.yaml")
        found = find_platforms(results, gpus)
        return load_study(config, config_schema, gpus, load_runtimes(), found, describe_calibration)

    def cells(self) -> list[Path]:
        return sorted((self.root / "results/CPU/cells").glob("*"))

    def files(self) -> set[str]:
        """All files outside Snakemake's own folder."""
        names = {path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file()}
        return {name for name in names if not name.startswith(".snakemake/") and "__pycache__" not in name}

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        # The copy's own package, not the installed one.
        return {**os.environ, "PYTHONPATH": str(self.root / "src"), **extra}


def copy_project(target: Path) -> Project:
    target.mkdir()
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, target / part, ignore=GENERATED if part == "paper" else CACHES)
        else:
            shutil.copy(source, target / part)
    return Project(target)


FIRST_RUN = "first_run.log"
"""In a project: what its first run said."""
LINKED = 1 << 20
"""Files of so many bytes are linked and not copied: weights, graphs and images, which are put in place whole."""


def copy_file(source: str, target: str) -> str:
    """Copy a file with its times; a large one is another name of the same file, see `own`."""
    if Path(source).stat().st_size < LINKED:
        return str(shutil.copy2(source, target))
    os.link(source, target)
    return target


def own(path: Path) -> Path:
    """Make a linked file one of its own, before a test changes it or its time in place."""
    if path.stat().st_nlink > 1:
        copied = path.with_name(f"{path.name}.own")
        shutil.copy2(path, copied)
        copied.replace(path)
    return path


def large_files(root: Path) -> dict[str, tuple[int, int]]:
    """Sizes and times of the files that copies share."""
    stats = {str(path): path.stat() for path in root.rglob("*") if path.is_file()}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items() if stat.st_size >= LINKED}


def copy_study(project: Project, target: Path) -> Project:
    """A copy of a study that a test may change."""
    shutil.copytree(project.root, target, copy_function=copy_file)
    return Project(target)


@pytest.fixture(scope="session")
def once(tmp_path_factory, worker_id) -> Iterator[Callable[[str, Callable[[Path], object]], Project]]:
    """Makes a project once for all workers of a test run; who comes later waits for it. No test may change it."""
    built: dict[Path, dict[str, tuple[int, int]]] = {}
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "once"
    folder.mkdir(exist_ok=True)

    def make(name: str, build: Callable[[Path], object]) -> Project:
        done = folder / f"{name}.done"
        with FileLock(folder / f"{name}.lock"):
            if not done.exists():
                # What a worker that failed left behind.
                shutil.rmtree(folder / name, ignore_errors=True)
                build(folder / name)
                built[folder / name] = large_files(folder / name)
                done.touch()
        return Project(folder / name)

    yield make
    for root, files in built.items():
        assert large_files(root) == files, f"a test changed a file of {root} through a link"


@pytest.fixture(scope="session")
def weighted(once) -> Project:
    """A tiny study whose weights file is there: plain random weights, which spare the conditioning's minute."""

    def build(root: Path) -> None:
        project = copy_project(root)
        project.change(**TINY)
        study = project.study()
        weights = project.root / Artifacts(study).weights(study.model("resnet18"))
        weights.parent.mkdir(parents=True)
        torch.manual_seed(0)
        save_weights(weights, Weights(study.model("resnet18"), bare_model("resnet18").state_dict(), largest=1.0))

    return once("weighted", build)


CPU = ("--config", "gpu=CPU")
CALIBRATION = {"method": "entropy", "images": "procedural", "count": 4}


@pytest.fixture(scope="session")
def prepared(weighted, once) -> Project:
    """The tiny study with all that its cells need."""

    def build(root: Path) -> None:
        run = copy_study(weighted, root).run("prepare", *CPU)
        assert run.returncode == 0, run.stdout

    return once("prepared", build)


@pytest.fixture(scope="session")
def measured_int8(prepared, once) -> Project:
    """The tiny study with INT8, from the weights to the cells, on this machine's processor."""

    def build(root: Path) -> None:
        project = copy_study(prepared, root)
        project.change(
            modes=["eager-fp32", "ort-fp32", "ort-int8"],
            protocols={"tiny": {**TINY["protocols"]["tiny"], "sweeps": 1}},
            calibration=CALIBRATION,
        )
        run = project.run("cells", *CPU)
        assert run.returncode == 0, run.stdout
        (root / FIRST_RUN).write_text(run.stdout, encoding="utf-8")

    return once("measured_int8", build)


FIGURE = "paper/figures/throughput.png"
SUMMARY_TARGETS = ("paper/tables/peaks.tex", "paper/numbers.tex", FIGURE)


@pytest.fixture(scope="session")
def measured(prepared, once) -> Project:
    """The tiny study measured on this machine's processor and aggregated, with a table, a figure and the numbers."""

    def build(root: Path) -> None:
        project = copy_study(prepared, root)
        # A GPU that the study names and that is not here.
        project.change(overrides={"T4": {}})
        run = project.run(*SUMMARY_TARGETS, *CPU)
        assert run.returncode == 0, run.stdout
        (root / FIRST_RUN).write_text(run.stdout, encoding="utf-8")

    return once("measured", build)


@pytest.fixture
def project(measured, tmp_path) -> Project:
    """A copy of the measured study that a test may change."""
    return copy_study(measured, tmp_path / "project")
