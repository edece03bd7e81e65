"""Checks against a JSON schema, told in one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, relevance

from deepgap.errors import ConfigError


def check_schema(value: object, schema: Mapping[str, Any], file: str) -> None:
    """Raise one sentence about the most relevant violation of `schema`, if there is one."""
    errors = sorted(Draft202012Validator(schema).iter_errors(value), key=relevance)
    if errors:
        raise ConfigError(f"{file}: {_sentence(errors[0])}")


def _sentence(error: ValidationError) -> str:
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    key = key.lstrip(".") or "the top level"
    found: Any = error.instance
    rule: Any = error.validator_value
    schema: Any = error.schema
    match error.validator:
        case "enum":
            return f"{key} is {found!r}{nearest(found, rule)}; allowed: {', '.join(map(str, rule))}."
        case "additionalProperties":
            allowed = list(schema.get("properties", {}))
            extra = next(name for name in found if name not in allowed)
            return f"{key} has the unknown key '{extra}'{nearest(extra, allowed)}; allowed: {', '.join(allowed)}."
        case "uniqueItems":
            twice = next(item for i, item in enumerate(found) if item in found[:i])
            return f"{key} names {twice!r} twice; each value is allowed once."
        case "minimum":
            return f"{key} is {found}; it must be at least {rule}."
        case "maximum":
            return f"{key} is {found}; it must be at most {rule}."
        case "exclusiveMinimum":
            return f"{key} is {found}; it must be more than {rule}."
        case "type":
            names = rule if isinstance(rule, list) else [rule]
            return f"{key} is {found!r}; it must be of type {' or '.join(names)}."
        case "required":
            missing = next(name for name in rule if name not in found)
            return f"{key} lacks the key '{missing}'."
        case "minItems" | "minProperties":
            return f"{key} is empty; it needs at least {rule}."
        case "pattern" if "propertyNames" in error.absolute_schema_path:
            return f"the key {found!r} is not allowed; a key has {schema['description']}."
        case _:
            return f"{key}: {error.message}."


def unknown(key: str, value: str, allowed: Sequence[str]) -> str:
    """The sentence for a name that is not among those allowed, with the nearest one."""
    return f"config.yaml: {key} is '{value}'{nearest(value, allowed)}; allowed: {', '.join(allowed)}."


def nearest(value: object, allowed: Sequence[Any]) -> str:
    folded = {str(name).lower(): str(name) for name in allowed}
    near = difflib.get_close_matches(str(value).lower(), folded, n=1, cutoff=0.4)
    return f" (did you mean '{folded[near[0]]}'?)" if near else ""
