"""Where a run of measurements stands: which cell of how many, and the time left."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

PLAN_VARIABLE = "DEEPGAP_PLAN"


def write_plan(path: Path, cell_files: Sequence[str]) -> None:
    """Keep the cells of this run, for `describe_progress` in the jobs that measure them."""
    path.write_text(json.dumps(list(cell_files)), encoding="utf-8")
    os.environ[PLAN_VARIABLE] = str(path)


def describe_progress() -> str:
    """`[cell 13 of 150, about 9 min left]`, or nothing when no plan was written.

    The time left is the mean time of the cells done times the cells left; the order of cells within a sweep is
    random, so the mean of those done stands for the rest. It counts from the first cell: what is built before it is
    not built again.
    """
    plan = Path(os.environ.get(PLAN_VARIABLE, ""))
    if not plan.is_file():
        return ""
    files = json.loads(plan.read_text(encoding="utf-8"))
    done = sum(Path(file).exists() for file in files)
    place = f"cell {done + 1} of {len(files)}"
    started = plan.with_suffix(".started")
    if done == 0 or not started.exists():
        started.touch()
        return f"[{place}]"
    left_s = (time.time() - started.stat().st_mtime) / done * (len(files) - done)
    left = f"{left_s:.0f} s" if left_s < 90 else f"{left_s / 60:.0f} min"
    return f"[{place}, about {left} left]"
