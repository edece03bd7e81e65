"""Where a run of measurements stands: which build, cell or result of how many, and the time left."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any, Protocol

from deepgap.cells.cell_file import LATENCY, OK, THROUGHPUT, read_cell

PLAN_VARIABLE = "DEEPGAP_PLAN"

BUILD, CELL, RESULT = "build", "cell", "result"
BUILD_S = {
    "build_weights": 11.0,
    "export_onnx": 9.0,
    "count_facts": 2.0,
    "draw_held_out": 2.0,
    "compute_reference": 3.0,
    "calibrate": 22.0,
    "quantize": 2.0,
    "build_engine": 20.0,
    "count_workload": 3.0,
}
"""Seconds by rule on two cores, of ResNet-18 and -50. Only how they compare counts, and only until one is done."""
RESULT_S = 1.0
"""Of any rule behind the cells."""
CELL_START_S = 3.0
"""What a cell takes beside its timed arms."""


@dataclass(frozen=True)
class Step:
    """A job of the plan.

    kind: BUILD, CELL or RESULT. name: for the line of progress. alike: names of what it is like, the nearest first.
    typical_s: seconds that it takes on two cores, null where nothing tells it.
    """

    kind: str
    name: str
    alike: Sequence[str]
    typical_s: float | None


@dataclass(frozen=True)
class Progress:
    """A step that begins: the how manieth of how many of its kind, and the seconds until all is done, if known."""

    kind: str
    place: int
    steps: int
    left_s: float | None
    name: str = ""

    def __str__(self) -> str:
        """`[cell 13 of 150, about 9 min left] H100 resnet50 eager-fp16 batch 128 sweep 2`."""
        left = "" if self.left_s is None else f", about {_describe(self.left_s)} left"
        return f"[{self.kind} {self.place} of {self.steps}{left}] {self.name}".rstrip()


class Planned(Protocol):
    """What the plan must know of a cell of either study."""

    @property
    def path(self) -> str: ...

    @property
    def gpu(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def mode(self) -> object: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def threads(self) -> int: ...

    @property
    def sweep(self) -> int: ...

    @property
    def settings(self) -> str: ...


def write_plan(path: Path, cells: Sequence[Planned], others: Mapping[str, str] | None = None) -> None:
    """Keep the steps of this run, for `begin_step` in its jobs.

    Args:
        others: the rules of what is made beside the cells, by their first output.
    """
    steps = {cell.path: _cell_step(cell) for cell in cells}
    for file, rule in (others or {}).items():
        kind = BUILD if rule in BUILD_S else RESULT
        steps[file] = Step(kind, f"{rule} {file}", [rule], BUILD_S.get(rule, RESULT_S))
    plan = {file: asdict(step) for file, step in steps.items()}
    path.write_text(json.dumps(plan), encoding="utf-8")
    os.environ[PLAN_VARIABLE] = str(path)


def _cell_step(cell: Planned) -> Step:
    protocol = json.loads(cell.settings)["protocol"]
    stop = protocol["stop"]
    timed_s = None if stop is None else protocol["runs"] * (protocol["throughput_s"] + (stop["maximum_s"] or 0))
    point = f"{cell.model} {cell.mode} {cell.batch_size} {cell.threads}"
    return Step(
        CELL,
        f"{cell.gpu} {cell.model} {cell.mode} batch {cell.batch_size} sweep {cell.sweep}",
        [point, f"{cell.model} {cell.mode}", CELL],
        None if timed_s is None else CELL_START_S + timed_s,
    )


def begin_step(files: Iterable[str]) -> Progress | None:
    """Note that the job of these files begins, and tell where the run stands; null where no plan has it."""
    path = Path(os.environ.get(PLAN_VARIABLE, ""))
    if not path.is_file():
        return None
    content: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    plan = {file: Step(**step) for file, step in content.items()}
    file = next((name for name in files if name in plan), None)
    if file is None:
        return None
    log = path.with_suffix(".begun")
    # One write a step: cells on several devices may begin at once.
    with log.open("a", encoding="utf-8") as begun_log:
        begun_log.write(f"{time.time()} {file}\n")
    begun = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        began, _, name = line.partition(" ")
        begun[name] = float(began)
    took = {}
    for name, began_s in begun.items():
        with suppress(OSError):
            took[name] = max(Path(name).stat().st_mtime - began_s, 0.0)
    # What failed or waits in another job's shadow counts as begun.
    to_come = [file, *(name for name in plan if name not in begun and not Path(name).exists())]
    left_s = time_left_s(plan, took, to_come, time.time() - min(begun.values()))
    kind = plan[file].kind
    place = sum(plan[name].kind == kind for name in begun)
    return Progress(kind, place, sum(step.kind == kind for step in plan.values()), left_s, plan[file].name)


def time_left_s(
    plan: Mapping[str, Step], took: Mapping[str, float], to_come: Sequence[str], elapsed_s: float
) -> float | None:
    """The seconds that the steps to come will take; null before the first is done, or where nothing tells it.

    A step takes as long as those like it have: for a cell the same in other sweeps, else the same model and mode,
    else any cell. Before one like it is done it takes its typical time, longer as the steps that are done were.
    What lies between the steps, and that several are done at once, is in the time that has passed since the first
    began over the time that they took.

    Args:
        took: seconds of the steps that are done.
        to_come: those that are not.
        elapsed_s: seconds since the first began.
    """
    total_s = sum(took.values())
    if not took or total_s <= 0:
        return None
    seconds: dict[str, list[float]] = {}
    known = [(plan[file].typical_s, took_s) for file, took_s in took.items() if file in plan]
    typical_s = sum(typical or 0.0 for typical, _ in known)
    pace = sum(took_s for typical, took_s in known if typical) / typical_s if typical_s else 1.0
    for file, took_s in took.items():
        for name in plan[file].alike:
            seconds.setdefault(name, []).append(took_s)
    left_s = 0.0
    for file in to_come:
        step = plan[file]
        alike_s = next((fmean(seconds[name]) for name in step.alike if name in seconds), None)
        if alike_s is None:
            if step.typical_s is None:
                return None
            alike_s = pace * step.typical_s
        left_s += alike_s
    return left_s * elapsed_s / total_s


def describe_cell(path: Path) -> str:
    """What a cell measured, in a line: `resnet18 eager-fp32 batch 8: 142.1 ms, 57.9 img/s`."""
    rows, footer = read_cell(path)
    recipe = footer.recipe
    name = "{model} {mode} batch {batch_size}".format(**recipe)
    if set(rows["status"]) != {OK}:
        return f"{name}: {rows['status'][0]}, {rows['reason'][0]}"
    latency, throughput = (rows.filter(rows["arm"] == arm) for arm in (LATENCY, THROUGHPUT))
    images = recipe["batch_size"] * throughput["calls"].sum()
    images_per_s = 1000 * images / throughput["device_ms"].sum()
    return f"{name}: {median(latency['device_ms']):.4g} ms, {images_per_s:.4g} img/s"


def _describe(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
