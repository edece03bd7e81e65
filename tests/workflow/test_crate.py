"""`snakemake crate` on cells that are there, without a device. About 8 s on two cores."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest

from tests.unit.cells import write_study_cells
from tests.workflow.conftest import TINY, copy_project

pytestmark = [
    pytest.mark.xdist_group("workflow"),
    pytest.mark.skipif(find_spec("rocrate") is None, reason="needs rocrate: run 'make setup'"),
]


def test_the_crate_is_of_the_studys_cells_and_made_anew_when_there_are_more(tmp_path):
    project = copy_project(tmp_path / "project")
    project.change(**TINY, gpu=None)
    files = write_study_cells(project.study(), "H200", project.root)
    last = files.pop()
    hidden = last.rename(tmp_path / last.name)
    run = project.run("crate")
    assert run.returncode == 0, run.stdout

    def described() -> set[str]:
        graph = json.loads((project.root / "results/ro-crate-metadata.json").read_text(encoding="utf-8"))["@graph"]
        assert sum(entity["@type"] == "CreateAction" for entity in graph) == len(files)
        return {entity["@id"] for entity in graph if entity["@type"] == "File"}

    assert described() == {file.relative_to(project.root / "results").as_posix() for file in files}
    assert project.plan("crate") == {}
    hidden.rename(last)
    assert project.plan("crate") == {"describe_crate": 1, "crate": 1}
