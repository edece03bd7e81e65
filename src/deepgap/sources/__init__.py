"""Where a model comes from, one file a kind.

A module in this folder is a kind of source and defines `SOURCE`; the config writes `KIND:NAME`, and a bare name is
torchvision's. It imports torch and its own library inside its functions only, because the Snakefile asks every source
for its names and must start fast. The room `weights` builds what is named here.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

DEFAULT_KIND = "torchvision"


class Place(NamedTuple):
    """The file that a model comes from, and what of it; a model of a library has no file."""

    file: Path | None
    name: str


@dataclass(frozen=True)
class Asked:
    """A model to build.

    name: in the source. image_size: pixels of an image's side. file: the one that it comes from, if any.
    trained: whether it is for the source's own trained weights, with which some models change their input.
    """

    name: str
    image_size: int
    file: Path | None = None
    trained: bool = False


@dataclass(frozen=True)
class Source:
    """What a kind of source can do.

    version: raised when an edit of the source can change what its models compute; it is part of a cell's recipe.
    form: how the config writes a model of it.
    locate: the place that the text after the kind names. Raises `ConfigError` for a text that names none.
    key: what such a model is called in files and tables; it is made fit for a file's name afterwards.
    build: the model in eval mode with fresh random weights from torch's global generator, which the caller seeds;
        null where the source gives graphs.
    pretrained: the model in eval mode with the source's own trained weights. Raises `WeightsError`.
    names: the names of all models, without importing torch; empty where the library is not installed. Null where a
        name is not one of a list.
    own_size: the image size of a place's trained weights, or of its graph; null where any will do, or where that is
        not known without torch.
    library: the package that `build` needs besides torch.
    """

    version: int
    form: str
    locate: Callable[[str], Place]
    key: Callable[[Place], str]
    build: Callable[[Asked], torch.nn.Module] | None = None
    pretrained: Callable[[Asked], torch.nn.Module] | None = None
    names: Callable[[], Sequence[str]] | None = None
    own_size: Callable[[Place], int | None] = lambda place: None
    library: str | None = None

    @property
    def is_installed(self) -> bool:
        """Whether the library of this source can be imported, without importing it."""
        return self.library is None or importlib.util.find_spec(self.library) is not None


@cache
def source_names() -> tuple[str, ...]:
    """The kinds of source: the modules of this folder, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg))


def load_source(name: str) -> Source:
    """The source of this name, one of `source_names()`."""
    source = importlib.import_module(f"{__name__}.{name}").SOURCE
    assert isinstance(source, Source), f"sources/{name}.py does not define SOURCE"
    return source


def registered_names(library: str, folder: str) -> tuple[str, ...]:
    """The functions of a package that carry its decorator `@register_model`, from the text of its files.

    Importing torchvision or timm to ask takes some seconds, reading them some hundredths of one.

    Args:
        library: the package; nothing is found where it is not installed.
        folder: its folder with the modules of models.
    """
    import re

    spec = importlib.util.find_spec(library)
    if spec is None or spec.origin is None:
        return ()
    pattern = re.compile(r"^@register_model(?:\(\))?\n(?:@.*\n)*def (\w+)\(", re.M)
    files = sorted((Path(spec.origin).parent / folder).glob("*.py"))
    return tuple(sorted({name for file in files for name in pattern.findall(file.read_text(encoding="utf-8"))}))
