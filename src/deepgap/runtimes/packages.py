"""The installed packages that a runtime needs, told without importing them."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from deepgap.errors import MissingLibraryError

REMEDY = "run 'make setup', or leave its modes out of config/config.yaml"


def installed(runtime: str, *packages: str, remedy: str = REMEDY) -> dict[str, str]:
    """The versions of packages that a runtime cannot be without.

    Raises:
        MissingLibraryError: one is not installed.
    """
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            raise MissingLibraryError(
                f"The runtime {runtime} needs the package {package}, which is not installed; {remedy}."
            ) from None
    return versions


def first_installed(packages: Sequence[str]) -> dict[str, str]:
    """The version of the first of these packages that is installed; empty where none is."""
    for package in packages:
        try:
            return {package: metadata.version(package)}
        except metadata.PackageNotFoundError:
            continue
    return {}


def pytorch(runtime: str, *others: str) -> dict[str, str]:
    """The versions of PyTorch, of its CUDA and cuDNN where it has them, and of other packages.

    Raises:
        MissingLibraryError: PyTorch or one of the others is not installed.
    """
    versions = installed(runtime, "torch", *others)
    cuda = pytorch_cuda()
    if cuda is None:
        return versions
    return versions | {"cuda": cuda} | cudnn()


def cudnn() -> dict[str, str]:
    """The version of cuDNN's package; without one it is the system's, of a version not known here."""
    return first_installed(("nvidia-cudnn-cu13", "nvidia-cudnn-cu12")) or {"cudnn": "of the system"}


def pytorch_cuda() -> str | None:
    """The version of CUDA that PyTorch was built for, read without importing it; none where it was built without."""
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None:
        return None
    text = Path(torch.origin).with_name("version.py").read_text(encoding="utf-8")
    found = re.search(r"^cuda\b.*?'([\d.]+)", text, re.MULTILINE)
    return found[1] if found else None
