"""Where the results are that a user names: a folder here, elsewhere, or in a revision of the repository."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deepgap.errors import DeepGapError
from deepgap.study.schema import nearest


@contextmanager
def open_state(name: str, results: Path) -> Iterator[Path]:
    """The folder of one GPU's results, for as long as the block runs.

    Args:
        name: a folder of `results` (`H100`, `H100@lab2`), the path of such a folder elsewhere, or one of a revision
            that git knows (`v0.1.0:H100`).
        results: the project's folder of results.

    Raises:
        DeepGapError: there is no such folder or revision, or it holds no cells.
    """
    for folder in (results / name, Path(name)):
        if any((folder / "cells").glob("*.parquet")):
            yield folder
            return
    revision, colon, gpu = name.rpartition(":")
    if not colon:
        known = sorted(path.parent.name for path in results.glob("*/cells"))
        raise DeepGapError(
            f"There are no cells in {results / name}/cells nor in {name}/cells{nearest(name, known)}; name a folder "
            f"of {results}/ ({', '.join(known) or 'it has none'}), the path of one, or REVISION:FOLDER."
        )
    with tempfile.TemporaryDirectory() as place:
        _extract(revision, results / gpu / "cells", Path(place))
        yield Path(place, results, gpu)


def _extract(revision: str, folder: Path, target: Path) -> None:
    # "--end-of-options": a name that begins with a dash is no option of git's.
    commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit is None:
        raise DeepGapError(
            f"git knows no revision '{revision}' here; 'git log --oneline' and 'git tag' list some, and 'git fetch' "
            "brings those of other copies."
        )
    archive = _git("archive", "--format=tar", commit.decode().strip(), "--", folder.as_posix())
    if archive is None:
        raise DeepGapError(
            f"Revision '{revision}' has no {folder}; 'git ls-tree --name-only {revision} {folder.parent.parent}/' "
            "lists what it has."
        )
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(target, filter="data")


def _git(*arguments: str) -> bytes | None:
    """What git prints; null where it fails."""
    try:
        run = subprocess.run(["git", *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        raise DeepGapError("A revision's results need git, which is not installed.") from None
    return run.stdout if run.returncode == 0 else None
