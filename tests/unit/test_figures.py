"""Every figure draws and renders, whatever was measured; on synthetic numbers."""

from __future__ import annotations

import importlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache
from itertools import pairwise, product
from math import ceil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import vl_convert

from deepgap.analyse.summary import Summary
from deepgap.errors import DeepGapError
from deepgap.paper.charts.axes import Axis, batch_axis
from deepgap.paper.charts.layout import in_rows
from deepgap.paper.charts.marks import ARROW, BOUNDS, HELD_GROUND, LAUNCH_GROUND
from deepgap.paper.charts.panels import row_title, why_empty
from deepgap.paper.charts.picture import FONTS, render_spec, write_spec
from deepgap.paper.charts.theme import (
    COLUMN_WIDTH,
    INK,
    LARGE_SQUARE,
    PAGE_WIDTH,
    PRECISION_COLOURS,
    mode_mark,
    precision_colour,
)
from deepgap.paper.figures import FIGURES, load_figure, read_caption, shown_devices, shown_values
from deepgap.paper.figures.elasticity import elastic_points
from deepgap.paper.figures.latency_by_model import model_bars, shown_batches
from deepgap.paper.figures.latency_over_batch import with_residuals
from deepgap.paper.figures.memory_over_batch import image_slopes
from deepgap.paper.figures.pareto import find_front, near_modes
from deepgap.paper.figures.performance_per_watt import power_lines
from deepgap.paper.parts import DEVICES, SHOWS
from deepgap.published.values import median_latencies, pareto_pairs, table1_peaks
from deepgap.study.words import PRECISION_KEYS, RUNTIME_KEYS
from tests.unit.synthetic import (
    FEW,
    GPUS,
    H200_MODES,
    MANY,
    RATE,
    cpu_rows,
    cpu_summary,
    empty_summary,
    full_summary,
    h200_rows,
    synthetic_failure,
    synthetic_family,
    synthetic_summary,
    two_kinds_summary,
)

TEXT_HEIGHT = 672
"""Of a page of the paper, in points; its captions have lines of 9 points with 140 letters and more."""


def measured_on(*gpus: str) -> Summary:
    """Several GPUs with the modes of the H200, and the CPU."""
    rows = [synthetic_family(*key) for key in product(gpus, RATE, H200_MODES, FEW)]
    return synthetic_summary([*rows, *cpu_rows()])


SUMMARIES = {
    "four devices": lambda: measured_on("A100", "H200"),
    "five devices": lambda: measured_on("A100", "H100", "H200"),
    "full": full_summary,
    "many batch sizes": lambda: full_summary(MANY),
    "CPU only": cpu_summary,
    "H200 only": lambda: synthetic_summary(h200_rows()),
    "published only": lambda: synthetic_summary([]),
    "measured only": lambda: synthetic_summary([*h200_rows(), *cpu_rows()], published=False),
    "two kinds": two_kinds_summary,
    "one model": lambda: synthetic_summary([row for row in h200_rows((1, 8, 32)) if row["model"] == "resnet50"]),
    "nothing": empty_summary,
}
SENTENCE = 200
"""The text leaves out a picture that is narrower than this: it is a sentence."""
RESULTS = tuple(filter(shown_values, FIGURES))
"""Figures of what was measured or published, and not of data sheets, formats and the study alone."""
ON_GPUS = tuple(name for name in RESULTS if "cuda" in shown_devices(name))
UNPUBLISHED = tuple(name for name in RESULTS if "published" not in shown_values(name))
"""Figures of what the published study does not state."""


@cache
def draw(name: str, data: str) -> dict[str, Any]:
    spec: dict[str, Any] = load_figure(name)(summary_of(data)).to_dict()
    return spec


@cache
def summary_of(data: str) -> Summary:
    return SUMMARIES[data]()


def draw_svg(name: str, data: str) -> str:
    return render(draw(name, data))[0]


