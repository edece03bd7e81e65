"""The options of a runtime: a frozen dataclass of bools, whole numbers, numbers and choices, checked in one place.

A choice is a `Literal` of strings. A number may have bounds: `field(default=3, metadata=between(0, 5))`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from deepgap.errors import ConfigError


@dataclass(frozen=True)
class NoOptions:
    """Of a runtime that has none."""


def between(least: float, most: float) -> dict[str, float]:
    """The metadata of a field whose values lie within these bounds, themselves allowed."""
    return {"least": least, "most": most}


def fill_options(kind: type, runtime: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a runtime's dataclass with their defaults, as JSON values.

    Raises:
        ConfigError: an option is unknown or its value is not allowed; the sentence says what is.
    """
    known = {field.name: field for field in fields(kind)}
    types = get_type_hints(kind)
    for name, value in options.items():
        where = f"config.yaml: runtime_options.{runtime}.{name}"
        if name not in known:
            allowed = f"it has {', '.join(known)}" if known else "it has none; remove it"
            raise ConfigError(f"{where} is not an option of the runtime {runtime}: {allowed}.")
        if not _is_allowed(value, types[name], known[name].metadata):
            raise ConfigError(f"{where} is {value!r}; it must be {_wanted(types[name], known[name].metadata)}.")
    return {name: options.get(name, field.default) for name, field in known.items()}


def _is_allowed(value: Any, kind: Any, bounds: Mapping[str, float]) -> bool:
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    kinds = (int, float) if kind is float else (kind,)
    # A bool is an int, but no number here.
    if type(value) not in kinds or not math.isfinite(value):
        return False
    return not bounds or bounds["least"] <= value <= bounds["most"]


def _wanted(kind: Any, bounds: Mapping[str, float]) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    named = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
    return f"{named} from {bounds['least']:g} to {bounds['most']:g}" if bounds else named
