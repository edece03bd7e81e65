"""The results as an RO-Crate."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from deepgap.cells.cell_file import failure_row
from deepgap.errors import MissingLibraryError
from deepgap.paper import crate
from deepgap.paper.crate import NAME, PROFILE, crate_text, describe_results
from tests.unit.cells import Cells

needs_rocrate = pytest.mark.skipif(find_spec("rocrate") is None, reason="needs rocrate: run 'make setup'")
needs_validator = pytest.mark.skipif(
    find_spec("rocrate_validator") is None, reason="needs roc-validator, whose rich is not the one pinned here"
)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two cells of one card, the first with samples, and one of a processor that could not be timed."""
    cells = Cells(tmp_path)
    first = cells.add()
    cells.add(sweep=2)
    (tmp_path / "H200/telemetry").mkdir()
    (tmp_path / "H200/telemetry" / first.name).write_bytes(b"PAR1")
    cells.add("eager-fp32", gpu="CPU", rows=failure_row("unsupported", "no such kernel"))
    return tmp_path


def metadata(results: Path) -> dict[str, Any]:
    return describe_results(results, results.glob("*/cells/*"), results.glob("*/telemetry/*"), "0.0")


def entities(found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [entity for entity in found["@graph"] if entity["@type"] == kind]


@needs_rocrate
def test_each_cell_is_an_action_with_its_files_device_and_weights(results) -> None:
    found = metadata(results)
    known = {entity["@id"]: entity for entity in found["@graph"]}
    actions = entities(found, "CreateAction")
    assert [action["@id"] for action in actions] == [action["@id"] for action in known["./"]["mentions"]]
    assert known["./"]["conformsTo"] == {"@id": PROFILE}
    failed, first, second = actions
    assert failed["error"] == "unsupported: no such kernel" and failed["actionStatus"].endswith("/FailedActionStatus")
    assert first["name"] == "resnet18 in eager-fp16 at batch size 8, sweep 1, on H200" and "error" not in first
    assert (first["startTime"], first["endTime"]) == ("2001-09-09T01:46:40+00:00", "2001-09-09T01:46:50+00:00")
    assert known["./"]["datePublished"] == first["endTime"]
    assert "torch 0.0" in first["description"] and "driver 000.00" in first["description"]
    files = [[part["@id"] for part in action["result"]] for action in (first, second)]
    assert [len(names) for names in files] == [2, 1] and all(
        (results / name).is_file() for names in files for name in names
    )
    weights, device = (known[part["@id"]] for part in first["object"])
    assert weights["value"] == "0" * 64 and device["value"].startswith("NVIDIA H200, host Synthetic")
    assert second["object"] == first["object"] and failed["object"][1] != first["object"][1]
    assert known[first["instrument"]["@id"]]["softwareVersion"] == "0.0"


@needs_rocrate
def test_a_second_crate_is_the_same_bytes_wherever_it_is_made(results, tmp_path_factory) -> None:
    once = crate_text(metadata(results))
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "results"
    results.rename(elsewhere)
    assert crate_text(metadata(elsewhere)) == once
    assert str(results) not in once and "file://" not in once


def test_without_the_library_it_is_named(results, monkeypatch) -> None:
    monkeypatch.setattr(crate, "find_spec", lambda name: None)
    with pytest.raises(MissingLibraryError, match=r"package rocrate.*make setup"):
        metadata(results)


@needs_rocrate
@needs_validator
def test_the_validator_of_the_profile_finds_nothing_that_is_required(results, monkeypatch) -> None:
    import requests
    import rocrate
    from rocrate_validator import models, services
    from rocrate_validator.utils.http import HttpRequester

    # The context comes from the library's own copy, which holds that of all versions, and not from the network.
    answer = requests.Response()
    answer.status_code, answer.encoding = 200, "utf-8"
    answer.headers["Content-Type"] = "application/ld+json"
    answer._content = (Path(rocrate.__file__).parent / "data/ro-crate.jsonld").read_bytes()
    monkeypatch.setattr(HttpRequester, "get", lambda self, url, **options: answer, raising=False)
    assert {"File", "CreateAction"} <= set(json.loads(answer.content)["@context"])

    def validate() -> Any:
        (results / NAME).write_text(crate_text(metadata(results)), encoding="utf-8")
        return services.validate(
            services.ValidationSettings(
                rocrate_uri=str(results),
                profile_identifier="process-run-crate",
                requirement_severity=models.Severity.REQUIRED,
            )
        )

    found = validate()
    assert found.passed(), [issue.message for issue in found.get_issues()]
    monkeypatch.setattr(crate, "PROFILE", "https://example.org/none")
    assert not validate().passed(), "the check can fail"