@cache
def marks_of(name: str, data: str, kind: str = "symbol") -> list[dict[str, Any]]:
    """The marks of a kind (symbol or text) of a figure in the order in which they are drawn, as Vega tells them: with
    x and y in pixels of the figure, and the name of their panel."""
    found = []

    def walk(item: dict[str, Any], x: float, y: float) -> None:
        for inner in item.get("items", []):
            at = {"x": x + inner.get("x", 0), "y": y + inner.get("y", 0)}
            if item.get("marktype") == kind:
                found.append({**inner, **at, "panel": item.get("name", "").partition("_layer")[0]})
            else:
                walk(inner, **at)

    walk(vl_convert.vegalite_to_scenegraph(draw(name, data), vl_version="6.4")["scenegraph"], 0.0, 0.0)
    return found


def rows_of(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All rows of data in a specification."""
    for rows in spec["datasets"].values():
        yield from rows


CASES = [
    *product(FIGURES, ("full", "CPU only", "two kinds", "one model", "nothing")),
    ("memory_over_batch", "many batch sizes"),
    ("memory_over_batch", "published only"),
    ("speedup", "H200 only"),
    ("speedup", "measured only"),
]


def render(spec: dict[str, Any]) -> tuple[str, float]:
    """The SVG and its width in points."""
    vl_convert.register_font_directory(str(FONTS))
    svg = vl_convert.vegalite_to_svg(spec, vl_version="6.4")
    return svg, float(svg.partition('width="')[2].partition('"')[0])


@pytest.mark.parametrize(("name", "data"), CASES)
def test_every_figure_renders_within_the_page(name: str, data: str) -> None:
    svg, width = render(draw(name, data))
    assert width <= PAGE_WIDTH
    # A figure is as wide as a column or as the page, and nothing between: a sentence is narrower than both.
    assert width < SENTENCE or SENTENCE < width <= COLUMN_WIDTH + 6 or width > 0.9 * PAGE_WIDTH
    assert "bold" not in svg
    assert "NaN" not in svg


@pytest.mark.parametrize(("name", "data"), CASES)
def test_no_command_stands_in_a_figure(name: str, data: str) -> None:
    assert "snakemake" not in json.dumps(draw(name, data))


@pytest.mark.parametrize("name", ["throughput", "latency_over_batch", "pareto", "speedup", "performance_per_watt"])
def test_one_model_takes_a_column_and_several_take_the_page(name: str) -> None:
    assert render(draw(name, "one model"))[1] <= COLUMN_WIDTH + 6
    assert render(draw(name, "two kinds"))[1] > 0.9 * PAGE_WIDTH


@pytest.mark.parametrize(
    ("name", "data"),
    [("elasticity", "full"), ("cpu_threads", "full"), ("telemetry", "CPU only"), ("roofline", "CPU only")],
)
def test_a_figure_with_nothing_to_show_is_a_sentence(name: str, data: str) -> None:
    assert render(draw(name, data))[1] < SENTENCE


@pytest.mark.parametrize("name", ["generations", "precision"])
def test_figures_of_the_data_sheets_hold_many_gpus(name: str) -> None:
    keys = ["RTXPRO6000", *(f"RTX{number}090" for number in range(1, 11))]
    gpus = GPUS | {key: replace(GPUS["L4"], key=key) for key in keys}
    full = full_summary()
    asked = [full.coverage.head(1).with_columns(gpu=pl.lit(key)) for key in keys]
    summary = replace(full, gpus=gpus, coverage=pl.concat([full.coverage, *asked]))
    spec = load_figure(name)(summary).to_dict()
    assert render(spec)[1] <= COLUMN_WIDTH + 6
    for key in keys:
        assert key in json.dumps(spec)


@pytest.mark.parametrize(("count", "lengths"), [(1, [1]), (5, [5]), (6, [3, 3]), (11, [4, 4, 3]), (12, [4, 4, 4])])
def test_rows_are_few_and_even(count: int, lengths: list[int]) -> None:
    rows = in_rows(range(count), 5)
    assert [len(row) for row in rows] == lengths
    assert [item for row in rows for item in row] == list(range(count))


PAGES = [
    *((name, "five devices") for name in ON_GPUS if name not in ("telemetry", "p99_over_batch")),
    ("telemetry", "four devices"),
]
"""Six rows of devices with those that are published only; those of the telemetry are four times as high."""


@pytest.mark.parametrize(("name", "data"), PAGES)
def test_many_rows_and_the_caption_fit_on_a_page(name: str, data: str) -> None:
    height = float(draw_svg(name, data).partition('height="')[2].partition('"')[0])
    assert height + 6 + 9 * ceil(len(read_caption(name)) / 140) <= TEXT_HEIGHT


@pytest.mark.parametrize("name", ON_GPUS)
def test_only_devices_with_cells_take_room(name: str) -> None:
    text = json.dumps(draw(name, "full"))
    for gpu in GPUS.keys() - {"H200", "CPU"} - ({"H100"} if name == "elasticity" else set()):
        assert not re.search(rf"\b{gpu}\b", text), "not measured"


@pytest.mark.parametrize("name", ON_GPUS)
def test_nothing_at_all_is_one_sentence(name: str) -> None:
    assert render(draw(name, "nothing"))[1] < SENTENCE or name == "interval_coverage"


@pytest.mark.parametrize("name", [name for name in ON_GPUS if name not in (*UNPUBLISHED, "telemetry")])
def test_published_marks_say_so_and_stand_in_the_panel_of_their_card(name: str) -> None:
    """The published study's cards are drawn where they were measured, or where nothing was."""
    rows = [row for row in rows_of(draw(name, "full")) if "source" in row]
    assert {row["gpu"] for row in rows} <= {"H200", "CPU"}
    summary = synthetic_summary([synthetic_family("T4", "resnet50", "eager-fp32", size) for size in FEW])
    rows = [row for row in rows_of(load_figure(name)(summary).to_dict()) if "source" in row]
    published = [row for row in rows if row["source"] == "published"]
    assert {(row["gpu"], row["model"]) for row in published} <= {("T4", "resnet50")}
    assert published or name == "latency_by_model"


WITHOUT_FAILURES = ("telemetry", "performance_per_watt", "roofline", "elasticity", "interval_coverage")
FAILURES = [name for name in ON_GPUS if name not in WITHOUT_FAILURES]


def failures_shown(name: str) -> tuple[int, int]:
    """Crosses in the panels, those of the legend left out, and texts that say which mode was out of memory."""
    crosses = [m for m in marks_of(name, "full") if m["shape"] == "cross" and m["panel"].count("concat") > 1]
    texts = [str(mark["text"]) for mark in marks_of(name, "full", "text")]
    return len(crosses), sum(text_tells(text) for text in texts)


def text_tells(text: str) -> bool:
    return "out of memory" in text and ("eager-fp32" in text or "ResNet-101" in text)


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_family_is_marked(name: str) -> None:
    """ResNet-101 in eager-fp32 at 512 images is out of memory: a cross in its panel, or the words."""
    crosses, texts = failures_shown(name)
    assert crosses or texts
    (failure,) = full_summary().failed.to_dicts()
    if not texts:
        marks = [row for row in rows_of(draw(name, "full")) if row.get("status") == failure["status"]]
        keys = ("gpu", "model", "mode", "batch_size")
        assert {tuple(row[key] for key in keys) for row in marks} == {tuple(failure[key] for key in keys)}


def test_a_mode_that_failed_everywhere_is_told_in_words() -> None:
    rows = [synthetic_failure("H200", "resnet18", "graph-fp16", 8, "unsupported")]
    text = json.dumps(load_figure("throughput")(synthetic_summary(rows, published=False)).to_dict())
    assert "unsupported: graph-fp16 at 8" in text


def test_batch_sizes_that_were_not_measured_give_way_to_the_nearest() -> None:
    assert shown_batches([1, 512], [1, 8, 32]) == [1, 32]
    assert shown_batches([1, 512], []) == [1, 512]
    assert shown_batches([1, 2], [1]) == [1]


def test_an_empty_panel_says_which_reason_it_has() -> None:
    summary = full_summary()
    asked = summary.design.with_columns(models=pl.lit(["resnet18", "vgg16"], pl.List(pl.String)))
    summary = replace(summary, design=asked)

    def why(model: str) -> str:
        return why_empty(summary, "H200", "model", model, model, [])

    assert why("resnet18") == "The cells of H200 here (resnet18) do not have this value."
    assert why("resnet34") == "The study asks for no cells of H200 here (resnet34)."
    assert why("vgg16") == "The cells of H200 here (vgg16) are missing."


@pytest.mark.parametrize("data", ["full", "five devices", "two kinds"])
def test_every_mode_has_a_line_of_its_own_beside_its_name(data: str) -> None:
    marks = [mark for mark in marks_of("latency_by_model", data) if mark["panel"].count("concat") == 2]
    texts = marks_of("latency_by_model", data, "text")
    names = {mark["y"] for mark in texts if str(mark["text"]) in two_kinds_summary().modes}
    for panel in {mark["panel"] for mark in marks}:
        heights = sorted({round(mark["y"], 2) for mark in marks if mark["panel"] == panel})
        assert min([20.0, *(below - above for above, below in pairwise(heights))]) >= 4.5
        assert all(min(abs(name - height) for name in names) < 1.5 for height in heights)


def test_a_bar_joins_the_quickest_and_the_slowest_model_of_a_mode() -> None:
    rows = [{"mode": "m-fp32", "value": value, "primary": value > 2, "fill": str(value)} for value in (3.0, 1.0, 2.0)]
    assert model_bars(rows) == [{"mode": "m-fp32", "fill": "3.0", "quickest": 1.0, "slowest": 3.0}]
    assert model_bars(rows[:1]) == []


def test_no_peak_hides_another_in_its_place() -> None:
    """A graph's mark is larger than eager's and lies under it."""
    orange = precision_colour("fp16")
    of_colour = [mark for mark in marks_of("throughput", "full") if mark["fill"] == orange]
    peaks = [mark for mark in of_colour if mark.get("stroke") == INK]
    panels = {mark["panel"] for mark in peaks}
    assert len(panels) == len(RATE)
    for panel in panels:
        shapes = [mark["shape"] for mark in peaks if mark["panel"] == panel]
        assert shapes.index(LARGE_SQUARE) < shapes.index("circle") and len(shapes) == 3
    half_side = float(LARGE_SQUARE.partition(",")[2].partition("H")[0])
    assert abs(half_side) > 2 / math.sqrt(math.pi), "a circle of the same size in units of half a side"


def test_marks_or_dashes_tell_all_modes_of_a_colour_and_fp32_from_tf32() -> None:
    marks = {
        (runtime, precision): mode_mark(f"{runtime}-{precision}")
        for runtime in RUNTIME_KEYS
        for precision in PRECISION_KEYS
    }
    for precision in PRECISION_KEYS:
        of_colour = [shape for (_, other), (shape, _) in marks.items() if other == precision]
        assert len(set(of_colour)) == len(RUNTIME_KEYS)
    for runtime in ("eager", "tensorrt"):
        (shape, dash), (other_shape, other_dash) = marks[runtime, "fp32"], marks[runtime, "tf32"]
        assert shape != other_shape and dash != other_dash


def test_a_published_bound_is_drawn_as_one() -> None:
    stated = median_latencies(full_summary().published).filter(pl.col("gpu").is_in(["T4", "L4"]))
    wanted = sorted({1: 0, -1: 180}[BOUNDS[approx]] for approx in stated["approx"] if approx in BOUNDS)
    arrows = [mark for mark in marks_of("latency_over_batch", "published only") if mark["shape"] == ARROW]
    # One is the legend's, which points upwards.
    assert sorted(mark.get("angle", 0) for mark in arrows) == sorted([*wanted, 0]) and wanted
    assert "arrow: a bound is published" in json.dumps(draw("latency_over_batch", "published only"))
    assert ARROW not in json.dumps(draw("throughput", "published only"))
    signs = [mark["text"] for mark in marks_of("latency_by_model", "published only", "text")]
    sizes = full_summary().reporting["latency_batch_sizes"]
    shown = stated.filter(pl.col("batch_size").is_in(sizes))["approx"].to_list()
    assert sum(sign in ("<", ">") for sign in signs) == sum(approx in BOUNDS for approx in shown) > 0


def test_memory_is_the_most_of_cells_beside_the_allocators_peak() -> None:
    rows = [
        synthetic_family("H200", "resnet18", mode, size, memory_allocated_bytes=size * 2**30, sweeps=3)
        for mode in ("eager-fp32", "graph-fp16")
        for size in FEW
    ]
    summary = synthetic_summary([*rows, *cpu_rows()], published=False)
    spec = load_figure("memory_over_batch")(summary).to_dict()
    text = json.dumps(spec)
    assert "H200: 3 cells a point" in text and "thin line: allocator's peak" in text
    assert "CPU: 6 cells a point, peak resident set" in text
    lines = [row for row in rows_of(spec) if "allocated_gib" in row and row["allocated_gib"] == row["value"]]
    drawn = {(row["mode"], row["value"]) for row in lines}
    assert drawn >= {(mode, float(size)) for mode in ("eager-fp32", "graph-fp16") for size in FEW}
    genoa = [{**row, "gpu": "EPYCGenoa"} for row in cpu_rows()]
    text = json.dumps(load_figure("memory_over_batch")(synthetic_summary(genoa)).to_dict())
    assert "EPYCGenoa: 6 cells a point, peak resident set" in text and "allocator" not in text
    assert row_title(summary, "H200") == "H200: 3 sweeps a point"


def test_published_pairs_are_numbered_with_the_batch_size_of_their_throughput() -> None:
    spec = draw("pareto", "published only")
    numbers = {(row["gpu"], row["model"], row["value"]): row["number"] for row in rows_of(spec) if "number" in row}
    peaks = table1_peaks(full_summary().published)
    batches = {row[:3]: str(row[3]) for row in peaks.select("gpu", "model", "throughput_img_s", "batch_size").rows()}
    assert {key for key, number in numbers.items() if number == "?"} == {("T4", "resnet18", 700.0)}
    assert all(batches[key] == number for key, number in numbers.items() if number != "?")
    assert len(numbers) == pareto_pairs(full_summary().published).height


def test_modes_are_listed_from_the_plainest_to_the_most_specialised() -> None:
    modes = ["eager-fp32", "eager-tf32", "eager-fp16", "graph-fp16", "compile-fp16"]
    labels = [row["label"] for row in rows_of(draw("throughput", "full")) if "words" in row]
    assert list(dict.fromkeys(labels))[:6] == [*modes, "measured peak"]
    measured = full_summary().measured
    assert measured["mode"].unique(maintain_order=True).to_list() == modes
    assert measured.filter(pl.col("mode") == modes[-1])["batch_size"].to_list()[:5] == [1, 8, 32, 128, 512]


def test_the_marked_peaks_are_the_highest_throughputs() -> None:
    peaks = [row for row in rows_of(draw("throughput", "full")) if row.get("peak")]
    tops = tied_peaks(full_summary())
    drawn = {(row["gpu"], row["model"], row["mode"], row["value"]) for row in peaks}
    assert drawn == set(tops.iter_rows())


def tied_peaks(summary: Summary) -> pl.DataFrame:
    """The throughput of the smallest of the batch sizes that tie with the best of a curve."""
    tied = summary.measured.filter("tied").sort("batch_size")
    return tied.group_by("gpu", "model", "mode").agg(pl.col("throughput_img_s").first())


@pytest.mark.parametrize("name", ["pareto", "speedup"])
def test_specification_and_pictures_are_the_same_bytes_every_time(name: str, tmp_path: Path) -> None:
    contents = []
    for turn in "ab":
        files = [str(tmp_path / f"{turn}.{kind}") for kind in ("vl.json", "pdf", "svg", "png")]
        write_spec(load_figure(name)(full_summary()), files[0])
        render_spec(*files)
        contents.append([Path(file).read_bytes() for file in files])
    assert contents[0] == contents[1]
    assert contents[0][1].startswith(b"%PDF") and contents[0][3].startswith(b"\x89PNG")


def test_rendering_without_a_font_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DeepGapError, match="font"):
        render_spec(str(tmp_path / "s.json"), "a.pdf", "a.svg", "a.png", fonts=tmp_path)


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
def test_what_a_figure_declares_is_what_it_has_and_drawing_changes_nothing(name: str) -> None:
    module = importlib.import_module(f"deepgap.paper.figures.{name}")
    assert read_caption(name) == module.CAPTION and module.CAPTION.endswith(".")
    assert shown_devices(name) == getattr(module, "DEVICES", DEVICES)
    assert shown_values(name) == getattr(module, "SHOWS", SHOWS)
    assert not set(name) & set("0123456789") - {"9"}
    summary = full_summary()
    frames = {field.name: getattr(summary, field.name) for field in fields(Summary)}
    before = {key: frame.clone() for key, frame in frames.items() if isinstance(frame, pl.DataFrame)}
    chart = load_figure(name)
    assert chart(summary).to_dict() == chart(summary).to_dict()
    assert all(frames[key].equals(frame) for key, frame in before.items())


