"""What keeps other work away from a timed cell."""

from __future__ import annotations

import os
import select
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from deepgap.errors import DeviceError
from deepgap.measure import locks
from deepgap.measure.locks import FOLDER_VARIABLE, FileLock, lock_folder, release_all, take_first_free, take_host

TAKE = """
import sys, time
from deepgap.measure.locks import take_first_free, take_host
say = lambda text: print("waits", flush=True)
for what in sys.argv[1:]:
    take_host(say, shared=what == "shared") if what in ("shared", "alone") else take_first_free([what], what, say)
print("has it", flush=True)
sys.stdin.read()
"""


class Other:
    """Another process that takes locks and keeps them until it is let go."""

    def __init__(self, *what: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE, *what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def says_nothing(self) -> bool:
        """For a moment, which a busy machine makes no worse than shorter."""
        return select.select([self.process.stdout], [], [], 0.2)[0] == []

    def end(self) -> None:
        self.process.communicate()


@pytest.fixture
def other(tmp_path, monkeypatch):
    """Starts other processes; all use a folder of this test's own."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    started: list[Other] = []

    def start(*what: str) -> Other:
        started.append(Other(*what))
        return started[-1]

    yield start
    release_all()
    for process in started:
        process.process.kill()
        process.process.communicate()


def test_the_folder_does_not_depend_on_the_temporary_folder(monkeypatch, tmp_path):
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    before = lock_folder()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert lock_folder() == before
    assert before.stat().st_mode & stat.S_ISVTX


def test_the_first_folder_that_is_open_to_all_is_taken(monkeypatch, tmp_path):
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    closed, open_to_all = tmp_path / "closed", tmp_path / "open"
    closed.mkdir(mode=0o755)
    open_to_all.mkdir()
    open_to_all.chmod(0o1777)
    monkeypatch.setattr(locks, "FOLDERS", (tmp_path / "missing", closed, open_to_all))
    assert lock_folder() == open_to_all


def test_builds_and_cells_of_the_processor_are_alone_and_cells_on_several_cards_are_not(other):
    first, second = other("GPU-1", "shared"), other("GPU-2", "shared")
    assert first.says() == second.says() == "has it"
    build = other("alone")
    assert build.says() == "waits"
    first.end()
    assert build.says_nothing()
    second.end()
    assert build.says() == "has it"
    cell = other("GPU-1", "shared")
    assert cell.says() == "waits"
    build.end()
    assert cell.says() == "has it"


def test_who_waits_to_be_alone_is_not_overtaken(other):
    cell = other("shared")
    assert cell.says() == "has it"
    build = other("alone")
    assert build.says() == "waits"
    late = other("shared")
    assert late.says() == "waits"
    cell.end()
    assert build.says() == "has it"
    assert late.says_nothing()
    build.end()
    assert late.says() == "has it"


def test_a_process_that_is_killed_holds_nothing(other):
    holder, waiting = other("GPU-1", "alone"), None
    assert holder.says() == "has it"
    waiting = other("GPU-1", "alone")
    assert waiting.says() == "waits"
    holder.process.kill()
    assert waiting.says() == "has it"


def test_the_first_free_device_is_taken(other):
    assert other("GPU-1").says() == "has it"
    said: list[str] = []
    assert take_first_free(["GPU-1", "GPU-2"], "A card", said.append) == "GPU-2"
    assert take_first_free(["GPU-1", "GPU-2"], "A card", said.append) == "GPU-2"
    assert said == []


def test_a_process_takes_what_it_has_and_changes_how(other):
    said: list[str] = []
    take_host(said.append)
    take_host(said.append)
    waiting = other("shared")
    assert waiting.says() == "waits"
    release_all()
    assert waiting.says() == "has it"
    take_host(said.append, shared=True)
    assert other("shared").says() == "has it"
    assert said == []


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_all_users_may_open_a_lock_whatever_the_umask(tmp_path, umask):
    lock, before = FileLock(tmp_path / "deepgap-x.lock"), os.umask(umask)
    try:
        assert lock.try_take()
    finally:
        os.umask(before)
        lock.release()
    assert stat.S_IMODE(lock.path.stat().st_mode) == 0o666
    assert list(tmp_path.iterdir()) == [lock.path]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for two users")
def test_two_users_exclude_each_other_in_a_folder_like_tmp(tmp_path_factory):
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o1777)
        lock = FileLock(folder / "deepgap-x.lock")
        assert lock.try_take()
        ask = (
            "import os, sys; from deepgap.measure.locks import FileLock; from pathlib import Path; os.setuid(65534); "
            f"sys.exit(not FileLock(Path({str(lock.path)!r})).try_take())"
        )
        assert subprocess.run([sys.executable, "-c", ask]).returncode == 1
        lock.release()
        assert subprocess.run([sys.executable, "-c", ask]).returncode == 0


def test_a_lock_that_was_cleaned_away_is_made_again(tmp_path):
    path = tmp_path / "deepgap-x.lock"
    first, second = FileLock(path), FileLock(path)
    assert first.try_take()
    path.unlink()
    # Held on a file that nobody can see any more: not held.
    assert not first.try_take()
    assert second.try_take()
    assert not first.try_take()
    second.release()
    assert first.try_take()
    first.release()


def test_a_lock_that_is_no_file_is_told(tmp_path):
    (tmp_path / "deepgap-x.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DeviceError, match=r"cannot be used .*remove it, or name another folder"):
        FileLock(tmp_path / "deepgap-x.lock").try_take()
    with pytest.raises(DeviceError, match="No such file or directory"):
        FileLock(tmp_path / "no folder/deepgap-x.lock").try_take()
