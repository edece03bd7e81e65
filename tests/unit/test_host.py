"""What a process may use of its host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deepgap import host
from deepgap.host import host_limits, host_threads, usable_cores

GIB = 2**30


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A root folder with files of the kernel, for a process that may run on eight cores of a host of eight."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 64 * GIB // 4096}.__getitem__)

    def having(cgroup: str, files: dict[str, str]) -> Path:
        for name, text in {"proc/self/cgroup": cgroup, **files}.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return tmp_path

    return having


def test_no_limit_is_null(tree):
    root = tree("0::/user.slice\n", {"sys/fs/cgroup/user.slice/cpu.max": "max 100000\n"})
    (root / "sys/fs/cgroup/user.slice/memory.max").write_text("max\n", encoding="utf-8")
    limits = host_limits(root)
    assert (limits.usable_cores, limits.cpuset) == (8, None)
    assert (limits.cpu_quota_cores, limits.memory_limit_gib) == (None, None)


def test_the_least_limit_of_all_levels_counts(tree):
    root = tree(
        "0::/a/b\n",
        {
            "sys/fs/cgroup/a/b/cpu.max": "800000 100000\n",
            "sys/fs/cgroup/a/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/a/b/memory.max": f"{8 * GIB}\n",
            "sys/fs/cgroup/a/memory.max": f"{16 * GIB}\n",
        },
    )
    limits = host_limits(root)
    assert (limits.usable_cores, limits.cpu_quota_cores, limits.memory_limit_gib) == (1.5, 1.5, 8)


def test_limits_of_version_1_are_read(tree):
    root = tree(
        "9:name=systemd:/x\n4:memory:/x\n2:cpu,cpuacct:/x\n0::/\n",
        {
            "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "400000\n",
            "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/x/memory.limit_in_bytes": f"{4 * GIB}\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    limits = host_limits(root)
    assert (limits.usable_cores, limits.cpu_quota_cores, limits.memory_limit_gib) == (4, 4, 4)


def test_in_a_container_only_the_top_of_the_hosts_path_is_there(tree):
    root = tree("0::/docker/0123\n", {"sys/fs/cgroup/cpu.max": "50000 100000\n"})
    assert host_limits(root).cpu_quota_cores == 0.5


@pytest.mark.parametrize(("quota", "threads"), [("50000", 1), ("290000", 2), ("3200000", 8)])
def test_threads_follow_the_quota_rounded_down_and_are_one_at_least(tree, monkeypatch, quota, threads):
    root = tree("0::/\n", {"sys/fs/cgroup/cpu.max": f"{quota} 100000\n"})
    limits = host_limits(root)
    monkeypatch.setattr(host, "host_limits", lambda: limits)
    assert host_threads() == threads
    assert usable_cores() == min(int(quota) / 100000, 8)


def test_files_that_make_no_sense_are_no_limit(tree):
    root = tree("0::/\n", {"sys/fs/cgroup/cpu.max": "nonsense\n", "sys/fs/cgroup/memory.max": "\n"})
    assert host_limits(root).usable_cores == 8
    assert host_limits(root / "nothing").usable_cores == 8


def test_cores_that_were_taken_away_are_told(tree, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 5})
    limits = host_limits(tree("0::/\n", {}))
    assert (limits.usable_cores, limits.cpuset) == (4, "0-2,5")


def test_a_real_process_that_gives_way_and_has_one_core_says_so():
    code = (
        "import os; os.nice(3); os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from deepgap.host import host_limits, host_threads; print(host_limits().nice, host_threads())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")
    nice, threads = run.stdout.split()
    assert int(nice) == min(os.getpriority(os.PRIO_PROCESS, 0) + 3, 19)
    assert int(threads) == 1