def test_the_published_processor_stands_beside_the_committed_one() -> None:
    genoa = [{**row, "gpu": "EPYCGenoa"} for row in cpu_rows()]
    spec = load_figure("throughput")(synthetic_summary([*h200_rows(), *genoa])).to_dict()
    places = {(row["gpu"], row["source"]) for row in rows_of(spec) if "source" in row}
    assert {("EPYCGenoa", "measured"), ("EPYCGenoa", "published"), ("H200", "measured")} <= places
    assert "CPU" not in {gpu for gpu, _ in places}
    assert "EPYCGenoa: 6 sweeps a point; hollow: published, Granite Rapids" in json.dumps(spec)


def test_a_processor_has_batch_sizes_of_its_own() -> None:
    genoa = [{**row, "gpu": "EPYCGenoa"} for row in cpu_rows()]
    summary = synthetic_summary([*h200_rows(), *genoa])
    axes = [
        batch_axis(summary, summary.measured.with_columns(source=pl.lit("measured")).to_dicts(), gpu)
        for gpu in ("H200", "EPYCGenoa")
    ]
    assert [axis.high for axis in axes] == [512 * 1.25, 8 * 1.25]


def test_a_study_without_a_processor_in_the_hardware_facts_is_drawn() -> None:
    gpus = {key: gpu for key, gpu in GPUS.items() if gpu.device == "cuda"}
    summary = replace(synthetic_summary(h200_rows()), gpus=gpus)
    assert summary.processor == "CPU"
    for name in RESULTS:
        load_figure(name)(summary)


