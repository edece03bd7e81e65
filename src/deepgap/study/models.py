"""The models of a study: what an entry of `models` in the config names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

IMAGE_SIZE = 224


@dataclass(frozen=True)
class ModelSpec:
    """One model. key: its name in files and tables. weights: of the config. image_size: pixels of a side."""

    key: str
    weights: Mapping[str, Any] = field(hash=False)
    image_size: int = IMAGE_SIZE

    @property
    def recipe(self) -> dict[str, Any]:
        """What of it defines a cell."""
        return {"weights": dict(self.weights), "image_size": self.image_size}


def parse_models(entries: Sequence[Any], weights: Mapping[str, Any], place: str) -> list[ModelSpec]:
    """The models of a list of the config, in its order; `place` names the list in sentences."""
    return [ModelSpec(entry, weights) for entry in entries]
