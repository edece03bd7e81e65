"""docs/config.md, which is made from the schemas."""

from __future__ import annotations

import copy

import yaml

from tests.conftest import ROOT, read_yaml
from tools.describe_config import DOCUMENT, describe, keys_of, read_schemas


def test_the_document_is_what_the_schemas_say() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == describe(read_schemas()), "docs/config.md is out of date; run: python tools/describe_config.py"


def test_a_new_key_is_a_new_row() -> None:
    schemas = copy.deepcopy(read_schemas())
    schemas[0]["properties"]["lamps"] = {"type": "integer", "minimum": 1, "default": 2, "description": "Lamps"}
    assert "| `lamps` | whole number, at least 1 | `2` | Lamps. |" in describe(schemas)


def test_every_key_of_the_study_is_described() -> None:
    schema = read_schemas()[0]
    described = {key.path for key in keys_of(schema, schema)}
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    assert set(config) <= described
    assert {"protocols.<name>.stop.half_width", "models[].weights", "overrides.<name>.grids"} <= described
    assert {f"<name>.{key}" for key in read_yaml(ROOT / "config/gpus.yaml")["H100"]} <= {
        key.path for key in keys_of(read_schemas()[1], read_schemas()[1])
    }
