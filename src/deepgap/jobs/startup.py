"""What must hold before Snakemake reads the study, told in a sentence instead of Snakemake's traceback."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from deepgap.errors import ConfigError, DeepGapError
from deepgap.study.schema import nearest

STUDY_FILES = ("config/config.yaml", "config/gpus.yaml")
"""What makes a folder one with a study."""


def check_place(root: str, here: Path, may_write: Callable[[Path], bool] | None = None) -> bool:
    """Check that Snakemake works in the checkout or in a folder with a study of its own, and may write there.

    Args:
        root: deep-gap's folder, as Snakemake tells it: a path, or an address for a module from afar.
        here: the folder in which Snakemake works.
        may_write: whether this user may write into a folder; asks the operating system when absent.

    Returns:
        Whether `here` is the checkout.

    Raises:
        DeepGapError: Snakemake would not find the study's files, could not write, or would trip over the path.
    """
    in_checkout = Path(root).is_dir() and here.samefile(root)
    missing = next((file for file in STUDY_FILES if not (here / file).is_file()), None)
    if missing and not in_checkout:
        raise DeepGapError(
            f"Snakemake works in {here}, which has no {missing}; run it in deep-gap's checkout ('cd {root}', or "
            f"--directory {root}), or give this folder a study of its own: a copy of deep-gap's config/."
        )
    if set("{}") & set(str(here)):
        raise DeepGapError(
            f"The path of this folder, {here}, has a brace, which Snakemake takes for a placeholder; move the folder."
        )
    may_write = may_write or (lambda folder: os.access(folder, os.W_OK | os.X_OK))
    # Snakemake writes into its own folder even for a dry run.
    for folder in (here, *(folder for folder in (here / ".snakemake", here / "results") if folder.exists())):
        if not may_write(folder):
            raise DeepGapError(
                f"{user_name()} may not write into {folder}, where Snakemake keeps its records and the study its "
                "results; work in a copy of the checkout, as 'git clone' makes it."
            )
    return in_checkout


def usable_home(here: Path) -> str:
    """The user's home, where PyTorch and Triton keep caches; one in the checkout where it cannot be written."""
    home = Path(os.environ.get("HOME") or "/nonexistent")
    return str(home if home.is_dir() and os.access(home, os.W_OK | os.X_OK) else here / ".home")


class StudyChoice(NamedTuple):
    """Which of the studies a run is of. file: its config's name in config/, and its schema's. local: the name of what
    differs on one machine."""

    name: str
    file: str
    local: str


STUDIES = {
    "inference": StudyChoice("inference", "config", "local"),
    "training": StudyChoice("training", "training", "local-training"),
}


def choose_study(config: Mapping[str, Any]) -> StudyChoice:
    """The study that the command line or a file of the user's asks for by `study`; the first without one.

    Raises:
        ConfigError: there is no such study.
    """
    name = str(config.get("study", "inference"))
    if name not in STUDIES:
        raise ConfigError(f"study is '{name}'{nearest(name, list(STUDIES))}; allowed: {', '.join(STUDIES)}.")
    return STUDIES[name]


def user_name() -> str:
    """The name of this process's user; `user-` and the number of one who has none."""
    with suppress(KeyError, OSError):
        return getpass.getuser()
    return f"user-{os.getuid()}"
