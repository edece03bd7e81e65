"""Figures and tables are found by their files, shown by the text, and read no cells but those that they declare."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import polars as pl
import pytest

from deepgap.analyse.summary import Summary
from deepgap.errors import DeepGapError
from deepgap.paper import figures, tables
from deepgap.paper.figures import FIGURES, load_figure
from deepgap.paper.numbers import write_numbers
from deepgap.paper.parts import (
    DEVICES,
    Shown,
    find_parts,
    in_order,
    read_declared,
    read_shown,
    shown_devices,
    shown_in,
)
from deepgap.paper.tables import TABLES, load_table
from deepgap.study.words import model_label
from tests.conftest import ROOT
from tests.unit.synthetic import cpu_rows, cpu_summary, empty_summary, full_summary, h200_rows, synthetic_summary

FRAMES_OF_CELLS = {field.name for field in fields(Summary)} - {
    "published",
    "anchors",
    "design",
    "gpus",
    "reporting",
    "coverage",
}


def with_threads() -> Summary:
    several = [row | {"threads": threads} for row in cpu_rows() for threads in (0, 1, 2)]
    return synthetic_summary([*h200_rows(), *several])


SUMMARIES = {
    "full": full_summary,
    "several threads": with_threads,
    "CPU only": cpu_summary,
    "GPU only": lambda: synthetic_summary(h200_rows()),
    "nothing": empty_summary,
}
NARROW = [(name, load_figure, figures.shown_devices(name)) for name in FIGURES]
NARROW += [(name, load_table, tables.shown_devices(name)) for name in TABLES]
NARROW = [item for item in NARROW if item[2] != DEVICES]


def only(summary: Summary, devices: tuple[str, ...]) -> Summary:
    """The summary as `load_summary` reads it from the files of these devices."""
    kept = [key for key, gpu in summary.gpus.items() if gpu.device in devices]
    frames = {name: getattr(summary, name).filter(pl.col("gpu").is_in(kept)) for name in FRAMES_OF_CELLS}
    found = pl.when(pl.col("gpu").is_in(kept)).then("found").otherwise(0)
    return replace(summary, **frames, coverage=summary.coverage.with_columns(found=found))


@pytest.mark.parametrize("data", SUMMARIES)
@pytest.mark.parametrize(("name", "load", "devices"), NARROW, ids=[name for name, *_ in NARROW])
def test_what_is_not_read_is_not_shown(name, load, devices, data):
    summary = SUMMARIES[data]()
    whole, narrow = (load(name)(each) for each in (summary, only(summary, devices)))
    assert plain(whole) == plain(narrow)


def plain(result):
    """A chart as a dictionary, a table's context as it is."""
    return result if isinstance(result, dict) else result.to_dict()


def test_some_show_the_cells_of_some_devices_alone():
    found = {name: devices for name, _, devices in NARROW}
    assert found["cpu_threads"] == ("cpu",)
    assert found["precision"] == found["audit"] == ()
    assert all(set(devices) < set(DEVICES) for devices in found.values())


def test_a_constant_is_read_without_importing_its_file(tmp_path: Path):
    file = tmp_path / "figure.py"
    file.write_text('raise SystemExit\nCAPTION = "a " "b"\n', encoding="utf-8")
    assert read_declared(file, "CAPTION") == "a b"
    assert read_declared(file, "DEVICES", ()) == ()
    with pytest.raises(LookupError, match=r"figure\.py has no DEVICES"):
        read_declared(file, "DEVICES")


@pytest.mark.parametrize("devices", ['"cuda"', '("gpu",)', '["cpu"]'])
def test_devices_that_are_none_are_refused(tmp_path: Path, devices: str):
    file = tmp_path / "figure.py"
    file.write_text(f"DEVICES = {devices}\n", encoding="utf-8")
    with pytest.raises(DeepGapError, match=r"figure\.py has DEVICES = .*; it may be a tuple of 'cpu' and 'cuda'"):
        shown_devices(file)


def test_the_text_shows_every_figure_and_table_and_no_others():
    shown = read_shown(ROOT / "paper/main.tex")
    assert set(FIGURES) - set(shown.figures) <= {"operations"} and set(shown.figures) <= set(FIGURES)
    assert sorted(shown.tables) == list(TABLES)


def test_every_part_takes_any_model_runtime_and_precision():
    """None of these models' operations are known here, and neither the runtime nor the precision is listed."""
    models = ("vit_b_16", "timm:resnet10t", "convnext_tiny")
    known = [row for row in [*h200_rows(), *cpu_rows()] if row["model"] == "resnet18"]
    rows = [{**row, "model": model} for model in models for row in known]
    other = {"mode": "alpha-fp4", "runtime": "alpha", "precision": "fp4", "layout": "nchw"}
    rows += [row | other for row in rows if row["runtime"] == "graph"]
    for published in (True, False):
        summary = synthetic_summary(rows, published=published)
        for name in FIGURES:
            load_figure(name)(summary)
        contexts = {name: load_table(name)(summary) for name in TABLES}
        assert {row["model"] for row in contexts["peaks"]["measured"]} == set(map(model_label, models))
        assert "HTwoZeroZeroVitBOneSixAlphaFpFour" in write_numbers(summary, {}, ())


def test_every_table_has_its_template_and_every_template_its_table():
    assert sorted(file.name.split(".")[0] for file in (ROOT / "paper/templates").glob("*.tex.j2")) == list(TABLES)


def test_what_a_text_shows_is_read_from_its_macros():
    text = r"""
    \newcommand{\paperfigure}[3]{\includegraphics[width=\textwidth]{#1}}
    \paperfigure{second}{\CaptionSecond}{fig:second} 5\% \paperfigure{first}{\CaptionFirst}{fig:first}
    % \paperfigure{not_shown}{}{}
    \input{numbers.tex} \input{tables/peaks.tex} \includegraphics[width=2cm]{figures/third}
    """
    assert shown_in(text) == Shown(("second", "first", "third"), ("peaks",), ("CaptionFirst", "CaptionSecond"))
    assert read_shown(ROOT / "no/such.tex") == Shown()


def test_parts_stand_in_the_order_of_the_text_and_new_ones_last(tmp_path: Path):
    for name in ("b.py", "a.py", "new.py", "__init__.py", "_shared.py", ".#a.py", "notes.txt"):
        (tmp_path / name).touch()
    assert find_parts(tmp_path) == ("a", "b", "new")
    assert in_order(find_parts(tmp_path), ("b", "gone", "a")) == ("b", "a", "new")
