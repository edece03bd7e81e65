"""Pins, versions and the files that other tools read."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest
from jsonschema import ValidationError, validate

from tests.conftest import ROOT, read_yaml
from tools.audit import read_pins, unpinned, vulnerabilities

UNTESTED = {"tensorrt-cu13", "torchao"}
"""Optional packages that the tested environment does not have."""

MARKER = '; sys_platform == "linux" and platform_machine == "x86_64"'
"""Where the wheels of the one package with this marker are."""

CONSTRAINTS = read_pins((ROOT / "envs/constraints.txt").read_text(encoding="utf-8"))


def pins(name: str) -> dict[str, str]:
    return read_pins((ROOT / f"envs/{name}.txt").read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", sorted(path.stem for path in (ROOT / "envs").glob("*.txt")))
def test_every_requirement_is_pinned_as_the_constraints_have_it(file: str) -> None:
    lines = [
        line
        for line in (ROOT / f"envs/{file}.txt").read_text(encoding="utf-8").splitlines()
        if line and line[0] != "#"
    ]
    others = [line.removeprefix("-r ") for line in lines if line.startswith("-r ")]
    assert all((ROOT / "envs" / other).is_file() for other in others)
    pinned = [line for line in lines if not line.startswith("-r ")]
    assert all(re.fullmatch(rf"[a-z0-9-]+==[0-9][0-9a-z.]*({MARKER})?", line) for line in pinned) and lines
    versions = read_pins("\n".join(pinned))
    assert {name for name, version in versions.items() if CONSTRAINTS.get(name) != version} <= UNTESTED


def test_a_reader_needs_nothing_that_measures() -> None:
    reader = (ROOT / "envs/reader.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in reader if line[0] != "#"] == ["-r workflow.txt", "-r paper.txt"]
    assert not {*pins("workflow"), *pins("paper")} & {*pins("measure"), *pins("rtx")}


def test_an_environment_is_held_against_the_pins() -> None:
    sentences = unpinned({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4", "deepgap": "0"})
    assert [sentence.split(" is")[0] for sentence in sentences] == ["b 3", "c 4"]


def test_a_vulnerability_is_told_and_a_package_that_the_index_does_not_know_is_not_counted() -> None:
    report = {
        "dependencies": [
            {"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]},
            {"name": "b", "version": "1", "vulns": []},
            {"name": "c", "skip_reason": "not found"},
        ]
    }
    assert vulnerabilities(report) == (["a 1 has PYSEC-1, mended in 2."], 2)


def test_the_citation_has_the_version_and_the_licence_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = read_yaml(ROOT / "CITATION.cff")
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["cff-version"] == "1.2.0" and citation["authors"] and citation["title"] == "deep-gap"


def test_the_hooks_are_local_programs_of_the_checks() -> None:
    hooks = [hook for repo in read_yaml(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert {repo["repo"] for repo in read_yaml(ROOT / ".pre-commit-config.yaml")["repos"]} == {"local"}
    checks = (ROOT / "Makefile").read_text(encoding="utf-8")
    for hook in hooks:
        program, *arguments = hook["entry"].removeprefix(".venv/bin/").split()
        command = " ".join([program, *(word for word in arguments if word != "--force-exclude")])
        assert f"$(BIN)/{command}" in checks, command
        assert hook["language"] == "system"


def test_the_workflow_catalog_names_what_is_supported() -> None:
    usage = read_yaml(ROOT / ".snakemake-workflow-catalog.yml")["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    assert set(usage["software-stack-deployment"]) == {"conda", "apptainer", "apptainer+conda", "report"}


ZENODO: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["title", "upload_type", "description", "creators", "license", "access_right", "version"],
    "properties": {
        "title": {"type": "string"},
        "upload_type": {"enum": ["software", "dataset", "publication"]},
        "description": {"type": "string"},
        "version": {"type": "string"},
        "license": {"type": "string"},
        "access_right": {"enum": ["open", "embargoed", "restricted", "closed"]},
        "language": {"type": "string", "pattern": "^[a-z]{3}$"},
        "keywords": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "creators": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name"],
                "properties": {name: {"type": "string"} for name in ("name", "affiliation", "orcid", "gnd")},
            },
        },
        "related_identifiers": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["identifier", "relation"],
                "properties": {
                    "identifier": {"type": "string"},
                    "scheme": {"type": "string"},
                    "resource_type": {"type": "string"},
                    "relation": {"enum": ["cites", "references", "isSupplementTo", "isDerivedFrom", "isPartOf"]},
                },
            },
        },
    },
}
"""Those fields of Zenodo's deposit metadata that stand here, as its developers' documentation describes them."""


def test_zenodos_metadata_have_known_fields_and_say_what_the_citation_says() -> None:
    zenodo = json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))
    validate(zenodo, ZENODO)
    with pytest.raises(ValidationError):
        validate(zenodo | {"author": "x"}, ZENODO)
    citation = read_yaml(ROOT / "CITATION.cff")
    assert (zenodo["version"], zenodo["license"]) == (citation["version"], citation["license"])
    assert [creator["name"] for creator in zenodo["creators"]] == [author["name"] for author in citation["authors"]]
    number = zenodo["related_identifiers"][0]["identifier"].removeprefix("arXiv:")
    assert number in citation["references"][0]["url"]


def test_the_artifact_appendix_has_its_parts_in_order_and_names_files_and_targets_that_are_there() -> None:
    text = (ROOT / "ARTIFACT.md").read_text(encoding="utf-8")
    parts = ["Abstract", "Checklist", "How to access", "Hardware dependencies", "Software dependencies"]
    parts += ["Installation", "Experiment workflow", "Evaluation and expected results", "Customization"]
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == parts
    rules = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow").rglob("*.smk"))
    targets = set(re.findall(r"snakemake (?:--cores \d+ )?([a-z]+)\b", text))
    assert {"check", "pdf", "compare", "crate"} <= targets
    assert {target for target in targets if f"rule {target}:" not in rules} == set()
    files = re.findall(r"`((?:docs|paper|config|benchmarks|data|envs)/[\w/.]+\.(?:md|py|yaml|csv|txt|bib))`", text)
    assert len(files) > 3 and [file for file in files if not (ROOT / file).is_file()] == []
