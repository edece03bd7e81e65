"""YAML files, and checks against a JSON schema, told in one sentence."""

from __future__ import annotations

import copy
import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, relevance
from jsonschema.validators import extend

from deepgap.errors import ConfigError
from deepgap.files import unreadable

# JSON schema's integer may be 3.0, which would name other cells than 3.
_Validator = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int),
)

MOST = 2**63 - 1
"""The largest number of 64 bits, which is what torch takes as a seed."""

FLOAT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
"""A number with an exponent, also without the point and the sign that YAML 1.1 asks for."""

LONGEST = 120
"""Characters of a value in a sentence."""


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        ConfigError: the file is missing or not YAML, or names a key twice.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        for node in _mappings(root, set()):
            _refuse_doubles(path, node)
        return None if root is None else loader.construct_document(root)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise ConfigError(f"{path} cannot be read ({error.strerror}); restore it.") from None
        raise ConfigError(unreadable(path, error)) from None
    # Numbers and dates that Python cannot hold raise ValueError, unhashable keys TypeError.
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{path} is not YAML: {reason.rstrip('.')}.") from None


def _mappings(node: Any, seen: set[int]) -> Iterator[yaml.MappingNode]:
    """All mappings of a YAML document, each once: an alias is the node that it names."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        yield node
        for _, value in node.value:
            yield from _mappings(value, seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _mappings(value, seen)


def _refuse_doubles(path: Path, node: yaml.MappingNode) -> None:
    keys: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in keys:
                line = key.start_mark.line + 1
                raise ConfigError(f"{path} names the key '{key.value}' twice in one place (line {line}); remove one.")
            keys.add(key.value)


def fill_config(config: Mapping[str, Any], schema: Mapping[str, Any], file: str) -> dict[str, Any]:
    """A copy of a study's config, which fits its schema, with the schema's defaults.

    Args:
        file: what the config is called in sentences.

    Raises:
        ConfigError: it does not fit.
    """
    filled = copy.deepcopy(dict(config))
    for key in ("gpu", "site"):
        # The command line makes a number of a name that looks like one.
        if filled.get(key) is not None:
            filled[key] = str(filled[key])
    filled = dict(read_scalars(filled, schema))
    check_schema(filled, schema, file)
    for key, rule in schema["properties"].items():
        if "default" in rule:
            filled.setdefault(key, copy.deepcopy(rule["default"]))
    return filled


def read_scalars(value: Any, schema: Mapping[str, Any]) -> Any:
    """The value with text read as a number, a truth or null where the schema does not take text.

    Snakemake hands on the words inside brackets of `--config 'batch_sizes=[1, 2]'` as text, and YAML 1.1 takes a
    number such as `5e-3` for text. What the schema takes as text stays text, `check_schema` tells of the rest.
    """
    try:
        wrong = [error for error in _Validator(schema).iter_errors(value) if isinstance(error.instance, str)]
    except RecursionError:
        return value
    value = copy.deepcopy(value)
    for error in wrong:
        *place, last = error.absolute_path or [None]
        read = _scalar(error.instance)
        if last is not None and read is not None:
            holder = value
            for key in place:
                holder = holder[key]
            holder[last] = read[0]
    return value


def _scalar(text: str) -> tuple[float | bool | None] | None:
    """The number, truth or null that a text spells, in a tuple; null for any other text."""
    if FLOAT.fullmatch(text):
        return (float(text),)
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return None
    return (value,) if value is None or isinstance(value, bool | int | float) else None


def check_schema(value: object, schema: Mapping[str, Any], file: str) -> None:
    """Check a value that was read from YAML or JSON.

    Besides `schema` every key must be text and every number finite.

    Raises:
        ConfigError: one sentence about the most relevant violation.
    """
    try:
        problem = next(_unusable(value, ()), None)
        if problem is None:
            errors = sorted(_Validator(schema).iter_errors(value), key=relevance)
            problem = _sentence(errors[0]) if errors else None
    except RecursionError:
        problem = "the values are nested too deeply."
    if problem is not None:
        raise ConfigError(f"{file}: {problem}")


def _unusable(value: Any, place: tuple[Any, ...]) -> Iterator[str]:
    """What JSON could not say again, in sentences."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                yield f"{_key(place)} has the key {_show(key)}, which is not text; put it in quotes or remove it."
            yield from _unusable(inner, (*place, key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _unusable(inner, (*place, index))
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{_key(place)} is {value}; it must be a finite number."
    elif isinstance(value, int) and abs(value) > MOST:
        yield f"{_key(place)} is out of range; a whole number must lie between -2^63 and 2^63."


def _key(place: Iterable[Any]) -> str:
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return key.lstrip(".") or "the top level"


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _sentence(error: ValidationError) -> str:
    key = _key(error.absolute_path)
    found: Any = error.instance
    rule: Any = error.validator_value
    schema: Any = error.schema
    match error.validator:
        case "enum":
            return f"{key} is {_show(found)}{nearest(found, rule)}; allowed: {', '.join(map(str, rule))}."
        case "additionalProperties":
            allowed = list(schema.get("properties", {}))
            extra = next(name for name in found if name not in allowed)
            return f"{key} has the unknown key '{extra}'{nearest(extra, allowed)}; allowed: {', '.join(allowed)}."
        case "uniqueItems":
            twice = next(item for i, item in enumerate(found) if item in found[:i])
            return f"{key} names {_show(twice)} twice; each value is allowed once."
        case "minimum":
            return f"{key} is {found}; it must be at least {rule}."
        case "maximum":
            return f"{key} is {found}; it must be at most {rule}."
        case "exclusiveMinimum":
            return f"{key} is {found}; it must be more than {rule}."
        case "type":
            names = rule if isinstance(rule, list) else [rule]
            return f"{key} is {_show(found)}; it must be of type {' or '.join(names)}."
        case "required":
            missing = next(name for name in rule if name not in found)
            return f"{key} lacks the key '{missing}'."
        case "minItems" | "minProperties":
            return f"{key} is empty; it needs at least {rule}."
        case "pattern" if "propertyNames" in error.absolute_schema_path:
            return f"the key {found!r} is not allowed; a key has {schema['description']}."
        case _:
            if "propertyNames" in error.absolute_schema_path:
                key = f"a key of {key}"
            return f"{key} is {_show(found)}; it must fit the schema's {error.validator}, {_show(rule)}."


def expand_home(path: str) -> str:
    """A path of the config with its `~` or `~name` as the shell reads it.

    Raises:
        ConfigError: there is no such home.
    """
    try:
        return str(Path(path).expanduser()) if path.startswith("~") else path
    except RuntimeError:
        raise ConfigError(f"config.yaml: no home is known for the ~ in '{path}'; write it out.") from None


def unknown(key: str, value: str, allowed: Sequence[str]) -> str:
    """The sentence for a name that is not among those allowed, with the nearest one."""
    return f"config.yaml: {key} is '{value}'{nearest(value, allowed)}; allowed: {', '.join(allowed)}."


def nearest(value: object, allowed: Sequence[Any]) -> str:
    folded = {str(name).lower(): str(name) for name in allowed}
    near = difflib.get_close_matches(str(value).lower(), folded, n=1, cutoff=0.4)
    return f" (did you mean '{folded[near[0]]}'?)" if near else ""
