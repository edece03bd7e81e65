"""What software and what device a measurement was made with. No host name and no path."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from typing import Any

from deepgap.host import HostLimits, cpu_name, host_identity
from deepgap.measure.device import nvml_session
from deepgap.study.gpus import Device

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "polars",
    "snakemake",
    "nvidia-ml-py",
    "nvidia-cudnn-cu13",
    "nvidia-cudnn-frontend",
    "onnx",
    "onnxruntime",
    "tensorrt",
    "triton",
)


def collect_provenance(device: Device, limits: HostLimits) -> dict[str, Any]:
    """Versions, host and device facts as plain JSON values; what cannot be read is null."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            **package_versions(),
            "cuda_runtime": _cuda_version(),
            "cudnn": _cudnn_version() if device.index >= 0 else None,
        },
        "host": {
            "cpu": cpu_name(),
            "logical_cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "os": _os_name(),
            "kernel": platform.release(),
            "host_sha256": _short_hash(host_identity()),
            "limits": asdict(limits),
        },
        "device": _gpu_facts(device) if device.index >= 0 else {"name": cpu_name(), "uuid_sha256": None},
    }


def device_memory_used(device: Device) -> int | None:
    """Bytes in use on a GPU by all processes and the driver; null where NVML does not tell, as on some boards."""
    with nvml_session() as nvml, suppress(nvml.NVMLError):
        return int(nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(device.index)).used)
    return None


def _gpu_facts(device: Device) -> dict[str, Any]:
    return {"name": device.name, "uuid_sha256": _short_hash(device.uuid)} | cuda_facts() | driver_facts(device)


def cuda_facts() -> dict[str, Any]:
    """What CUDA tells of the first card that this process sees."""
    import torch

    properties = torch.cuda.get_device_properties(0)
    return {
        "compute_capability": f"{properties.major}.{properties.minor}",
        "sm_count": properties.multi_processor_count,
        "l2_cache_bytes": properties.L2_cache_size,
        "memory_bytes": properties.total_memory,
    }


def driver_facts(device: Device) -> dict[str, Any]:
    """What NVML tells of a card; null is what it does not know."""
    with nvml_session() as nvml:
        handle = nvml.nvmlDeviceGetHandleByIndex(device.index)

        def ask(query: Callable[..., Any], *arguments: Any) -> Any:
            with suppress(nvml.NVMLError):
                value = query(*arguments)
                return value.decode() if isinstance(value, bytes) else value
            return None

        ecc = ask(nvml.nvmlDeviceGetEccMode, handle)
        power = ask(nvml.nvmlDeviceGetEnforcedPowerLimit, handle)
        return {
            "driver": ask(nvml.nvmlSystemGetDriverVersion),
            "max_sm_clock_mhz": ask(nvml.nvmlDeviceGetMaxClockInfo, handle, nvml.NVML_CLOCK_SM),
            "max_memory_clock_mhz": ask(nvml.nvmlDeviceGetMaxClockInfo, handle, nvml.NVML_CLOCK_MEM),
            "default_sm_clock_mhz": ask(nvml.nvmlDeviceGetDefaultApplicationsClock, handle, nvml.NVML_CLOCK_SM),
            "power_limit_w": None if power is None else power / 1000,
            "ecc": None if ecc is None else bool(ecc[0]),
            "pcie_generation": ask(nvml.nvmlDeviceGetCurrPcieLinkGeneration, handle),
            "pcie_lanes": ask(nvml.nvmlDeviceGetCurrPcieLinkWidth, handle),
        }


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def package_versions() -> dict[str, str | None]:
    """The installed versions of `PACKAGES`; null where one is not installed."""
    return {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cuda_version() -> str | None:
    """PyTorch's; null where it is not installed, as in an environment of another framework."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return torch.version.cuda


def _cudnn_version() -> str | None:
    import torch

    number = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return None if number is None else f"{number // 10000}.{number % 10000 // 100}.{number % 100}"


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()
