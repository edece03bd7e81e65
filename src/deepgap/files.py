"""Writing files so that no partial one is ever seen."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deepgap.errors import DiskError

if TYPE_CHECKING:
    import polars as pl

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_parquet(path: Path, frame: pl.DataFrame, footer: Mapping[str, str] | None = None) -> None:
    """Write a table, with its footer; no room raises OSError, which polars would not tell from a broken table."""
    content = io.BytesIO()
    frame.write_parquet(content, metadata=dict(footer or {}), compression="zstd")
    path.write_bytes(content.getbuffer())


@contextmanager
def put_in_place(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to: it becomes `path` when the block ends, and is removed if it fails.

    Raises:
        DiskError: there is no room for the file.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        reason = os.strerror(error.errno)
        raise DiskError(
            f"{path} could not be written ({reason}); make room on its disk and run Snakemake again."
        ) from None
    finally:
        partial.unlink(missing_ok=True)
