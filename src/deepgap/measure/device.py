"""The devices that are really in this machine, and the lock that keeps one for a cell alone."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from deepgap.errors import DeviceError
from deepgap.host import cpu_name
from deepgap.study.gpus import HOST, Device, Gpu

LOCK_POLL_S = 0.02
RENDER_HINT = "'snakemake --cores 1' renders the paper from the data present without any device"


@contextmanager
def nvml_session() -> Iterator[Any]:
    """NVML's module, started until the context ends. NVML counts its users, so contexts may lie in each other.

    Raises:
        pynvml.NVMLError: there is no driver.
    """
    import pynvml

    pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def list_devices() -> list[Device]:
    """The NVIDIA GPUs that NVML sees and CUDA_VISIBLE_DEVICES admits; empty without a driver."""
    import pynvml

    found = []
    with ExitStack() as stack:
        try:
            nvml = stack.enter_context(nvml_session())
        except pynvml.NVMLError:
            return []
        for index in range(nvml.nvmlDeviceGetCount()):
            # NVML counts devices that a cluster keeps from this job, and refuses to open them.
            with suppress(nvml.NVMLError_NoPermission):
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
                uuid, name = nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle)
                found.append(Device(index, _text(uuid), _text(name), f"{major}.{minor}"))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    wanted = [name.strip() for name in visible.split(",")]
    # CUDA numbers only the devices that may be opened.
    return [device for number, device in enumerate(found) if str(number) in wanted or device.uuid in wanted]


def keep_nvml_open() -> None:
    """Start NVML for as long as this process lives, where there is a driver.

    Starting it takes tens of milliseconds, and every query here starts and ends it; NVML counts its users, so all
    but the first start are then free.
    """
    import pynvml

    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()


def compute_processes(device: Device) -> int:
    """How many processes have a compute context on a GPU; 0 where the driver does not tell."""
    with nvml_session() as nvml:
        try:
            return len(nvml.nvmlDeviceGetComputeRunningProcesses(nvml.nvmlDeviceGetHandleByIndex(device.index)))
        except nvml.NVMLError:
            return 0


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def matching_devices(gpu: Gpu) -> list[Device]:
    """The devices of this machine that are this GPU.

    Raises:
        DeviceError: there is none; the sentence names what was found.
    """
    if gpu.device == "cpu":
        if gpu.name_pattern is None or re.fullmatch(gpu.name_pattern, cpu_name()):
            return [HOST]
        raise DeviceError(
            f"gpu={gpu.key} was asked for, but this machine's processor is {cpu_name()}; "
            "gpu=CPU measures any processor."
        )
    assert gpu.name_pattern is not None
    devices = list_devices()
    matches = [device for device in devices if re.fullmatch(gpu.name_pattern, device.name)]
    if matches:
        return matches
    names = ", ".join(sorted({device.name for device in devices})) or "no NVIDIA GPU"
    raise DeviceError(f"gpu={gpu.key} was asked for, but this machine has {names}; {RENDER_HINT}.")


def detect_gpu(gpus: Mapping[str, Gpu]) -> str:
    """The key of this machine's device: its first NVIDIA GPU, or CPU when there is none.

    Raises:
        DeviceError: the device has no entry in gpus.yaml.
    """
    devices = list_devices()
    for device in devices:
        for key, gpu in gpus.items():
            if gpu.device == "cuda" and gpu.name_pattern and re.fullmatch(gpu.name_pattern, device.name):
                return key
    if devices:
        raise DeviceError(
            f"This machine's {devices[0].name} has no entry in config/gpus.yaml; "
            "add one whose name_pattern matches that name."
        )
    processors = [key for key, gpu in gpus.items() if gpu.device == "cpu" and gpu.name_pattern is None]
    if not processors:
        raise DeviceError(
            "This machine has no NVIDIA GPU, and config/gpus.yaml has no entry for any processor, whose "
            "compute_capability and name_pattern are null; add one."
        )
    return processors[0]


_held: list[FileLock] = []


def take_device(gpu: Gpu, say: Callable[[str], None]) -> Device:
    """Lock the first free device that is this GPU until this process ends; wait when all are taken, and say so.

    The lock is a file in the system's temporary folder named by the device's UUID, so it holds between all
    workflows of a machine. The operating system frees it when the process is gone, and its CUDA context with it:
    freed any earlier, the next process would still find that context's memory in use.

    Raises:
        DeviceError: this machine has no such device.
    """
    devices = matching_devices(gpu)
    locks = [FileLock(Path(tempfile.gettempdir()) / f"deepgap-{device.uuid}.lock", mode=0o666) for device in devices]
    said = False
    while True:
        for device, lock in zip(devices, locks, strict=True):
            if _try_lock(lock):
                _held.append(lock)
                return device
        if not said:
            name = devices[0].name if len(devices) == 1 else f"Each of the {len(devices)} {devices[0].name}"
            say(f"{name} is being measured; waiting until one is free.")
            said = True
        time.sleep(LOCK_POLL_S)


def _try_lock(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True
