"""Pins, versions and the files that other tools read."""

from __future__ import annotations

import re
import tomllib

import pytest

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
    assert all(re.fullmatch(rf"[a-z0-9-]+==[0-9][0-9a-z.]*({MARKER})?", line) for line in lines) and lines
    assert {
        name: version for name, version in pins(file).items() if CONSTRAINTS.get(name) != version
    }.keys() <= UNTESTED


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
