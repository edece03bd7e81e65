"""The host's own processor."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path


def cpu_name() -> str:
    """The name that the host's processor gives itself; its architecture where it gives none."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def host_threads() -> int:
    """The cores this process may use. Set explicitly, because Snakemake exports OMP_NUM_THREADS to its jobs."""
    return len(os.sched_getaffinity(0))
