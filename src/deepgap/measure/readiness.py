"""Whether the software of this machine can use its GPU: told before anything is built, and where CUDA says no."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from typing import Any

from deepgap.errors import DeviceError, first_line
from deepgap.measure.device import compute_processes, nvml_session
from deepgap.study.gpus import Device

RUNTIME_PACKAGES = ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12")
"""Those with which PyTorch's own packages bring CUDA."""
LEAST_CAPABILITY = {12: (5, 0), 13: (7, 5)}
"""The oldest compute capability that a major version of CUDA builds for (release notes of CUDA 12.0 and 13.0)."""


TROUBLES = {
    "system not yet initialized": "start the host's fabric manager ('systemctl start nvidia-fabricmanager'), of the "
    "driver's own version",
    "busy or unavailable": "another process has the card for itself; 'nvidia-smi' lists it",
    "uncorrectable ECC error": "its memory failed ('nvidia-smi -q -d ECC' counts the errors): reset the card, or "
    "start the host again",
    "no kernel image is available": "PyTorch here has no kernels for it; install one that has",
    "driver version is insufficient": "update the driver, or install a PyTorch for an older CUDA",
}
"""What CUDA says of a device that cannot be used (CUDA Runtime API, cudaError), and what to do."""


def explain(error: BaseException, name: str) -> DeviceError | None:
    """The sentence for an error of CUDA's that the card or its driver is the cause of; null for any other.

    Args:
        name: of the card, or its key.
    """
    advice = next((advice for words, advice in TROUBLES.items() if words in str(error)), None)
    return None if advice is None else DeviceError(f"{name} cannot be used ({first_line(error)}): {advice}.")


def check_ready(devices: Sequence[Device]) -> None:
    """Refuse GPUs that PyTorch as it is installed cannot use.

    Raises:
        DeviceError: PyTorch is built without CUDA, the driver or all cards are too old for its CUDA, or other
            processes hold all cards.
    """
    try:
        without = "is built without CUDA" if metadata.version("torch").endswith("+cpu") else None
    except metadata.PackageNotFoundError:
        without = "is not installed"
    if without:
        raise DeviceError(
            f"The PyTorch of this environment {without}; remove .venv and run 'make setup', which installs the "
            "pinned one."
        )
    cuda = next(filter(None, map(_version, RUNTIME_PACKAGES)), None)
    if cuda is not None:
        check_versions(devices, cuda, *_of_driver())
    held = [device for device in devices if _is_held(device)]
    if len(held) == len(devices):
        raise DeviceError(
            f"{held[0].name} is in exclusive-process mode, and another process has it; end that process "
            f"('nvidia-smi' lists it) or share the card: 'sudo nvidia-smi -i {held[0].index} -c DEFAULT'."
        )


def check_versions(
    devices: Sequence[Device], cuda: tuple[int, int], of_driver: tuple[int, int] | None, driver: str | None
) -> None:
    """Hold the driver and the cards against PyTorch's CUDA: within a major version any driver of it will do (NVIDIA,
    CUDA Compatibility).

    Args:
        cuda: the version that PyTorch brings.
        of_driver: the newest that the driver has; null where it does not tell.
        driver: its own version.

    Raises:
        DeviceError: one of them is too old.
    """
    if of_driver is not None and of_driver[0] < cuda[0]:
        raise DeviceError(
            f"The NVIDIA driver {driver or ''} has CUDA {_text(of_driver)} at most, but PyTorch here needs CUDA "
            f"{_text(cuda)}; update the driver, or install a PyTorch for CUDA {of_driver[0]}."
        )
    least = LEAST_CAPABILITY.get(cuda[0], (0, 0))
    capabilities = {device.name: _numbers(device.compute_capability or "") for device in devices}
    old = [name for name, capability in capabilities.items() if capability and capability < least]
    if len(old) == len(capabilities):
        raise DeviceError(
            f"{old[0]} has compute capability {_text(capabilities[old[0]])}, but the CUDA {_text(cuda)} of PyTorch "
            f"here begins at {_text(least)}; install a PyTorch for an older CUDA."
        )


def _is_held(device: Device) -> bool:
    with nvml_session() as nvml, suppress(nvml.NVMLError):
        mode = nvml.nvmlDeviceGetComputeMode(nvml.nvmlDeviceGetHandleByIndex(device.index))
        return bool(mode == nvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS) and compute_processes(device) > 0
    return False


def _of_driver() -> tuple[tuple[int, int] | None, str | None]:
    """The newest CUDA of the driver, and the driver's own version."""
    with nvml_session() as nvml, suppress(nvml.NVMLError):
        number = nvml.nvmlSystemGetCudaDriverVersion_v2()
        return (number // 1000, number % 1000 // 10), _decoded(nvml.nvmlSystemGetDriverVersion())
    return None, None


def _decoded(text: Any) -> str:
    return text.decode() if isinstance(text, bytes) else str(text)


def _version(package: str) -> tuple[int, int] | None:
    with suppress(metadata.PackageNotFoundError):
        major, minor = _numbers(metadata.version(package))[:2]
        return major, minor
    return None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(".") if number.isdigit())


def _text(version: Sequence[int]) -> str:
    return ".".join(map(str, version))
