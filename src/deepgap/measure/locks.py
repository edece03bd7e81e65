"""What keeps other work away from a timed cell: one lock a device, and one for the host's processor.

A cell on a GPU holds its device alone and shares the host with cells on other devices, because launching needs the
host. A cell on the processor holds the host alone, and so does whatever builds: weights, graphs, calibration,
references, engines. All workflows, users and clones of a host use the same files, and the operating system frees a
lock when the process that holds it is gone.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from deepgap.errors import DeviceError
from deepgap.text import tell

FOLDER_VARIABLE = "DEEPGAP_LOCKS"
"""Another folder for the locks: for tests, and for hosts where jobs share none of `FOLDERS`."""
FOLDERS = (Path("/run/lock"), Path("/tmp"))
POLL_S = 0.02


class FileLock:
    """A lock on a file that many may share or one may hold alone (flock(2)), between processes of any user."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def try_take(self, shared: bool = False) -> bool:
        """Take it if it is free; taking it again, alone or shared, changes how it is held.

        Raises:
            DeviceError: the file can neither be made nor opened.
        """
        descriptor = self._descriptor if self._descriptor >= 0 else self._open()
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            # Programs that clean temporary folders may have removed it since it was opened.
            held = os.path.samestat(os.fstat(descriptor), self.path.stat())
        except (BlockingIOError, FileNotFoundError):
            held = False
        if not held:
            os.close(descriptor)
            descriptor = -1
        self._descriptor = descriptor
        return held

    def release(self) -> None:
        """Give it back. Safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> int:
        # Reading is enough to lock. Nothing is made here: Linux refuses O_CREAT for another user's file in a folder
        # such as /tmp (proc(5), protected_regular).
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            try:
                descriptor = os.open(self.path, flags)
            except FileNotFoundError:
                self._make()
                descriptor = os.open(self.path, flags)
        except OSError as error:
            raise DeviceError(
                f"The lock {self.path}, which keeps other work away from what is measured, cannot be used "
                f"({error.strerror}); remove it, or name another folder in {FOLDER_VARIABLE}."
            ) from None
        # A file in use looks new to what removes old ones.
        with suppress(OSError):
            os.utime(self.path)
        return descriptor

    def _make(self) -> None:
        """Make the file for all users at once, whatever the umask: nobody sees it before anybody may open it."""
        descriptor, name = tempfile.mkstemp(prefix=".deepgap-", dir=self.path.parent)
        try:
            os.fchmod(descriptor, 0o666)
            with suppress(FileExistsError):
                os.link(name, self.path)
        finally:
            os.close(descriptor)
            os.unlink(name)  # noqa: PTH108


def lock_folder() -> Path:
    """Where the locks of this host are: the same for all its processes, whatever their TMPDIR.

    The first of `FOLDERS` in which every user may make files and remove none of another's.
    """
    if os.environ.get(FOLDER_VARIABLE):
        return Path(os.environ[FOLDER_VARIABLE])
    for folder in FOLDERS:
        with suppress(OSError):
            open_to_all = folder.stat().st_mode & (stat.S_ISVTX | 0o777) == stat.S_ISVTX | 0o777
            if open_to_all and os.access(folder, os.W_OK):
                return folder
    return Path(tempfile.gettempdir())


_held: dict[str, FileLock] = {}


def take_host(say: Callable[[str], None] = tell, shared: bool = False) -> None:
    """Take the host's processor until this process ends, alone or shared; wait while that cannot be, and say so.

    Who waits for it alone is not overtaken: a gate is held while waiting, through which all have to go. Those who
    share pass it together.
    """
    if "host" in _held and _held["host"].try_take(shared):
        return
    _held.pop("host", None)
    gate, host = _lock("gate"), _lock("host")
    told = False
    try:
        while not (gate.try_take(shared) and host.try_take(shared)):
            if not told:
                say("Something is being measured or built on this host; waiting until its processor is free.")
                told = True
            time.sleep(POLL_S)
    finally:
        gate.release()
    _held["host"] = host


def take_first_free(names: Sequence[str], describe: str, say: Callable[[str], None]) -> str:
    """Take the lock of the first free of some devices until this process ends; wait when none is, and say so.

    Returns:
        its name.
    """
    for name in names:
        if name in _held:
            return name
    locks = {name: _lock(name) for name in names}
    told = False
    while True:
        for name, lock in locks.items():
            if lock.try_take():
                _held[name] = lock
                return name
        if not told:
            say(f"{describe} is being measured; waiting until one is free.")
            told = True
        time.sleep(POLL_S)


def release_all() -> None:
    """Give back all that this process holds."""
    while _held:
        _held.popitem()[1].release()


def _lock(name: str) -> FileLock:
    return FileLock(lock_folder() / f"deepgap-{name}.lock")