def test_models_stand_in_the_order_of_the_study() -> None:
    models = ("vit_b_16", "resnet50", "convnext_tiny")
    rows = [row | {"model": model} for model in models for row in h200_rows() if row["model"] == "resnet18"]
    summary = synthetic_summary(rows, published=False)
    assert summary.measured["model"].unique(maintain_order=True).to_list() == list(models)
    text = json.dumps(load_figure("throughput")(summary).to_dict())
    assert text.index("ViT-B/16") < text.index("ResNet-50") < text.index("ConvNeXt-Tiny")


def test_grounds_stand_behind_what_launching_bounds_and_what_the_power_limit_holds() -> None:
    spots = [mark for mark in marks_of("throughput", "two kinds") if mark["fill"] in (LAUNCH_GROUND, HELD_GROUND)]
    families = two_kinds_summary().measured
    held = families.filter(pl.col("flags").list.contains("power_held")).height
    assert sum(mark["fill"] == LAUNCH_GROUND for mark in spots) == families.filter("launch_bound").height > 0
    assert sum(mark["fill"] == HELD_GROUND for mark in spots) == held > 0
    labels = [row["label"] for row in rows_of(draw("throughput", "two kinds")) if "words" in row]
    assert {"light ground: launch-bound", "dark ground: power-held"} <= set(labels)
    assert lightness_of(LAUNCH_GROUND) - lightness_of(HELD_GROUND) >= 8, "they differ in grey"


