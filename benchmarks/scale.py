"""How long and how much memory planning, checking, aggregating and rendering take as a study grows.

    python benchmarks/scale.py 1000 10000 100000

Makes a copy of the project in a temporary folder for each number, fills it with that many synthetic cells (which are
labelled as such and never leave the folder), and runs the commands that a user runs. The cells are of the T4's, L4's,
A100's and H100's studies, and the batch sizes grow in number. One line of JSON a step; at the end the exponent of the
growth of each step, fitted to the processors' seconds over all numbers.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import yaml

from deepgap.cells.cell_file import FOOTER_KEY, FORMAT, SCHEMA, hash_rows
from deepgap.files import write_parquet
from deepgap.published.networks import GMAC_PER_IMAGE
from deepgap.runtimes import load_runtimes
from deepgap.study.cell import Cell
from deepgap.study.checks import load_study
from deepgap.study.gpus import load_gpus

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("Snakefile", "config", "data", "envs", "paper", "profiles", "src", "workflow")
GPUS = ("T4", "L4", "A100", "H100")
STEPS = {
    "dry run": ["--dry-run", "--quiet", "all"],
    "check": ["check"],
    # One of the twelve GPUs and models: what a user does whose cells are too many for one plan.
    "group": ["results/summary/families/T4/resnet18.parquet"],
    "aggregate": ["summary"],
    "render": [],
    "no-op": [],
}
POLL_S = 0.05


def fill(project: Path, count: int) -> None:
    """Write `count` synthetic cells of the study of a copy of the project.

    Its batch sizes are set so that it has at least as many.
    """
    path = project / "config/config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    per_batch = len(GPUS) * len(config["models"]) * len(config["modes"]) * config["protocols"]["paper"]["sweeps"]
    config["batch_sizes"] = list(range(1, math.ceil(count / per_batch) + 1))
    config["overrides"] = {}
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    gpus = load_gpus(project / "config/gpus.yaml", project / "workflow/schemas/gpus.schema.yaml")
    study = load_study(config, _read(project / "workflow/schemas/config.schema.yaml"), gpus, load_runtimes())
    cells = [cell for gpu in GPUS for cell in study.cells(gpu)]
    for cell in islice(_shuffled(cells), count):
        file = project / cell.path
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = synthetic_rows(cell)
        write_parquet(file, rows, {FOOTER_KEY: json.dumps(synthetic_footer(cell) | {"rows_sha256": hash_rows(rows)})})


def _shuffled(cells: list[Cell]) -> Iterator[Cell]:
    random.Random(0).shuffle(cells)
    return iter(cells)


def synthetic_rows(cell: Cell) -> pl.DataFrame:
    """Rows of the published protocol: a model's operations at a tenth of a petaop a second, and noise."""
    protocol = cell.recipe["protocol"]
    call_ms = 0.2 + 2 * GMAC_PER_IMAGE[cell.model] * cell.batch_size * 1e-1
    noise = np.random.default_rng(cell.batch_size + 1000 * cell.sweep)
    latency = protocol["timed_iterations"]
    rows: list[tuple[Any, ...]] = []
    for repeat in range(1, protocol["repeats"] + 1):
        for iteration, factor in enumerate(1 + 0.01 * noise.random(latency), 1):
            time_ms = call_ms * float(factor)
            rows.append(("ok", None, "latency", repeat, iteration, 1, float(iteration), time_ms, time_ms, 0.1))
        rows.append(("ok", None, "throughput", repeat, 1, latency, 0.0, call_ms * latency, call_ms * latency, 0.1))
    if cell.recipe["energy_s"]:
        rows.append(("ok", None, "energy", 1, 1, latency, 0.0, call_ms * latency, call_ms * latency, 0.1))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def synthetic_footer(cell: Cell) -> dict[str, Any]:
    host = {"cpu": "Synthetic", "logical_cores": 8, "memory_gib": 16.0, "os": "Synthetic", "kernel": "0"}
    versions = {"python": "0", "torch": "0", "torchvision": "0", "cuda_runtime": None, "cudnn": None}
    observed = {
        "cell_s": 10.0,
        "phases_s": {"wait": 1.0, "latency": 2.0, "throughput": 2.5},
        "intraop_threads": 8,
        "prepare_ms": 30.0,
        "first_call_ms": 12.0,
        "steady": True,
        "telemetry": {"absent": "synthetic"},
        "energy": {"absent": "synthetic"},
        "memory_device_bytes": (600 + cell.batch_size) << 20,
    }
    device = {"name": f"Synthetic {cell.gpu}", "uuid_sha256": None, "driver": "0"}
    provenance = {"measured_at": "2000-01-01T00:00:00+00:00", "versions": versions, "host": host, "device": device}
    return {
        "format": FORMAT,
        "recipe": cell.recipe,
        "weights_sha256": "0" * 64,
        "provenance": provenance,
        "observed": observed,
    }


def run(project: Path, arguments: list[str]) -> dict[str, Any]:
    """Run Snakemake: seconds by the wall and of the processors, and the most memory of its processes together."""
    started, before, most = time.monotonic(), _processor_s(), 0
    with (project / "run.log").open("w", encoding="utf-8") as log:
        process = psutil.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
            cwd=project,
            env=os.environ | {"PYTHONPATH": str(project / "src")},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        while process.poll() is None:
            most = max(most, _memory_bytes(process))
            time.sleep(POLL_S)
    seconds = time.monotonic() - started
    if process.returncode:
        raise SystemExit(
            f"snakemake {' '.join(arguments)} failed:\n{(project / 'run.log').read_text(encoding='utf-8')[-2000:]}"
        )
    processor_s = _processor_s() - before
    return {"seconds": round(seconds, 1), "processor_s": round(processor_s, 1), "memory_mib": most >> 20}


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _memory_bytes(process: psutil.Process) -> int:
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="+", type=int, help="numbers of cells")
    parser.add_argument(
        "--steps",
        nargs="+",
        choices=STEPS,
        default=[step for step in STEPS if step != "group"],
        metavar="STEP",
        help=", ".join(STEPS),
    )
    arguments = parser.parse_args()
    seconds: dict[str, list[tuple[int, float]]] = {}
    for count in arguments.cells:
        with tempfile.TemporaryDirectory() as folder:
            project = Path(folder) / "project"
            project.mkdir()
            for part in PARTS:
                copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
                copy(ROOT / part, project / part)
            # The claims of the text are about the real data.
            (project / "paper/numbers.tex").unlink(missing_ok=True)
            started = time.monotonic()
            fill(project, count)
            print(json.dumps({"cells": count, "step": "write", "seconds": round(time.monotonic() - started, 1)}))
            for step in arguments.steps:
                cost = run(project, STEPS[step])
                seconds.setdefault(step, []).append((count, cost["processor_s"]))
                print(json.dumps({"cells": count, "step": step, **cost}), flush=True)
    for step, points in seconds.items():
        if len(points) > 1:
            counts, times = np.log(np.array(points)).T
            print(json.dumps({"step": step, "growth_exponent": round(float(np.polyfit(counts, times, 1)[0]), 2)}))


if __name__ == "__main__":
    main()
