"""Writing files so that no partial one is ever seen, and reading tables so that no damaged one is."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from deepgap.errors import DeepGapError, DiskError, first_line

if TYPE_CHECKING:
    import polars as pl

ADVICE = {
    errno.EACCES: "its owner can give you the right to",
    errno.EPERM: "its owner can give you the right to",
    errno.EROFS: "its disk is mounted for reading only; work in a copy elsewhere",
    errno.ENOSPC: "make room on its disk and run Snakemake again",
    errno.EDQUOT: "make room on its disk and run Snakemake again",
    errno.EFBIG: "make room on its disk and run Snakemake again",
    errno.EIO: "its disk may be failing; what it holds may be whole",
    errno.ESTALE: "its network disk was mounted anew; run Snakemake again",
    errno.EMFILE: "too many files are open; raise 'ulimit -n'",
    errno.EISDIR: "a folder stands in its place; move it away",
    errno.ENOTDIR: "a file stands where its folder belongs; move it away",
    errno.ELOOP: "its link leads back to itself; mend the link",
    errno.ENAMETOOLONG: "its name is too long; give it a shorter one",
}
"""What to do about an error of the file system. None says that a file is damaged, so none is to delete it."""

LFS_POINTER = b"version https://git-lfs.github.com/spec/"

SEAL_KEY = "seal"
SEAL_MARK = b"deepgap sha256 of the file with zeros here: "
NO_DIGEST = b"0" * 64
DIGEST_LIST = "SHA256SUMS"
"""Beside tables that have no seal: the digests of their files, as `sha256sum *.parquet` prints them."""


def write_parquet(path: Path, frame: pl.DataFrame, footer: Mapping[str, str] | None = None) -> None:
    """Write a table with its footer and a seal: the hash of all other bytes of the file, which `read_parquet` checks.

    Polars neither writes nor checks the checksums of parquet's pages, and nothing in the format protects a footer.
    No room raises OSError, which polars would not tell from a broken table.
    """
    buffer = io.BytesIO()
    unsealed = SEAL_MARK + NO_DIGEST
    frame.write_parquet(buffer, metadata={**(footer or {}), SEAL_KEY: unsealed.decode()}, compression="zstd")
    content = buffer.getvalue()
    path.write_bytes(content.replace(unsealed, SEAL_MARK + hashlib.sha256(content).hexdigest().encode()))


def read_parquet(path: Path) -> tuple[pl.DataFrame, dict[str, str]]:
    """A table and its footer, without the seal.

    A table without a seal, which other programs and earlier versions write, is checked against the `SHA256SUMS` in
    its folder if that lists it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a parquet file, or not as it was written; the text says how, without its name.
        DiskError: the file cannot be read, or only Git LFS's pointer to it is here.
        DeepGapError: the `SHA256SUMS` cannot be read.
    """
    import polars as pl

    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DiskError(unreadable(path, error)) from None
    if content.startswith(LFS_POINTER):
        raise DiskError(f"{path} is a Git LFS pointer and not the file itself; run 'git lfs pull'.")
    sealed = _is_sealed(content)
    if not sealed:
        listed = _listed_digest(path)
        if listed is not None and hashlib.sha256(content).hexdigest() != listed:
            raise ValueError(f"its bytes are not those that {DIGEST_LIST} lists")
    try:
        footer = pl.read_parquet_metadata(io.BytesIO(content))
        frame = pl.read_parquet(io.BytesIO(content))
    # Polars panics on some damaged files, and a damaged length may ask for any amount of memory.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, MemoryError) as error:
        raise ValueError(f"not a readable parquet file: {first_line(error)}") from None
    if (footer.pop(SEAL_KEY, None) is not None) != sealed:
        raise ValueError("its seal is broken")
    return frame, footer


def _is_sealed(content: bytes) -> bool:
    """Whether a file has a seal.

    Raises:
        ValueError: it has one that does not fit.
    """
    start = content.rfind(SEAL_MARK) + len(SEAL_MARK)
    if start < len(SEAL_MARK):
        return False
    digest = hashlib.sha256(content[:start] + NO_DIGEST + content[start + len(NO_DIGEST) :]).hexdigest()
    if content[start : start + len(NO_DIGEST)] != digest.encode():
        raise ValueError("its bytes are not those that were written")
    return True


def _listed_digest(path: Path) -> str | None:
    """The digest of a file in its folder's `SHA256SUMS`; null without one."""
    file = path.with_name(DIGEST_LIST)
    try:
        state = file.stat()
        return _read_digests(file, state.st_mtime_ns, state.st_size).get(path.name)
    except FileNotFoundError:
        return None


@lru_cache(maxsize=8)
def _read_digests(file: Path, changed_ns: int, size: int) -> dict[str, str]:
    """The digests of a `SHA256SUMS`, by the name of the file; the time and the size are for the cache."""
    digests = {}
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        match = re.fullmatch(rb"([0-9a-f]{64}) [ *]([^/]+)", line)
        if match is None:
            raise DeepGapError(
                f"{file} has no digest and file name in line {number}; restore it from the repository, "
                f"or make it again with 'sha256sum *.parquet > {DIGEST_LIST}' in its folder."
            )
        digests[os.fsdecode(match[2])] = match[1].decode()
    return digests


def is_litter(path: Path) -> bool:
    """Whether a file was left by a file manager: macOS writes `._NAME` beside each file on a foreign disk."""
    return path.name.startswith("._") or path.name in (".DS_Store", "Thumbs.db", "desktop.ini")


def refuse_unreadable(path: Path, error: BaseException) -> None:
    """Raise DiskError where an error of reading is the file system's, which says nothing about what a file holds.

    To be called before a sentence says that a file is damaged: libraries raise OSError for damaged content, too.
    """
    if isinstance(error, OSError) and error.errno in ADVICE:
        raise DiskError(unreadable(path, error)) from None


def unreadable(path: Path, error: OSError) -> str:
    """The sentence for a file that cannot be read: the system's reason, and what to do about that reason."""
    return _told(path, "cannot be read", error)


def _told(path: Path, what: str, error: OSError) -> str:
    reason = os.strerror(error.errno) if error.errno else str(error)
    advice = ADVICE.get(error.errno or 0)
    return f"{path} {what} ({reason})" + (f"; {advice}." if advice else ".")


@contextmanager
def put_in_place(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to: it becomes `path` when the block ends, and is removed if it fails.

    Raises:
        DiskError: there is no room for the file, or no right to write it.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        # What the block reads may fail as well: that is another file's name.
        named = error.filename is None or Path(os.fsdecode(error.filename)) in (partial, *path.parents)
        if error.errno not in ADVICE or not named:
            raise
        raise DiskError(_told(path, "could not be written", error)) from None
    finally:
        with suppress(OSError):
            partial.unlink()
