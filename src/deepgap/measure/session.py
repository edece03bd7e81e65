"""What happens once before the cells of a run are measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from deepgap.measure.device import matching_devices
from deepgap.measure.progress import write_plan
from deepgap.measure.worker import WarmWorker
from deepgap.runtimes import load_runtime
from deepgap.study.gpus import Gpu


def start_session(gpu: Gpu, cell_files: Sequence[str], runtimes: Iterable[str]) -> WarmWorker:
    """Check the device and the runtimes' libraries, start the warm worker, keep the plan for the progress line.

    Raises:
        DeviceError: this machine has no such device; nothing was started.
        MissingLibraryError: a runtime's library is not installed; nothing was started.
    """
    matching_devices(gpu)
    for name in sorted(runtimes):
        load_runtime(name).libraries()
    worker = WarmWorker()
    write_plan(worker.folder / "plan.json", cell_files)
    return worker