def test_all_gpus_have_one_scale() -> None:
    spec = draw("throughput", "two kinds")
    rows = {row["gpu"]: [] for row in rows_of(spec) if row.get("source") == "measured"}
    assert set(rows) == {"H100", "H200"}
    domains = {str(domain) for domain in domains_of(spec, "value")}
    assert len(domains) == 1


def domains_of(item: Any, field: str) -> Iterator[list[float]]:
    """The vertical scales of a field anywhere in a specification."""
    if isinstance(item, dict):
        y = item.get("y")
        if isinstance(y, dict) and y.get("field") == field and y.get("scale"):
            yield y["scale"]["domain"]
        for inner in item.values():
            yield from domains_of(inner, field)
    elif isinstance(item, list):
        for inner in item:
            yield from domains_of(inner, field)


def curve(values: dict[int, float]) -> list[dict[str, Any]]:
    about = {"gpu": "H200", "model": "m", "mode": "a", "runtime": "eager", "precision": "fp32", "source": "measured"}
    return [about | {"batch_size": size, "value": value} for size, value in values.items()]


def test_residuals_are_off_the_line_of_least_relative_squares() -> None:
    assert [row["residual_percent"] for row in with_residuals(curve({1: 3.0, 8: 10.0, 32: 34.0}))] == pytest.approx(
        [0, 0, 0], abs=1e-9
    )
    off = [row["residual_percent"] for row in with_residuals(curve({1: 3.0, 8: 12.0, 32: 34.0}))]
    assert off[1] > 0 > off[0] and all(abs(value) < 20 for value in off)
    assert [row["residual_percent"] for row in with_residuals(curve({1: 3.0, 8: 12.0}))] == [None, None]


