"""The pages that a reader opens: their links, and the index of docs/."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "config/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def broken(text: str, folder: Path) -> list[str]:
    """The links to files that are not there."""
    files = (link.partition("#")[0] for link in LINK.findall(text) if "://" not in link)
    return [file for file in files if not (folder / file).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page: Path) -> None:
    assert broken(page.read_text(encoding="utf-8"), page.parent) == []
    assert broken("[a](no/such/file.md)", page.parent) == ["no/such/file.md"]


def test_the_index_names_every_page_of_docs() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - set(LINK.findall(index)) == {"README.md"}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < 800
