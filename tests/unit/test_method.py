"""The guard of the measuring method."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from deepgap.jobs import digest
from deepgap.jobs.digest import code_digest, import_closure, syntax_digest
from deepgap.study.method import METHOD_MODULES, METHOD_VERSION

RECORD = Path(__file__).with_name("method_digests.json")


def test_every_change_of_the_method_is_decided():
    last = json.loads(RECORD.read_text(encoding="utf-8"))[-1]
    assert (METHOD_VERSION, syntax_digest(METHOD_MODULES)) == (last["method_version"], last["digest"]), (
        "A module that can change a measured number was edited. Raise METHOD_VERSION in src/deepgap/study/method.py "
        "when the edit can change a number or a cell's contents; then, in either case, record it with: "
        "python tools/record_method.py 'why'"
    )


@pytest.fixture
def copied_package(tmp_path, monkeypatch):
    """A copy of the package whose sources a test may edit."""
    package = tmp_path / "deepgap"
    shutil.copytree(digest.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(digest, "PACKAGE", package)

    def edit(file: str, old: str, new: str) -> None:
        path = package / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        for cached in (digest._source, digest._parse, digest._meaning, digest._imports):
            cached.cache_clear()

    yield edit
    for cached in (digest._source, digest._parse, digest._meaning, digest._imports):
        cached.cache_clear()


def test_comments_and_docstrings_do_not_count(copied_package):
    before = code_digest("deepgap.analyse.aggregate")
    copied_package("stats.py", "MINIMUM_RUNS = 3", "# A comment.\nMINIMUM_RUNS = 3")
    copied_package("stats.py", '"""Statistics over', '"""Some statistics over')
    assert code_digest("deepgap.analyse.aggregate") == before


def test_an_edit_of_an_imported_module_counts_for_its_users_only(copied_package):
    aggregate, study = code_digest("deepgap.analyse.aggregate"), code_digest("deepgap.study.study")
    copied_package("stats.py", "MINIMUM_RUNS = 3", "MINIMUM_RUNS = 4")
    assert code_digest("deepgap.analyse.aggregate") != aggregate
    assert code_digest("deepgap.study.study") == study


def test_an_unknown_module_is_an_error():
    with pytest.raises(ModuleNotFoundError, match=r"deepgap\.nothing"):
        code_digest("deepgap.nothing")


def test_a_closure_holds_what_is_reached_over_any_way_but_for_the_exceptions():
    whole = import_closure(["workflow/scripts/measure_cell.py"])
    assert {"deepgap.measure.worker", "deepgap.measure.measure", "deepgap.host", "deepgap.measure.timing"} <= whole
    narrow = import_closure(["workflow/scripts/measure_cell.py"], without=["deepgap.measure.worker"])
    assert "deepgap.measure.worker" not in narrow and "deepgap.measure.worker" in whole


def test_an_exception_that_nothing_imports_is_stale():
    with pytest.raises(ValueError, match=r"nothing here imports deepgap\.paper\.latex"):
        import_closure(["deepgap.stats"], without=["deepgap.paper.latex"])