def test_what_an_image_adds_is_the_median_slope() -> None:
    (slope,) = image_slopes(curve({1: 1.0, 9: 1.0 + 8 / 1024, 17: 1.0 + 16 / 1024, 33: 1.0 + 32 / 1024}))
    assert slope["mib"] == pytest.approx(1.0) and slope["words"] == "1.0"
    assert image_slopes(curve({1: 1.0, 2: 2.0})) == []


def test_fronts_are_by_class_of_fidelity() -> None:
    summary = two_kinds_summary()
    near = near_modes(summary)
    assert ("H200", "resnet50", "cudnn-fp16") in near and ("H200", "resnet50", "eager-fp32") in near
    assert not any(mode == "cudnn-int8" for *_, mode in near)
    rows = [{"median_ms": latency, "value": value} for latency, value in ((1.0, 5.0), (2.0, 4.0), (3.0, 9.0))]
    assert find_front(rows) == [rows[0], rows[2]]


def test_a_diagonal_is_of_one_power_and_the_last_is_the_tdp() -> None:
    x, y = Axis(None, 10.0, 1e4, (), 10, horizontal=True), Axis(None, 1.0, 100.0, (), 10)
    lines = power_lines([{"throughput_img_s": 1000.0, "value": 5.0}], 700.0, x, y, 200)
    assert lines[0]["watts"] == 700.0 and lines[0]["words"] == "700 W"
    for line in lines:
        assert line["left"] / line["bottom"] == pytest.approx(line["right"] / line["top"])
        assert line["left"] / line["bottom"] == pytest.approx(line["watts"])


