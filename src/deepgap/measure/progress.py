"""Where a run of measurements stands: which cell of how many, and the time left."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from deepgap.study.cell import Cell

PLAN_VARIABLE = "DEEPGAP_PLAN"


@dataclass(frozen=True)
class Progress:
    """A cell that begins: the how manieth of how many, and the seconds until all are done, where that can be told."""

    place: int
    cells: int
    left_s: float | None

    def __str__(self) -> str:
        """`[cell 13 of 150, about 9 min left]`."""
        left = "" if self.left_s is None else f", about {_describe(self.left_s)} left"
        return f"[cell {self.place} of {self.cells}{left}]"


def write_plan(path: Path, cells: Sequence[Cell]) -> None:
    """Keep the cells of this run, for `begin_cell` in the jobs that measure them."""
    alike = {
        cell.path: [f"{cell.model} {cell.mode} {cell.batch_size} {cell.threads}", f"{cell.model} {cell.mode}"]
        for cell in cells
    }
    path.write_text(json.dumps(alike), encoding="utf-8")
    os.environ[PLAN_VARIABLE] = str(path)


def begin_cell(file: str) -> Progress | None:
    """Note that a cell of the plan begins, and tell where the run stands; null where no plan was written."""
    plan = Path(os.environ.get(PLAN_VARIABLE, ""))
    if not plan.is_file():
        return None
    alike: dict[str, list[str]] = json.loads(plan.read_text(encoding="utf-8"))
    log = plan.with_suffix(".begun")
    # One write a cell: cells on several devices may begin at once.
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
    to_come = [file, *(name for name in alike if name not in begun and not Path(name).exists())]
    elapsed_s = time.time() - min(begun.values())
    return Progress(list(begun).index(file) + 1, len(alike), time_left_s(alike, took, to_come, elapsed_s))


def time_left_s(
    alike: Mapping[str, Sequence[str]], took: Mapping[str, float], to_come: Sequence[str], elapsed_s: float
) -> float | None:
    """The seconds that the cells to come will take; null before the first is done.

    A cell takes as long as those like it have: the same in other sweeps, else the same model and mode, else all. What
    lies between the cells, and that several are measured at once, is in the time that has passed since the first
    began over the time that the cells took.

    Args:
        alike: for each cell the names of what it is like, the nearest first.
        took: seconds of the cells that are done.
        to_come: those that are not.
        elapsed_s: seconds since the first began.
    """
    total_s = sum(took.values())
    if not took or total_s <= 0:
        return None
    seconds: dict[str, list[float]] = {}
    for file, took_s in took.items():
        for name in alike.get(file, ()):
            seconds.setdefault(name, []).append(took_s)
    typical_s = total_s / len(took)
    cells_s = (next((fmean(seconds[name]) for name in alike[file] if name in seconds), typical_s) for file in to_come)
    return sum(cells_s) * elapsed_s / total_s


def _describe(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
