"""What happens once before the cells of a run are measured."""

from __future__ import annotations

from collections.abc import Sequence

from deepgap.hardware import Gpu, matching_devices
from deepgap.progress import write_plan
from deepgap.worker import WarmWorker


def start_session(gpu: Gpu, cell_files: Sequence[str]) -> WarmWorker:
    """Check that the device is here, start the warm worker and keep the plan for the progress line.

    Raises:
        DeviceError: this machine has no such device; nothing was started.
    """
    matching_devices(gpu)
    worker = WarmWorker()
    write_plan(worker.folder / "plan.json", cell_files)
    return worker
