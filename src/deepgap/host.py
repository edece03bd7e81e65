"""The host's own processor, and what this process may use of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

GIB = 2**30


@dataclass(frozen=True)
class HostLimits:
    """What a process may use of its host; a limit that is not set, or cannot be read, is null.

    usable_cores: how many cores' worth of time it gets at most: the cores it may run on, or the quota where that is
        less; a quota may be a fraction of a core.
    cpu_quota_cores: the cgroup's limit of processor time (CFS bandwidth), in cores.
    memory_limit_gib: the cgroup's limit of memory, in GiB.
    nice: the scheduling priority; 0 is the usual one, higher gives way.
    cpuset: the cores it may run on (`0-3,8`), where these are not all of the host's.
    """

    usable_cores: float
    cpu_quota_cores: float | None
    memory_limit_gib: float | None
    nice: int
    cpuset: str | None


def host_limits(root: Path = Path("/")) -> HostLimits:
    """The limits of this process, by cgroups of version 1 and 2, its affinity and its priority.

    A limit of any cgroup above it holds for a process, so the least of all levels counts (kernel.org, Control Group
    v2, cpu.max and memory.max; CFS Bandwidth Control).

    Args:
        root: where /proc and /sys are.
    """
    cores, quota = os.sched_getaffinity(0), min(_quotas(root), default=None)
    # A limit above what the host has is none: version 1 writes "no limit" as the largest number of pages.
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    memory = min((limit for limit in _memory_limits(root) if limit < physical), default=None)
    return HostLimits(
        usable_cores=float(len(cores)) if quota is None else min(float(len(cores)), quota),
        cpu_quota_cores=quota,
        memory_limit_gib=None if memory is None else round(memory / GIB, 2),
        nice=os.getpriority(os.PRIO_PROCESS, 0),
        cpuset=None if len(cores) >= (os.cpu_count() or 1) else _ranges(cores),
    )


def usable_cores() -> float:
    """How many cores' worth of processor time this process gets at most (`HostLimits`)."""
    return host_limits().usable_cores


def host_threads() -> int:
    """The threads that this process can keep busy: its usable cores rounded down, at least 1.

    Set explicitly wherever work is done in threads, because Snakemake exports OMP_NUM_THREADS to its jobs.
    """
    return max(1, int(usable_cores()))


def host_identity(root: Path = Path("/")) -> str:
    """A text that is the same in all containers of a host until it is started again, and the same on no other host.

    The kernel's boot id; the name of the host where there is none. It is for hashing: a name tells too much.
    """
    return _read(root / "proc/sys/kernel/random/boot_id").strip() or platform.node()


def cpu_name() -> str:
    """The name that the host's processor gives itself; its architecture where it gives none."""
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _quotas(root: Path) -> Iterator[float]:
    """Limits of processor time in cores, of all levels that have one."""
    for folder in _cgroup_folders(root, ""):
        yield from _share(_read(folder / "cpu.max").split())
    for folder in _cgroup_folders(root, "cpu"):
        yield from _share([_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")])


def _share(quota_and_period: list[str]) -> Iterator[float]:
    # "max" and -1 mean no limit.
    with suppress(ValueError):
        quota, period = map(int, quota_and_period)
        if quota > 0 and period > 0:
            yield quota / period


def _memory_limits(root: Path) -> Iterator[int]:
    files = [folder / "memory.max" for folder in _cgroup_folders(root, "")]
    files += [folder / "memory.limit_in_bytes" for folder in _cgroup_folders(root, "memory")]
    for file in files:
        with suppress(ValueError):
            yield int(_read(file))


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's cgroup and of those above it; `controller` is empty for version 2.

    In a container the cgroup's path may be that of the host, of which only the top is mounted.
    """
    places = [root / "sys/fs/cgroup" / controller]
    if not controller:
        # Where version 1 holds the controllers, version 2 may have a folder of its own.
        places.append(root / "sys/fs/cgroup/unified")
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            below = PurePosixPath(path.lstrip("/"))
            for place in places:
                yield from dict.fromkeys((place / below, *(place / parent for parent in below.parents), place))


def _read(file: Path) -> str:
    """The text of a file of the kernel; empty where there is none."""
    with suppress(OSError):
        return file.read_text(encoding="utf-8", errors="replace")
    return ""


def _ranges(numbers: Iterable[int]) -> str:
    """`0-3,8` for 0, 1, 2, 3 and 8."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)
