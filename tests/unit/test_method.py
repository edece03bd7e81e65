"""The guard of the measuring method."""

from __future__ import annotations

import json
import shutil

import pytest

from deepgap.jobs import digest, method_guard
from deepgap.jobs.digest import code_digest
from tests.conftest import ROOT

RECORD_FILE = ROOT / method_guard.RECORD


@pytest.mark.parametrize("room", method_guard.describe_rooms())
def test_every_change_of_the_method_is_decided(room):
    decisions = json.loads(RECORD_FILE.read_text(encoding="utf-8")).get(room, [])
    recorded = [{"version": last["version"], "digest": last["digest"]} for last in decisions[-1:]]
    assert [method_guard.describe_rooms()[room]] == recorded, (
        f"Code that can change a number of {room} was edited, or is new. When the edit can change a number or a "
        "cell's contents, raise METHOD_VERSION in src/deepgap/study/method.py or the version of the runtime; then, "
        "in either case, record it with: python tools/record_method.py 'why'"
    )


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("host.py", "return max(1,", "return max(2,", {"measure"}),
        ("runtimes/eager.py", "model(inputs[index])", "model(inputs[0])", {"eager"}),
        ("runtimes/cudnn/kernels.py", "import triton\n", "import triton as other\n", {"cudnn"}),
        ("measure/progress.py", "seconds < 5400", "seconds < 5401", set()),
        ("weights/textures.py", "CLASSES = 100", "CLASSES = 101", {"measure"}),
        ("sources/torchvision.py", "USUAL_SIZE = 224", "USUAL_SIZE = 225", {"sources.torchvision"}),
    ],
)
def test_an_edit_asks_for_a_decision_on_its_room_alone(copied_package, file, old, new, changed):
    before = method_guard.describe_rooms()
    copied_package(file, old, new)
    after = method_guard.describe_rooms()
    assert {room for room in before if before[room] != after[room]} == changed


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
    copied_package("stats.py", "TAIL = 0.99", "# A comment.\nTAIL = 0.99")
    copied_package("stats.py", '"""Statistics of', '"""Some statistics of')
    assert code_digest("deepgap.analyse.aggregate") == before


def test_an_edit_of_an_imported_module_counts_for_its_users_only(copied_package):
    aggregate, study = code_digest("deepgap.analyse.aggregate"), code_digest("deepgap.study.study")
    copied_package("stats.py", "TAIL = 0.99", "TAIL = 0.98")
    assert code_digest("deepgap.analyse.aggregate") != aggregate
    assert code_digest("deepgap.study.study") == study


def test_an_exception_for_a_module_that_is_gone_is_an_error(monkeypatch):
    monkeypatch.setitem(method_guard.NO_NUMBER, "deepgap.gone", "was a sentence")
    with pytest.raises(ModuleNotFoundError, match=r"deepgap\.gone"):
        method_guard.describe_rooms()


def test_an_unknown_module_is_an_error():
    with pytest.raises(ModuleNotFoundError, match=r"deepgap\.nothing"):
        code_digest("deepgap.nothing")
