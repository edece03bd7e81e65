"""What cells tell of the session that they were measured in."""

from __future__ import annotations

import os
import platform
import re
from types import SimpleNamespace

import pytest

from deepgap.errors import MissingLibraryError
from deepgap.measure import session
from deepgap.measure.session import SESSION_VARIABLE, describe_session, name_session, runtimes_without_libraries


@pytest.fixture(autouse=True)
def no_session(monkeypatch):
    monkeypatch.setenv(SESSION_VARIABLE, "")


def test_the_cells_of_a_call_are_one_session(monkeypatch):
    name_session(12)
    first, second = describe_session(1), describe_session(2)
    assert re.fullmatch("[0-9a-f]{12}", first["id"])
    assert (first["place"], first["cells"]) == (1, 12)
    assert second == {**first, "place": 2}
    # A batch system may spread a call over hosts.
    monkeypatch.setattr(platform, "node", lambda: "another")
    assert describe_session(3)["id"] != first["id"]


def test_two_calls_are_two_sessions():
    ids = []
    for _ in range(2):
        name_session(12)
        ids.append(describe_session(1)["id"])
    assert len(set(ids)) == 2


def test_a_cell_measured_by_hand_is_a_session_by_itself():
    assert not os.environ[SESSION_VARIABLE]
    first, second = describe_session(None), describe_session(None)
    assert re.fullmatch("[0-9a-f]{12}", first["id"])
    assert (first["place"], first["cells"]) == (None, None)
    assert first["id"] != second["id"]


def test_the_runtimes_that_are_not_installed_are_told(monkeypatch):
    def absent() -> dict[str, str]:
        raise MissingLibraryError("Install it.")

    there = SimpleNamespace(libraries=dict)
    monkeypatch.setattr(session, "load_runtimes", lambda: {"a": SimpleNamespace(libraries=absent), "b": there})
    assert runtimes_without_libraries(["b", "a", "a"]) == {"a": "Install it."}
