"""What happens once before the cells of a run are measured, and what the cells tell of it."""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deepgap.errors import MissingLibraryError
from deepgap.measure.device import matching_devices
from deepgap.measure.progress import write_plan
from deepgap.measure.readiness import check_ready
from deepgap.measure.worker import WarmWorker
from deepgap.runtimes import load_runtimes
from deepgap.study.cell import Cell
from deepgap.study.gpus import Gpu

SESSION_VARIABLE = "DEEPGAP_SESSION"


def start_session(gpu: Gpu, cells: Sequence[Cell], others: Mapping[str, str] | None = None) -> WarmWorker:
    """Check the device, start the warm worker, keep the plan for the progress line.

    Args:
        others: the rules of what this run makes beside its cells, by their first output.

    Raises:
        DeviceError: this machine has no such device, or its software cannot use it; nothing was started.
    """
    devices = matching_devices(gpu)
    if gpu.device == "cuda":
        check_ready(devices)
    name_session(len(cells))
    worker = WarmWorker()
    write_plan(worker.folder / "plan.json", cells, others)
    return worker


def runtimes_without_libraries(runtimes: Iterable[str]) -> dict[str, str]:
    """The runtimes whose libraries are not installed, each with the sentence that says how to get them."""
    missing = {}
    for name in sorted(set(runtimes)):
        try:
            load_runtimes()[name].libraries()
        except MissingLibraryError as error:
            missing[name] = str(error)
    return missing


def name_session(cells: int) -> None:
    """Give the cells that this process's jobs measure, here or through a batch system, the name of one session."""
    os.environ[SESSION_VARIABLE] = f"{secrets.token_hex(6)} {cells}"


def describe_session(place: int | None) -> dict[str, Any]:
    """`session` of a cell's footer: its `id`, 12 hex digits, the cell's `place` in it and its number of `cells`.

    The cells that one call of Snakemake measures on one host are a session. A cell measured by hand is one by
    itself, with no place among others.
    """
    call, _, cells = os.environ.get(SESSION_VARIABLE, "").partition(" ")
    if not call:
        return {"id": secrets.token_hex(6), "place": None, "cells": None}
    here = hashlib.sha256(f"{call} {platform.node()}".encode()).hexdigest()[:12]
    return {"id": here, "place": place, "cells": int(cells)}
