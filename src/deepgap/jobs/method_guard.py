"""What can change a measured number, room by room: the closures of what measures, of each runtime and each source.

`tests/unit/test_method.py` compares them with the last decision on each room in `RECORD`.
"""

from __future__ import annotations

from typing import TypedDict

from deepgap.jobs.digest import import_closure, syntax_digest
from deepgap.runtimes import load_runtimes
from deepgap.sources import load_source, source_names
from deepgap.study.method import METHOD_VERSION
from deepgap.training.cell import TRAINING_VERSION
from deepgap.training.frameworks import load_frameworks
from deepgap.training.workloads import load_workloads

RECORD = "tests/unit/method_digests.json"

ENTRY = "deepgap.measure.cell"
"""The module from which a cell is measured."""

TRAINING_ENTRIES = ("deepgap.training.measure", "deepgap.training.count")
"""Likewise of the second study; what counts uses PyTorch's networks, which are of its frameworks' rooms."""

SCRIPTS = (
    "build_weights",
    "export_onnx",
    "calibrate",
    "quantize",
    "compute_reference",
    "draw_held_out",
    "build_engine",
)

NO_NUMBER = {
    "deepgap.errors": "sentences",
    "deepgap.files": "how files are written, which their seals check",
    "deepgap.text": "how text is written",
    "deepgap.measure.progress": "a line for the user",
    "deepgap.measure.worker": "carries requests to the process that measures",
    "deepgap.measure.session": "starts the worker",
    "deepgap.study.schema": "sentences about the config",
    "deepgap.study.study": "which cells there are; what a cell means is in its recipe",
    "deepgap.study.checks": "sentences about the config",
    "deepgap.study.artifacts": "names of files",
    "deepgap.study.gpus": "facts that the recipe names",
    "deepgap.jobs.arguments": "how scripts get their files",
    "deepgap.training.process": "carries requests to the process that measures",
    "deepgap.training.cell": "names of files",
}
"""Modules that cannot change a number, and why."""


class Room(TypedDict):
    """The version of a room and the digest of its code."""

    version: int
    digest: str


def describe_rooms() -> dict[str, Room]:
    """Each room's version and digest: `measure` is what every cell runs through; then runtimes, then sources; then
    those of the second study.

    Raises:
        ModuleNotFoundError: `NO_NUMBER` names a module that is not there.
    """
    for module in NO_NUMBER:
        syntax_digest([module])
    runtimes = load_runtimes()
    own = {name: import_closure([f"deepgap.runtimes.{name}"], {"deepgap.runtimes", *NO_NUMBER}) for name in runtimes}
    of_runtimes = set().union(*own.values())
    shared = import_closure([ENTRY], {*NO_NUMBER, *(f"deepgap.runtimes.{name}" for name in runtimes)})
    scripts = {f"workflow/scripts/{name}.py" for name in SCRIPTS}
    measure = shared | scripts | _imported_by(scripts, {*NO_NUMBER, *(of_runtimes - shared)})
    rooms = {"measure": Room(version=METHOD_VERSION, digest=syntax_digest(measure))}
    for name, runtime in runtimes.items():
        rooms[name] = Room(version=runtime.version, digest=syntax_digest(own[name] - measure))
    for name in source_names():
        of_source = import_closure([f"deepgap.sources.{name}"], {"deepgap.sources", *NO_NUMBER})
        rooms[f"sources.{name}"] = Room(version=load_source(name).version, digest=syntax_digest(of_source - measure))
    return rooms | _training_rooms(measure)


def _training_rooms(measure: set[str]) -> dict[str, Room]:
    """What every cell of the second study runs through beside `measure`; its frameworks, its workloads."""
    shared = import_closure(TRAINING_ENTRIES, {*NO_NUMBER, "deepgap.training.frameworks.pytorch"}) - measure
    rooms = {"training": Room(version=TRAINING_VERSION, digest=syntax_digest(shared))}
    for kind, found in (("frameworks", load_frameworks()), ("workloads", load_workloads())):
        for name, plugin in found.items():
            own = import_closure([f"deepgap.training.{kind}.{name}"], NO_NUMBER) - measure - shared
            rooms[f"{kind}.{name}"] = Room(version=plugin.version, digest=syntax_digest(own))
    return rooms


def _imported_by(scripts: set[str], leave_out: set[str]) -> set[str]:
    """What scripts import of deepgap, without the scripts."""
    return import_closure(scripts, leave_out) - scripts
