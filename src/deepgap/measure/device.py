"""The devices that are really in this machine, and why there are none where there are none."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepgap.errors import DeviceError, first_line
from deepgap.host import cpu_name
from deepgap.measure.locks import take_first_free, take_host
from deepgap.study.gpus import HOST, Device, Gpu

RENDER_HINT = "'snakemake --cores 1' renders the paper from the data present without any device"
CPU_HINT = "'snakemake --cores 1 --config gpu=CPU' measures its processor"
NVIDIA_VENDOR, DISPLAY_CLASS = "0x10de", "0x03"
"""Of a GPU in /sys/bus/pci (PCI Code and ID Assignment: base class 03h, display controller)."""
NO_DRIVER = ("NVML_ERROR_LIBRARY_NOT_FOUND", "NVML_ERROR_DRIVER_NOT_LOADED")
"""How NVML fails where no driver is installed, with or without a GPU."""


@dataclass(frozen=True)
class Sighting:
    """The GPUs that this process may use, and all that keeps it from others.

    devices: in CUDA's order.
    absent: why there are none, as a sentence's end ("this machine has ..."); null where there are some.
    hardware: whether the machine has NVIDIA hardware at all, as far as can be told.
    """

    devices: tuple[Device, ...]
    absent: str | None = None
    hardware: bool = True


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


def look_for_gpus(root: Path = Path("/")) -> Sighting:
    """The NVIDIA GPUs that NVML can read and CUDA_VISIBLE_DEVICES admits, or why there are none.

    Args:
        root: where /sys, /proc and /dev are.

    Raises:
        DeviceError: CUDA_VISIBLE_DEVICES names a MIG slice, or cards by numbers that do not tell which.
    """
    import pynvml

    try:
        with nvml_session() as nvml:
            found, unread = _read_devices(nvml)
    except pynvml.NVMLError as error:
        return _without_nvml(error, root)
    if not found:
        if unread:
            return Sighting((), f"no NVIDIA GPU that can be measured: {'; '.join(unread)}")
        if _hardware(root):
            return Sighting((), f"an NVIDIA GPU that the driver does not show{_hidden_from_container()}")
        return Sighting((), "no NVIDIA GPU", hardware=False)
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return Sighting(tuple(found))
    visible = visible_devices(wanted, found)
    if visible:
        return Sighting(visible)
    names = ", ".join(sorted({device.name for device in found}))
    return Sighting(
        (),
        f"{names}, hidden by the environment: CUDA_VISIBLE_DEVICES is '{wanted}', which names none that is there; "
        "unset it, or give numbers below "
        f"{len(found)} or UUIDs as 'nvidia-smi -L' prints them",
    )


def list_devices() -> list[Device]:
    """The NVIDIA GPUs that this process may use, in CUDA's order; empty where there are none, for any reason."""
    return list(look_for_gpus().devices)


def visible_devices(wanted: str, devices: Sequence[Device]) -> tuple[Device, ...]:
    """What CUDA makes of CUDA_VISIBLE_DEVICES (seen with driver 580 on two H100; CUDA C++ Programming Guide).

    The first entry tells the kind of all. UUIDs may be cut short where they stay unique, in any case; of a number the
    digits at its start count. The first entry that is not a device ends the list, and one given twice empties it.
    The numbers are NVML's, in the order of the PCI bus, which is CUDA's where all cards are of one kind, or where
    CUDA_DEVICE_ORDER says so.

    Args:
        wanted: the variable's value.
        devices: those that may be opened: CUDA does not number the others.

    Raises:
        DeviceError: it names a MIG slice, or by numbers some of cards that CUDA may number in another order.
    """
    if wanted.startswith("MIG-"):
        raise DeviceError(
            f"CUDA_VISIBLE_DEVICES is '{wanted}', but slices of a GPU (MIG) are not measured, because what runs on "
            "its other slices is not seen; turn MIG off, or choose a whole GPU."
        )
    chosen: list[Device] = []
    for entry in wanted.split(","):
        if wanted.startswith("GPU-"):
            matches = [device for device in devices if device.uuid.lower().startswith(entry.lower()) and entry]
            matches = matches if entry.startswith("GPU-") else []
        else:
            digits = re.match(r"\s*\+?(\d+)", entry)
            matches = list(devices[int(digits[1]) :][:1]) if digits else []
        if len(matches) != 1:
            break
        if matches[0] in chosen:
            return ()
        chosen += matches
    kinds = {device.name for device in devices}
    by_bus = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    if 0 < len(chosen) < len(devices) and len(kinds) > 1 and not (by_bus or wanted.startswith("GPU-")):
        raise DeviceError(
            f"CUDA_VISIBLE_DEVICES is '{wanted}', but this machine's GPUs are of several kinds "
            f"({', '.join(sorted(kinds))}), which CUDA numbers by speed and nvidia-smi by their place on the bus; "
            "set CUDA_DEVICE_ORDER=PCI_BUS_ID, or give UUIDs as 'nvidia-smi -L' prints them."
        )
    return tuple(chosen)


