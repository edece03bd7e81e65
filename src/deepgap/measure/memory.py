"""What a cell needs of the device's and the host's memory."""

from __future__ import annotations

import ctypes
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl

from deepgap.measure.device import compute_processes
from deepgap.measure.provenance import device_memory_used
from deepgap.measure.samples import device_memory_peak
from deepgap.study.gpus import Device

CONTEXT_GONE_S = 2.0
"""How long to wait for the context of the device's last process to be gone."""


class Memory:
    """`observed.memory` of a footer while it is being filled."""

    def __init__(self, device: Device) -> None:
        """Take the baselines: call before the model is loaded and before the device has a context."""
        self._device = device
        self._on_gpu = device.index >= 0
        self._host_baseline = None if self._on_gpu else reset_host_peak()
        self._baseline = memory_before_context(device) if self._on_gpu else 0
        self.seen: dict[str, int | None] = {}

    def observe_context(self) -> None:
        """Right after the context was made."""
        if self._on_gpu:
            self.seen["context_bytes"] = self._above_baseline()

    def _above_baseline(self) -> int | None:
        used = device_memory_used(self._device)
        return None if used is None or self._baseline is None else used - self._baseline

    def observe_end(self) -> None:
        """After the last timed arm, or where the cell failed."""
        if self._on_gpu:
            import torch

            self.seen |= {
                "device_after_bytes": self._above_baseline(),
                "allocated_peak_bytes": torch.cuda.max_memory_allocated(),
                "reserved_peak_bytes": torch.cuda.max_memory_reserved(),
            }
        elif self._host_baseline is not None:
            self.seen["host_peak_bytes"] = host_memory("VmHWM") - self._host_baseline

    def describe(self, samples: pl.DataFrame | None) -> dict[str, Any]:
        """All keys; the peak on the device is the most that a sample or a reading saw.

        Args:
            samples: in `telemetry_file.SAMPLES`; null where the device was not sampled: the peak is not known then.
        """
        names = ("context", "device_peak", "device_after", "allocated_peak", "reserved_peak", "host_peak")
        found: dict[str, Any] = dict.fromkeys(f"{name}_bytes" for name in names) | self.seen
        sampled = None if samples is None else device_memory_peak(samples)
        if sampled is not None and self._baseline is not None:
            readings = (found["context_bytes"], found["device_after_bytes"])
            found["device_peak_bytes"] = max(sampled - self._baseline, *(value or 0 for value in readings))
        return found


def memory_before_context(device: Device) -> int | None:
    """Device memory in use once the process that had the device before is gone with its context.

    The lock that kept the device is free a moment before that context is. Another user's process stays: it is waited
    for in vain, and the cell is flagged.
    """
    began = time.monotonic()
    while compute_processes(device) and time.monotonic() - began < CONTEXT_GONE_S:
        time.sleep(0.01)
    return device_memory_used(device)


def reset_host_peak() -> int | None:
    """Start a new peak of this process's resident memory and return the bytes resident now.

    None where the kernel does not let a process reset it (proc(5), clear_refs).
    """
    # What is free in the heap but resident would take up the model without growth; only glibc gives it back.
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return None
    return host_memory("VmRSS")


def host_memory(field: str) -> int:
    """A memory field of /proc/self/status in bytes; its kB are 1024 bytes."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a library, CUDA or Python could not get memory: most of them say so in words alone."""
    words = ["out of memory", "can't allocate memory", "Failed to allocate memory", "bad allocation", "bad_alloc"]
    # Of XLA and TensorFlow.
    words += ["RESOURCE_EXHAUSTED", "OOM when allocating"]
    torch = sys.modules.get("torch")
    kinds = (MemoryError,) if torch is None else (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or any(word in str(error) for word in words)
