"""torchvision's classifiers, by their names."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepgap.errors import WeightsError, first_line
from deepgap.sources import Asked, Place, Source, registered_names

if TYPE_CHECKING:
    import torch

TRAINED = "IMAGENET1K_V1"
"""The weights that `pretrained` means, where a model has several."""

USUAL_SIZE = 224
SIZE_ARGUMENT = {"vit": "image_size", "maxvit": "input_size"}
"""The argument by which the builders of these families take the image size, by the first word of the name."""

INCEPTIONS = ("googlenet", "inception_v3")
"""Models with outputs that serve training alone, which are left out; with trained weights they change their input."""


def build(asked: Asked) -> torch.nn.Module:
    """The model without trained weights, in eval mode."""
    import torchvision

    arguments: dict[str, Any] = {}
    if asked.name in INCEPTIONS:
        arguments = {"aux_logits": False, "init_weights": not asked.trained, "transform_input": asked.trained}
    family = asked.name.split("_")[0]
    if family in SIZE_ARGUMENT and asked.image_size != USUAL_SIZE:
        size = asked.image_size
        arguments[SIZE_ARGUMENT[family]] = size if family == "vit" else (size, size)
    model: torch.nn.Module = torchvision.models.get_model(asked.name, weights=None, **arguments)
    return model.eval()


def pretrained(asked: Asked) -> torch.nn.Module:
    """The model with torchvision's trained weights, IMAGENET1K_V1 where there are several.

    Raises:
        WeightsError: the file cannot be had, or is not the one that its name says.
    """
    import torch
    import torchvision

    weights = torchvision.models.get_model_weights(asked.name)
    entry = weights[TRAINED] if TRAINED in weights.__members__ else next(iter(weights))
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name
    if file.exists():
        _check_name(file)
    try:
        state = entry.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"The trained weights of {asked.name} could not be downloaded ({first_line(error)}); put the file at "
            f"{file}, or set its weights to 'seeded' in config/config.yaml."
        ) from None
    model = build(asked)
    if asked.name in INCEPTIONS:
        own = model.state_dict()
        state = {key: value for key, value in state.items() if key in own}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(
            f"{file} does not fit {asked.name} at {asked.image_size} pixels ({one_line(error)})."
        ) from None
    return model


def one_line(error: Exception) -> str:
    """A RuntimeError of `load_state_dict` in a line: its second one tells the first difference."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 else first_line(error)


def _check_name(file: Path) -> None:
    """Refuse a cached file that is not the one whose hash is in its name (`resnet18-f37072fd.pth`)."""
    import hashlib

    wanted = file.stem.rpartition("-")[2]
    try:
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"The weights {file} cannot be read ({error.strerror}).") from None
    if not found.startswith(wanted):
        raise WeightsError(
            f"{file} is not the file that torchvision's name says: its SHA-256 begins with {found[: len(wanted)]}; "
            "delete it, or put the right one there."
        )


@cache
def names() -> tuple[str, ...]:
    """All classifiers of the installed torchvision."""
    return registered_names("torchvision", "models")


def own_size(place: Place) -> int | None:
    """The crop of the transforms that belong to the trained weights, from the text of torchvision's module."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None
    for file in (Path(spec.origin).parent / "models").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        if f"def {place.name}(" in text:
            crops = dict(_crops(ast.parse(text), place.name))
            return crops.get(TRAINED, next(iter(crops.values()), None))
    return None


def _crops(module: ast.Module, name: str) -> Iterator[tuple[str, int]]:
    """Names of the weights of a model, and the `crop_size` of their transforms."""
    function = next(node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == name)
    wanted = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and node.id.endswith("_Weights")}
    for node in module.body:
        if not (isinstance(node, ast.ClassDef) and node.name in wanted):
            continue
        for entry in node.body:
            if isinstance(entry, ast.Assign) and isinstance(entry.targets[0], ast.Name):
                for keyword in (inner for inner in ast.walk(entry.value) if isinstance(inner, ast.keyword)):
                    if keyword.arg == "crop_size" and isinstance(keyword.value, ast.Constant):
                        yield entry.targets[0].id, int(str(keyword.value.value))


SOURCE = Source(
    version=1,
    form="NAME",
    locate=lambda text: Place(None, text),
    key=lambda place: place.name,
    build=build,
    pretrained=pretrained,
    names=names,
    own_size=own_size,
    library="torchvision",
)
