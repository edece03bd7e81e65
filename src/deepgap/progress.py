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
    path.write_text(json.dumps({"started": time.monotonic(), "cell_files": list(cell_files)}))
    os.environ[PLAN_VARIABLE] = str(path)


def describe_progress() -> str:
    """`[cell 13 of 150, about 9 min left]`, or nothing when no plan was written.

    The time left is the mean time of the cells done times the cells left; the order of cells within a sweep is
    random, so the mean of those done stands for the rest.
    """
    path = os.environ.get(PLAN_VARIABLE)
    if path is None or not Path(path).exists():
        return ""
    plan = json.loads(Path(path).read_text())
    total = len(plan["cell_files"])
    done = sum(Path(file).exists() for file in plan["cell_files"])
    place = f"cell {done + 1} of {total}"
    if done == 0:
        return f"[{place}]"
    left_s = (time.monotonic() - plan["started"]) / done * (total - done)
    left = f"{left_s:.0f} s" if left_s < 90 else f"{left_s / 60:.0f} min"
    return f"[{place}, about {left} left]"