def _read_devices(nvml: Any) -> tuple[list[Device], list[str]]:
    """The devices that can be measured, and a clause for each that cannot: one lost GPU does not hide the others."""
    found, unread = [], []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
            uuid, name = _text(nvml.nvmlDeviceGetUUID(handle)), _text(nvml.nvmlDeviceGetName(handle))
        except nvml.NVMLError_NoPermission:
            # NVML counts devices that a cluster keeps from this job, and refuses to open them.
            unread.append(f"GPU {index} is kept from this process")
            continue
        except nvml.NVMLError as error:
            unread.append(f"GPU {index} cannot be read ({first_line(error).rstrip('.')})")
            continue
        reason = _why_not(nvml, handle, index)
        if reason is not None:
            unread.append(f"GPU {index}, {name}, {reason}")
        else:
            found.append(Device(index, uuid, name, f"{major}.{minor}"))
    return found, unread


def _why_not(nvml: Any, handle: Any, index: int) -> str | None:
    """Why a GPU that can be read is not measured, as a clause; null where it is."""

    def ask(query: str) -> Any:
        # A GPU without the feature says that it does not know the question, and so does an older driver.
        with suppress(nvml.NVMLError):
            return getattr(nvml, query)(handle)
        return None

    mig = ask("nvmlDeviceGetMigMode")
    if mig is not None and mig[0]:
        return "is cut into MIG slices, which are not measured"
    if ask("nvmlDeviceGetVirtualizationMode") == nvml.NVML_GPU_VIRTUALIZATION_MODE_VGPU:
        return "is a virtual GPU, and what runs on the other shares of its card is not seen"
    if ask("nvmlDeviceGetComputeMode") == nvml.NVML_COMPUTEMODE_PROHIBITED:
        return f"is set to compute nothing ('sudo nvidia-smi -i {index} -c DEFAULT' lets it)"
    return None


def _without_nvml(error: Any, root: Path) -> Sighting:
    """Why NVML did not start."""
    import pynvml

    said = first_line(error).rstrip(".")
    no_driver = error.value in {getattr(pynvml, name) for name in NO_DRIVER}
    if not no_driver:
        return Sighting((), f"an NVIDIA driver that does not work ({said}); see what 'nvidia-smi' says")
    if _hardware(root):
        hidden = _hidden_from_container()
        return Sighting(
            (),
            f"an NVIDIA GPU, but no driver that this process can use ({said}){hidden}; install it"
            " or, in a container, let it have the GPU ('docker run --gpus all')",
        )
    return Sighting((), "no NVIDIA GPU", hardware=False)


def _hardware(root: Path) -> bool:
    """Whether the machine has a GPU of NVIDIA's, driver or not."""
    if any(root.glob("dev/nvidia[0-9]*")) or any(root.glob("proc/driver/nvidia/gpus/*")):
        return True
    for vendor in root.glob("sys/bus/pci/devices/*/vendor"):
        with suppress(OSError):
            kind = vendor.with_name("class").read_text(encoding="ascii")
            if vendor.read_text(encoding="ascii").strip() == NVIDIA_VENDOR and kind.startswith(DISPLAY_CLASS):
                return True
    return False


