"""Writing files so that no partial one is ever seen."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deepgap.errors import DiskError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
