"""What must hold before Snakemake reads the study, told in a sentence instead of Snakemake's traceback."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from deepgap.errors import DeepGapError


def check_place(root: str, here: Path, may_write: Callable[[Path], bool] | None = None) -> None:
    """Check that Snakemake works in the checkout, and may write there.

    Args:
        root: the folder of deep-gap's Snakefile, as Snakemake tells it: a path, or an address for a module from afar.
        here: the folder in which Snakemake works.
        may_write: whether this user may write into a folder; asks the operating system when absent.

    Raises:
        DeepGapError: Snakemake would not find the study's files, could not write, or would trip over the path.
    """
    if not Path(root).is_dir() or not here.samefile(root):
        raise DeepGapError(
            f"Snakemake works in {here}, but the study, its data and its results lie in {root}; run it there "
            f"('cd {root}', or --directory {root}). deep-gap is a checkout of its own, not another workflow's module."
        )
    if set("{}") & set(str(here)):
        raise DeepGapError(
            f"The checkout's path, {here}, has a brace, which Snakemake takes for a placeholder; move the checkout."
        )
    may_write = may_write or (lambda folder: os.access(folder, os.W_OK | os.X_OK))
    # Snakemake writes into its own folder even for a dry run.
    for folder in (here, *(folder for folder in (here / ".snakemake", here / "results") if folder.exists())):
        if not may_write(folder):
            raise DeepGapError(
                f"{user_name()} may not write into {folder}, where Snakemake keeps its records and the study its "
                "results; work in a copy of the checkout, as 'git clone' makes it."
            )


def user_name() -> str:
    """The name of this process's user; `user-` and the number of one who has none."""
    with suppress(KeyError, OSError):
        return getpass.getuser()
    return f"user-{os.getuid()}"
