"""The HTML page: whole, offline, and safe with hostile names."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from deepgap.analyse.summary import Summary
from deepgap.paper.report import write_page
from tests.conftest import ROOT
from tests.unit.synthetic import empty_summary, full_summary

TEMPLATE = ROOT / "paper/templates/report.html.j2"
SPEC = {
    "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
    "data": {"values": [{"a": 1}]},
    "mark": "point",
    "encoding": {"x": {"field": "a"}},
}
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def page(summary: Summary, folder: Path) -> str:
    spec = folder / "throughput.vl.json"
    spec.write_text(json.dumps(SPEC), encoding="utf-8")
    return write_page(summary, {"throughput": spec}, {"throughput": "A caption."}, [], TEMPLATE, root="../")


def content(text: str) -> dict[str, Any]:
    return json.loads(re.search(r'id="content">(.*?)</script>', text, re.DOTALL).group(1))


def test_the_page_holds_all_families_and_asks_the_network_for_nothing(tmp_path):
    summary = full_summary()
    text = page(summary, tmp_path)
    assert len(content(text)["families"]) == summary.families.height
    assert {row["status"] for row in content(text)["families"]} == {"ok", "out_of_memory"}
    outside = text.split("<script>")[0] + text.split('id="content">')[1]
    assert re.findall(r'(?:src|href)="(?!#)[^"]*"', outside) == []


def test_a_hostile_name_stays_text(tmp_path):
    summary = full_summary()
    families = summary.families.with_columns(pl.lit(HOSTILE).alias("reason"))
    text = page(replace(summary, families=families), tmp_path)
    assert HOSTILE not in text
    assert content(text)["families"][0]["reason"] == HOSTILE


def render(text: str, folder: Path, address: str = "") -> str:
    """The page after its scripts have run, in a real browser."""
    file = folder / "report.html"
    file.write_text(text, encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=8000", "--dump-dom"]
    command.append(file.as_uri() + address)
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=True).stdout


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium to run the page's scripts")
def test_a_browser_draws_the_chart_and_shows_what_is_behind_an_address(tmp_path):
    summary = full_summary()
    hostile = summary.families.with_columns(pl.lit(HOSTILE).alias("tail_note"))
    drawn = render(page(replace(summary, families=hostile), tmp_path), tmp_path, "#H200/resnet50/eager-fp16/8/0")
    assert drawn.count("<svg") >= 2
    assert "H200 resnet50 eager-fp16, batch 8" in drawn
    assert "<title>deep-gap: measurements</title>" in drawn
    assert '<img src="x"' not in drawn


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium to run the page's scripts")
def test_without_cells_the_page_says_so(tmp_path):
    drawn = render(page(empty_summary(), tmp_path), tmp_path)
    assert re.search(r'<p id="nothing" class="quiet">Nothing is measured', drawn)
    assert "Nothing here yet." in drawn