def test_elasticity_is_drawn_only_where_both_kinds_have_cells() -> None:
    points = elastic_points(two_kinds_summary(), "H200", "H100")
    assert len(points) == two_kinds_summary().measured.height / 2
    of_fp32 = [row["value"] for row in points if row["precision"] == "fp32"]
    of_fp16 = [row["value"] for row in points if row["precision"] == "fp16" and row["batch_size"] == 512]
    assert abs(sum(of_fp32) / len(of_fp32)) < 0.1 < 0.4 < min(of_fp16)
    assert elastic_points(full_summary(), "H200", "H100") == []


@pytest.fixture(scope="module")
def nine_models() -> Summary:
    """Eight models on the processor, and another one on a GPU: most panels are of words."""
    modes, batches = ("eager-fp32", "ort-fp32", "ort-int8"), (1, 8)
    rows = [synthetic_family("CPU", "resnet18", mode, batch) for mode in modes for batch in batches]
    rows = [row | {"model": f"resnet{number}"} for number in range(10, 18) for row in rows]
    return synthetic_summary([*rows, *(row for row in h200_rows(batches) if row["model"] == "resnet50")])


@pytest.mark.parametrize("name", FIGURES)
def test_a_study_of_many_models_is_drawn(name: str, nine_models: Summary) -> None:
    load_figure(name)(nine_models)
