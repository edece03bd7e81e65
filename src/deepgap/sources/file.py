"""Models that a function in a file of the user makes (`file:PATH.py:FACTORY`)."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from deepgap.errors import ConfigError, UnsupportedError, first_line
from deepgap.sources import Asked, Place, Source

if TYPE_CHECKING:
    import torch

MODULE = "deepgap_user_model"


def locate(text: str) -> Place:
    """The file and the factory of `PATH.py:FACTORY`.

    Raises:
        ConfigError: the text has no factory, or the file is missing, not Python or defines none of that name; the
            file is read and not run.
    """
    path, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier():
        raise ConfigError(f"'file:{text}' names no factory; write file:PATH.py:FACTORY")
    file = Path(path).expanduser()
    try:
        module = ast.parse(file.read_bytes(), filename=str(file))
    except OSError as error:
        raise ConfigError(f"the file {file} cannot be read ({error.strerror})") from None
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"the file {file} is not Python ({first_line(error)})") from None
    defined = list(_defined(module))
    if name not in defined:
        raise ConfigError(f"the file {file} defines no {name}; it defines {', '.join(defined) or 'nothing'}")
    return Place(file, name)


def _defined(module: ast.Module) -> list[str]:
    """The names that a module binds at its top level."""
    found: list[str] = []
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append(node.name)
        elif isinstance(node, ast.Assign):
            found += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found += [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    return found


def build(asked: Asked) -> torch.nn.Module:
    """What the factory returns when called without arguments, in eval mode.

    Raises:
        UnsupportedError: the file or the factory fails, or it returns no module.
    """
    import torch

    assert asked.file is not None
    spec = importlib.util.spec_from_file_location(MODULE, asked.file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickles look their module up by its name.
    sys.modules[MODULE] = module
    try:
        spec.loader.exec_module(module)
        model = getattr(module, asked.name)()
    # It is the user's code, which may raise anything.
    except Exception as error:
        raise UnsupportedError(
            f"{asked.name} of {asked.file.name} failed with {type(error).__name__}: {first_line(error)}."
        ) from None
    if not isinstance(model, torch.nn.Module):
        raise UnsupportedError(
            f"{asked.name} of {asked.file.name} returned {type(model).__name__}, not a torch.nn.Module."
        )
    return model.eval()


SOURCE = Source(
    version=1,
    form="file:PATH.py:FACTORY",
    locate=locate,
    key=lambda place: f"{place.file.stem}.{place.name}" if place.file else place.name,
    build=build,
    # The weights with which the factory returns its model are its own.
    pretrained=build,
)
