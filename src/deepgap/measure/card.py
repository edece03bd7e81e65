"""What a card without an entry in config/gpus.yaml tells of itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from deepgap.measure.device import nvml_session
from deepgap.measure.provenance import cuda_facts, driver_facts
from deepgap.study.cards import NO_PEAK, draft_entry, make_key, note_card
from deepgap.study.gpus import Device, Gpu


def introduce(device: Device, gpus: Mapping[str, Gpu], results: Path, say: Callable[[str], None]) -> str:
    """Write what a card tells of itself into its folder below `results`, and say so.

    Returns:
        its key.
    """
    key = make_key(device.name, gpus)
    file = note_card(results, key, draft_entry(ask_card(device)))
    say(
        f"{device.name} has no entry in config/gpus.yaml. It is measured as gpu={key}, by what its driver tells in "
        f"{file}. {NO_PEAK} To complete it, copy that entry into config/gpus.yaml and give peak_tops with its source."
    )
    return key


def ask_card(device: Device) -> dict[str, Any]:
    """The facts of a card for `draft_entry`; this process sees no other card from then on."""
    os.environ["CUDA_VISIBLE_DEVICES"] = device.uuid
    facts: dict[str, Any] = {"name": device.name, "compute_capability": device.compute_capability}
    # Without CUDA, or without a PyTorch that has it, the driver alone is asked.
    with suppress(RuntimeError, AssertionError, ImportError):
        facts |= cuda_facts()
    facts |= driver_facts(device)
    with nvml_session() as nvml:
        handle = nvml.nvmlDeviceGetHandleByIndex(device.index)
        with suppress(nvml.NVMLError):
            facts["memory_bus_bits"] = nvml.nvmlDeviceGetMemoryBusWidth(handle)
        with suppress(nvml.NVMLError):
            facts["default_power_limit_w"] = nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle) / 1000
        with suppress(nvml.NVMLError):
            facts["architecture"] = _architecture(nvml, nvml.nvmlDeviceGetArchitecture(handle))
        if facts.get("memory_bytes") is None:
            with suppress(nvml.NVMLError):
                facts["memory_bytes"] = nvml.nvmlDeviceGetMemoryInfo(handle).total
    return facts


def _architecture(nvml: Any, number: int) -> str | None:
    """The name that NVML's own constants give an architecture."""
    prefix = "NVML_DEVICE_ARCH_"
    names = [name for name, value in vars(nvml).items() if name.startswith(prefix) and value == number]
    return names[0].removeprefix(prefix).title() if names else None
