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
from deepgap.paper import parts
from deepgap.paper.latex import render
from deepgap.paper.report import column_words, write_page
from deepgap.paper.tables import TABLES, load_table
from deepgap.paper.web import plain, read_tables
from tests.conftest import ROOT
from tests.unit.synthetic import empty_summary, full_summary, two_kinds_summary

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
    tables = {"Table I: Peaks": render(ROOT / "paper/templates/peaks.tex.j2", load_table("peaks")(summary))}
    return write_page(summary, {"throughput": spec}, {"throughput": "A caption."}, [], TEMPLATE, "../", tables)


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


def test_columns_are_named_in_words_with_units_and_bytes_are_mebibytes(tmp_path):
    summary = full_summary()
    told = content(page(summary, tmp_path))
    family = told["families"][0]
    assert family["memory_mib"] == pytest.approx(summary.measured["memory_bytes"][0] / 2**20, rel=1e-4)
    assert not any("bytes" in name for rows in ("families", "runs", "sessions") for name in told[rows][0])
    names = {name for rows in ("families", "runs", "sessions", "fidelity", "coverage") for name in told[rows][0]}
    assert names <= told["words"].keys() and not any("_" in word for word in told["words"].values())
    assert column_words("median_low_ms") == "median low (ms)"
    assert column_words("throughput_img_s") == "throughput (img/s)"
    assert column_words("energy_above_idle_j_per_image") == "energy above idle (J an image)"


def test_the_page_holds_the_tables_of_the_paper(tmp_path):
    text = page(full_summary(), tmp_path)
    assert "<summary>Table I: Peaks</summary>" in text
    assert '<td class="text">ResNet-18</td>' in text and "eager-fp16</td>" in text


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(
    "summary", [full_summary(), two_kinds_summary(), empty_summary()], ids=["full", "two", "none"]
)
def test_a_table_of_the_paper_has_whole_rows_and_no_latex(name, summary):
    tables, sentences = read_tables(render(ROOT / f"paper/templates/{name}.tex.j2", load_table(name)(summary)))
    for table in tables:
        rows = [*table.head, *table.body]
        assert len({sum(cell.span for cell in row) for row in rows}) == 1
        assert not re.search(r"[\\{}$]|\brlap\b", " ".join(cell.text for row in rows for cell in row))
    assert tables or sentences
    assert not any("\\" in sentence for sentence in sentences)


def test_what_latex_prints():
    assert plain(r"\num{1.50}\rlap{$^{\mathrm{ab}}$} 95\,\%".replace(r"\%", "%")) == "1.50 (ab) 95\u00a0%"
    assert plain(r"256$^\dagger$") == "256†" and plain(r"256\phantom{$^\dagger$}") == "256"
    assert plain(r"gpu -{}-cores 1, 1--3") == "gpu --cores 1, 1–3"


def test_tables_have_the_numbers_of_the_text():
    text = r"""
    \begin{table*}[tp]\caption{Peaks}\input{tables/peaks.tex}\end{table*}
    % \begin{table}\caption{None}\input{tables/none.tex}\end{table}
    \begin{table}\caption{Flags and more}\input{tables/flags.tex}\input{tables/more.tex}\end{table}
    """
    flags = "Table II: Flags and more"
    assert parts.table_titles(text) == {"peaks": "Table I: Peaks", "flags": flags, "more": flags}
    assert [parts.roman(number) for number in (4, 9, 14, 20)] == ["IV", "IX", "XIV", "XX"]
    assert set(parts.read_titles(ROOT / "paper/main.tex")) == set(TABLES)


def test_the_page_opens_on_one_model_and_its_script_refuses_no_address():
    script = TEMPLATE.read_text(encoding="utf-8")
    assert "form.model.selectedIndex = 1" in script
    assert re.search(r"try \{ parts = .*decodeURIComponent.*\} catch", script)
    assert 'setAttribute("aria-sort"' in script and "line.tabIndex = 0" in script


def render_page(text: str, folder: Path, address: str = "") -> str:
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
    drawn = render_page(page(replace(summary, families=hostile), tmp_path), tmp_path, "#H200/resnet50/eager-fp16/8/0")
    assert drawn.count("<svg") >= 2
    assert "H200 resnet50 eager-fp16, batch 8" in drawn
    assert "<title>deep-gap: measurements</title>" in drawn
    assert '<img src="x"' not in drawn


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium to run the page's scripts")
def test_a_malformed_address_is_told_and_the_table_obeys_the_first_choice(tmp_path):
    summary = full_summary()
    drawn = render_page(page(summary, tmp_path), tmp_path, "#%E0%A4%A/x")
    assert "No family here has this address" in drawn and drawn.count("<svg") >= 2
    shown = summary.families.filter(pl.col("gpu") == "H200", pl.col("model") == "resnet18").height
    assert f"{shown} of {summary.families.height} families" in drawn


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium to run the page's scripts")
def test_without_cells_the_page_says_so(tmp_path):
    drawn = render_page(page(empty_summary(), tmp_path), tmp_path)
    assert re.search(r'<p id="nothing" class="quiet">Nothing is measured', drawn)
    assert "Nothing here yet." in drawn
