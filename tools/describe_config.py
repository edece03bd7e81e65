"""Write docs/config.md, every key of the files of config/, from their schemas."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepgap.study.schema import read_yaml
from deepgap.text import write_text

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs/config.md"
SCHEMAS = ("config", "gpus", "training")

HEAD = """# Keys of the config

<!-- Written by: python tools/describe_config.py -->

Every key of the files of `config/`, as the schemas in `workflow/schemas/` have it. `<name>` stands for a name, `[]`
for an entry of a list. A key without a default must be given unless it may be left out.
[config/README.md](../config/README.md) says how to change the study, also for one machine or one call.
"""

WORDS = {
    "integer": "whole number",
    "string": "text",
    "boolean": "true or false",
    "array": "list",
    "object": "mapping",
}
BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "minItems": "at least {} in it",
    "maxItems": "at most {} in it",
    "minProperties": "at least {} in it",
}


@dataclass(frozen=True)
class Key:
    """One key: its dotted path, what values it takes, its default as YAML or None, and what it means."""

    path: str
    values: str
    default: str | None
    meaning: str


def describe(schemas: Sequence[Mapping[str, Any]]) -> str:
    """The whole document."""
    return "\n".join([HEAD, *map(_section, schemas)])


def _section(schema: Mapping[str, Any]) -> str:
    rows = [
        f"| `{key.path}` | {key.values} | {'' if key.default is None else f'`{key.default}`'} | {key.meaning} |"
        for key in keys_of(schema, schema)
    ]
    lines = [f"## {schema['title']}", "", "| key | values | default | meaning |", "|---|---|---|---|", *rows, ""]
    return "\n".join(lines)


def keys_of(node: Mapping[str, Any], root: Mapping[str, Any], path: str = "") -> Iterator[Key]:
    """The keys below a node of a schema, each followed by its own."""
    inner = [(name, child, name in node.get("required", ())) for name, child in node.get("properties", {}).items()]
    if isinstance(named := node.get("additionalProperties"), dict):
        inner.append(("<name>", named, True))
    for name, child, is_required in inner:
        full = {**_resolve(child, root), **{key: value for key, value in child.items() if key != "$ref"}}
        here = f"{path}.{name}".lstrip(".")
        if path and "$ref" in child:
            key = child["$ref"].rpartition("/")[2]
            yield Key(here, f"as `{key}`", None, "" if is_required else "It may be left out.")
            continue
        if "description" in full:
            default = None if "default" not in full else json.dumps(full["default"]).replace('"', "")
            optional = "" if is_required or "default" in full else " It may be left out."
            yield Key(here, _values(full, root), default, f"{_sentence(full['description'])}{optional}")
        yield from keys_of(full, root, here)
        if isinstance(items := full.get("items"), dict):
            yield from keys_of(_resolve(items, root), root, f"{here}[]")


def _resolve(node: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in node:
        return node
    return dict(root["$defs"][node["$ref"].removeprefix("#/$defs/")])


def _values(node: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """The values that a node takes, in words."""
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    if "anyOf" in node:
        return " or ".join(_values(choice, root) for choice in node["anyOf"])
    if "const" in node:
        return f"`{node['const']}`"
    kinds = node["type"] if isinstance(node["type"], list) else [node["type"]]
    words = " or ".join(WORDS.get(str(kind), str(kind)) for kind in kinds)
    if "items" in node:
        inside = _values(_resolve(node["items"], root), root)
        words = words.replace("list", f"list of {f'({inside})' if ',' in inside else inside}")
    bounds = [text.format(node[rule]) for rule, text in BOUNDS.items() if rule in node]
    return ", ".join([words, *bounds])


def _sentence(text: str) -> str:
    return (text if text.endswith(".") else f"{text}.").replace("|", "\\|").replace("<", "&lt;")


def read_schemas() -> list[Any]:
    return [read_yaml(ROOT / f"workflow/schemas/{name}.schema.yaml") for name in SCHEMAS]


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    write_text(DOCUMENT, describe(read_schemas()))
