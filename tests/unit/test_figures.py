"""Every figure draws and renders, whatever was measured; on synthetic numbers."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import vl_convert

from deepgap.draw import render_spec, write_spec
from deepgap.errors import DeepGapError
from deepgap.figures import FIGURES, load_figure, read_caption
from deepgap.theme import COLUMN_WIDTH, PAGE_WIDTH, PRECISION_COLOURS
from tests.unit.synthetic import (
    MANY,
    ROOT,
    cpu_rows,
    cpu_summary,
    empty_summary,
    full_summary,
    h200_rows,
    synthetic_failure,
    synthetic_summary,
)

SUMMARIES = {
    "full": full_summary,
    "many batch sizes": lambda: full_summary(MANY),
    "CPU only": cpu_summary,
    "H200 only": lambda: synthetic_summary(h200_rows()),
    "published only": lambda: synthetic_summary([]),
    "measured only": lambda: synthetic_summary([*h200_rows(), *cpu_rows()], published=False),
    "nothing": empty_summary,
}
FONTS = str(ROOT / "paper/fonts")
COLUMN = ("fig02_structure", "fig03_precision", "fig04_operations")
"""Figures of one column's width."""
NOT_MEASURED = ("fig01_generations", *COLUMN)
"""Figures of the data sheets, the formats and the study, without a value that was measured or published."""
RESULTS = tuple(name for name in FIGURES if name not in NOT_MEASURED)
ON_GPUS = tuple(name for name in RESULTS if name != "fig17_cpu_threads")
UNPUBLISHED = ("fig13_performance_per_watt", "fig16_fidelity_against_speed")
"""Figures of what the published study does not state."""


@cache
def draw(name: str, data: str) -> dict[str, Any]:
    spec: dict[str, Any] = load_figure(name)(SUMMARIES[data]()).to_dict()
    return spec


def rows_of(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All rows of data in a specification."""
    for rows in spec["datasets"].values():
        yield from rows


CASES = [
    *((name, data) for name in FIGURES for data in ("full", "CPU only", "nothing")),
    ("fig09_memory_over_batch", "many batch sizes"),
    ("fig09_memory_over_batch", "published only"),
    ("fig11_speedup", "H200 only"),
    ("fig11_speedup", "measured only"),
]


@pytest.mark.parametrize(("name", "data"), CASES)
def test_every_figure_renders_within_the_page(name: str, data: str) -> None:
    vl_convert.register_font_directory(FONTS)
    svg = vl_convert.vegalite_to_svg(draw(name, data), vl_version="6.4")
    width = float(svg.partition('width="')[2].partition('"')[0])
    # A sentence in the place of a figure has the width of the page.
    full = (COLUMN_WIDTH + 6, 0.8 * COLUMN_WIDTH) if name in COLUMN else (PAGE_WIDTH, 0.8 * PAGE_WIDTH)
    assert full[1] < width <= full[0] or (data, name) == ("nothing", "fig02_structure")
    assert "bold" not in svg
    assert "NaN" not in svg


@pytest.mark.parametrize("name", ON_GPUS)
def test_a_gpu_without_cells_says_how_to_measure_it(name: str) -> None:
    text = json.dumps(draw(name, "full"))
    for gpu in ("T4", "L4"):
        assert f"No cells measured for {gpu}; measure them with: snakemake --cores 1 --config gpu={gpu}" in text
    assert "A100" not in text and "H100" not in text


@pytest.mark.parametrize("name", RESULTS)
def test_nothing_at_all_is_one_sentence(name: str) -> None:
    assert "no cells measured and no values published" in json.dumps(draw(name, "nothing"))


@pytest.mark.parametrize("name", [name for name in ON_GPUS if name not in UNPUBLISHED])
def test_published_marks_say_so_and_belong_to_gpus_that_were_not_measured(name: str) -> None:
    rows = [row for row in rows_of(draw(name, "full")) if "source" in row]
    published = [row for row in rows if row["source"] == "published"]
    assert {row["gpu"] for row in published} >= {"T4", "L4"}
    assert {row["gpu"] for row in rows if row["source"] == "measured"} <= {"H200", "CPU"}


@pytest.mark.parametrize("name", [name for name in ON_GPUS if name != "fig05_telemetry"])
def test_a_failed_family_is_marked(name: str) -> None:
    text = json.dumps(draw(name, "full"))
    assert "out of memory" in text or "out_of_memory" in text


def test_a_mode_that_failed_everywhere_is_told_in_words() -> None:
    rows = [synthetic_failure("H200", "resnet18", "graph-fp16", 8, "unsupported")]
    text = json.dumps(load_figure("fig06_throughput")(synthetic_summary(rows, published=False)).to_dict())
    assert "unsupported: graph-fp16 at 8" in text


def test_a_panel_without_cells_says_so() -> None:
    text = json.dumps(draw("fig07_latency_by_model", "CPU only"))
    assert "No cells measured for CPU here (Batch size 512)" in text


def test_modes_are_listed_from_the_plainest_to_the_most_specialised() -> None:
    modes = ["eager-fp32", "eager-tf32", "eager-fp16", "graph-fp16", "compile-fp16"]
    labels = [row["label"] for row in rows_of(draw("fig06_throughput", "full")) if "words" in row]
    assert list(dict.fromkeys(labels))[:6] == [*modes, "tensorrt-int8"]
    measured = full_summary().measured
    assert measured["mode"].unique(maintain_order=True).to_list() == modes
    assert measured.filter(pl.col("mode") == modes[-1])["batch_size"].to_list()[:5] == [1, 8, 32, 128, 512]


def test_the_marked_peaks_are_the_highest_throughputs() -> None:
    peaks = [row for row in rows_of(draw("fig06_throughput", "full")) if row.get("peak")]
    top = pl.col("throughput_img_s").max()
    tops = full_summary().measured.group_by("gpu", "model", "mode").agg(top)
    drawn = {(row["gpu"], row["model"], row["mode"], row["value"]) for row in peaks}
    assert drawn == set(tops.iter_rows())


@pytest.mark.parametrize("name", ["fig10_pareto", "fig11_speedup"])
def test_specification_and_pictures_are_the_same_bytes_every_time(name: str, tmp_path: Path) -> None:
    contents = []
    for turn in "ab":
        files = [str(tmp_path / f"{turn}.{kind}") for kind in ("vl.json", "pdf", "svg", "png")]
        write_spec(load_figure(name)(full_summary()), files[0])
        render_spec(files[0], FONTS, *files[1:])
        contents.append([Path(file).read_bytes() for file in files])
    assert contents[0] == contents[1]
    assert contents[0][1].startswith(b"%PDF") and contents[0][3].startswith(b"\x89PNG")


def test_rendering_without_a_font_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("{}")
    with pytest.raises(DeepGapError, match="font"):
        render_spec(str(tmp_path / "s.json"), str(tmp_path), "a.pdf", "a.svg", "a.png")


def test_precisions_differ_in_grey() -> None:
    """CIE L* (0 to 100) of neighbouring precisions is at least 15 apart."""
    lightness = sorted(map(lightness_of, PRECISION_COLOURS.values()))
    assert all(above - below >= 15 for below, above in pairwise(lightness))


def lightness_of(colour: str) -> float:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return 116 * luminance ** (1 / 3) - 16 if luminance > 0.008856 else 903.3 * luminance


@pytest.mark.parametrize("name", FIGURES)
def test_the_caption_is_read_without_drawing(name):
    assert read_caption(name) == importlib.import_module(f"deepgap.figures.{name}").CAPTION
