"""A cell of the second study in a process of its own, in the interpreter that has its framework.

`measure_in` starts it with this module's folder on its path; `python -m deepgap.training.process` is that process. It
reads one request from its standard input, and ends when that is closed, as it is when its starter is gone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import deepgap
from deepgap.errors import DeepGapError, MissingLibraryError, first_line
from deepgap.measure.device import matching_devices
from deepgap.measure.progress import write_plan
from deepgap.measure.readiness import check_ready
from deepgap.measure.session import name_session
from deepgap.study.gpus import Gpu
from deepgap.text import tell
from deepgap.training.cell import TrainingCell
from deepgap.training.frameworks import Framework, load_frameworks

CRASHED = 70


def measure_in(python: str, request: Mapping[str, Any]) -> None:
    """Measure the cell of a request.

    Args:
        python: the interpreter of the cell's framework.
        request: the fields of `measure.Request` as plain values; `gpu` holds those of the profile.

    Raises:
        DeepGapError: the cell could not be measured; the sentence says why.
        RuntimeError: what measures it failed in a way that it does not expect; its output has the traceback.
    """
    answer = _ask(python, {"measure": request})
    if answer is None:
        raise DeepGapError(
            "The process that measured the cell was killed, as a machine without enough memory does; run Snakemake "
            "again to measure it, or ask for smaller batches."
        )
    if "crashed" in answer:
        raise RuntimeError(f"The process that measured the cell failed: {answer['crashed']}")
    if "failed" in answer:
        raise DeepGapError(answer["failed"])


def libraries_in(python: str, runtime: str) -> dict[str, str]:
    """The versions of a runtime's libraries in an interpreter.

    Raises:
        MissingLibraryError: one is not installed there.
    """
    try:
        answer = _ask(python, {"libraries": runtime})
    except OSError as error:
        raise MissingLibraryError(f"{python}, of the runtime {runtime}, does not run ({error.strerror}).") from None
    if answer is None or "failed" in answer:
        reason = (answer or {}).get("failed", f"{python} does not run deepgap; see above what it said.")
        raise MissingLibraryError(reason)
    versions: dict[str, str] = answer["libraries"]
    return versions


def absent_frameworks(pythons: Mapping[str, str], runtimes: Iterable[str]) -> dict[str, str]:
    """Those of these runtimes whose libraries are not installed, each with the sentence that says how to get them.

    Args:
        pythons: the interpreter of each runtime.
    """
    missing = {}
    for name in sorted(set(runtimes)):
        try:
            if pythons[name] == sys.executable:
                load_frameworks()[name].libraries()
            else:
                libraries_in(pythons[name], name)
        except MissingLibraryError as error:
            missing[name] = str(error)
    return missing


class Planned(NamedTuple):
    """A cell as the line of progress tells it: what it is like has its image size and its phase, too."""

    path: str
    gpu: str
    model: str
    mode: str
    batch_size: int
    threads: int
    sweep: int
    settings: str


def _planned(cell: TrainingCell) -> Planned:
    return Planned(
        cell.path,
        cell.gpu,
        f"{cell.model} {cell.image_size} px",
        f"{cell.mode} {cell.phase}",
        cell.batch_size,
        cell.threads,
        cell.sweep,
        cell.settings,
    )


def start_session(
    gpu: Gpu, cells: Sequence[TrainingCell], others: Mapping[str, str]
) -> tempfile.TemporaryDirectory[str]:
    """Check the device, name the session, and keep the plan for the progress line in the folder that is returned.

    Args:
        others: the rules of what this run makes beside its cells, by their first output.

    Raises:
        DeviceError: this machine has no such device, or its software cannot use it.
    """
    devices = matching_devices(gpu)
    if gpu.device == "cuda":
        check_ready(devices)
    name_session(len(cells))
    folder = tempfile.TemporaryDirectory(prefix="deepgap-")
    write_plan(Path(folder.name, "plan.json"), [_planned(cell) for cell in cells], others)
    return folder


def find_interpreter(framework: Framework, interpreters: Mapping[str, str], root: Path) -> str:
    """The interpreter of a framework: the config's, that of `.venv-<environment>`, or this one.

    Args:
        interpreters: by environment.
        root: the project's.
    """
    if framework.environment is None:
        return sys.executable
    asked = interpreters.get(framework.environment)
    own = root / f".venv-{framework.environment}/bin/python"
    return asked or (str(own) if own.exists() else sys.executable)


def _ask(python: str, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the process answers; null where it was killed."""
    source = str(Path(deepgap.__file__).parent.parent)
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "2"}
    with subprocess.Popen(
        [python, "-m", "deepgap.training.process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        encoding="utf-8",
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            text = process.stdout.read()
        except BrokenPipeError:
            text = ""
        except BaseException:
            process.kill()
            raise
    answer: dict[str, Any] | None = json.loads(text) if text else None
    return answer


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        if "libraries" in request:
            return {"libraries": dict(load_frameworks()[request["libraries"]].libraries())}
        _measure(request["measure"])
    except DeepGapError as error:
        return {"failed": str(error)}
    except Exception as error:
        traceback.print_exc()
        return {"crashed": f"{type(error).__name__}: {first_line(error)}"}
    return {}


def _measure(request: Mapping[str, Any]) -> None:
    from deepgap.training.measure import Request, measure_training_cell

    files = {name: value and Path(value) for name, value in request.items() if name.endswith("_file")}
    asked = Request(**{**request, **files, "gpu": Gpu(**request["gpu"])})
    measure_training_cell(asked, say=tell)


def _end_with_starter() -> None:
    sys.stdin.read()
    os._exit(CRASHED)


def _main() -> None:
    # Libraries print what they like; the answer alone goes to the starter.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_starter, daemon=True).start()
    answers.write(json.dumps(_answer(request)))
    answers.flush()
    # Some libraries hang in their own threads at the end, and all is written.
    os._exit(0)


if __name__ == "__main__":
    _main()