def _hidden_from_container() -> str:
    """The variable of NVIDIA's container runtime, where it keeps all GPUs out of a container."""
    wanted = os.environ.get("NVIDIA_VISIBLE_DEVICES")
    return f", since NVIDIA_VISIBLE_DEVICES is '{wanted}'" if wanted in ("", "none", "void") else ""


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
    with nvml_session() as nvml, suppress(nvml.NVMLError):
        return len(nvml.nvmlDeviceGetComputeRunningProcesses(nvml.nvmlDeviceGetHandleByIndex(device.index)))
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
    seen = look_for_gpus()
    matches = [device for device in seen.devices if re.fullmatch(gpu.name_pattern, device.name)]
    if matches:
        return matches
    names = seen.absent or ", ".join(sorted({device.name for device in seen.devices}))
    raise DeviceError(f"gpu={gpu.key} was asked for, but this machine has {names}; {RENDER_HINT}.")


def key_of(device: Device, gpus: Mapping[str, Gpu]) -> str | None:
    """The key of the entry that a GPU's name matches; null where there is none."""
    return next(
        (
            key
            for key, gpu in gpus.items()
            if gpu.device == "cuda" and gpu.name_pattern and re.fullmatch(gpu.name_pattern, device.name)
        ),
        None,
    )


def detect_gpu(gpus: Mapping[str, Gpu], introduce: Callable[[Device], str] | None = None) -> str:
    """The key of this machine's device: its first NVIDIA GPU with an entry, else the newest one, or CPU where there
    is no NVIDIA hardware.

    Args:
        introduce: gives a card without an entry its key.

    Raises:
        DeviceError: there is NVIDIA hardware that cannot be measured, or a card without an entry and nobody to give
            it one.
    """
    seen = look_for_gpus()
    for device in seen.devices:
        if (key := key_of(device, gpus)) is not None:
            return key
    if seen.devices:
        newest = max(seen.devices, key=lambda device: [int(n) for n in (device.compute_capability or "0").split(".")])
        if introduce is not None:
            return introduce(newest)
        raise DeviceError(
            f"This machine's {newest.name} has no entry in config/gpus.yaml; "
            "add one whose name_pattern matches that name."
        )
    if seen.hardware:
        raise DeviceError(f"This machine has {seen.absent}; {CPU_HINT}.")
    processors = [key for key, gpu in gpus.items() if gpu.device == "cpu" and gpu.name_pattern is None]
    if not processors:
        raise DeviceError(
            "This machine has no NVIDIA GPU, and config/gpus.yaml has no entry for any processor, whose "
            "compute_capability and name_pattern are null; add one."
        )
    return processors[0]


def take_device(gpu: Gpu, say: Callable[[str], None], alone: bool = False, card: int | None = None) -> Device:
    """Take the first free device that is this GPU until this process ends; wait while that cannot be, and say so.

    It is freed when the process is gone and its CUDA context with it: freed any earlier, the next process would
    still find that context's memory in use.

    Args:
        alone: whether the host's processor is wanted alone, too, as by what builds; see `deepgap.measure.locks`.

        card: which of the devices that are this GPU, from 1; null is any.

    Raises:
        DeviceError: this machine has no such device, or not so many.
    """
    found = matching_devices(gpu)
    if card is not None:
        if card > len(found):
            raise DeviceError(
                f"Card {card} of {gpu.key} was asked for, but this machine has {len(found)} of them; give as many "
                "cards in the config as there are."
            )
        found = found[card - 1 : card]
    devices = {device.uuid: device for device in found}
    if gpu.device == "cpu":
        take_host(say)
        return HOST
    name = next(iter(devices.values())).name
    describe = name if len(devices) == 1 else f"Each of the {len(devices)} {name}"
    device = devices[take_first_free(list(devices), describe, say)]
    # Always after the device, so that no two processes wait for each other.
    take_host(say, shared=not alone)
    return device
