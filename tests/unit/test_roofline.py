"""Figures 15 to 17: what they place where, on invented numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import polars as pl
import pytest

from deepgap.analyse.schemas import FIDELITY
from deepgap.paper.charts.axes import log_axis
from deepgap.paper.charts.layout import PANEL_HEIGHT
from deepgap.paper.figures import load_figure
from deepgap.paper.figures.cpu_threads import end_labels, ideal_lines, thread_axis, thread_points
from deepgap.paper.figures.fidelity_against_speed import (
    decibel_axis,
    fidelity_points,
    percent_down,
    spread_labels,
)
from deepgap.paper.figures.roofline import describe_limits, find_ridges, last_in_cache, peak_roofs, place_point
from tests.unit.synthetic import (
    GPUS,
    cpu_summary,
    full_summary,
    synthetic_family,
    synthetic_fidelity,
    synthetic_summary,
)


def point(gpu: str, precision: str, batch_size: int, value: float = 1000.0) -> dict[str, Any]:
    row = {"gpu": gpu, "model": "resnet18", "precision": precision, "batch_size": batch_size}
    placed = place_point(row | {"value": value, "low": None, "high": 2 * value}, GPUS[gpu])
    assert placed is not None
    return placed


def test_a_point_is_operations_a_second_and_a_byte() -> None:
    placed = point("L4", "fp16", 8)
    assert placed["value"] == pytest.approx(1000 * 2 * 1.81e9 / 1e12)
    assert (placed["low"], placed["high"]) == (None, pytest.approx(2 * placed["value"]))
    assert point("L4", "fp32", 8)["intensity"] == pytest.approx(placed["intensity"] / 2)


def test_the_facts_of_a_graph_place_any_model_and_without_them_an_unknown_one_has_no_place() -> None:
    row = {
        "gpu": "L4",
        "model": "odd",
        "precision": "fp16",
        "batch_size": 4,
        "value": 10.0,
        "low": None,
        "high": None,
    }
    facts = {
        "activation_elements": 80,
        "largest_activation_elements": 40,
        "weight_elements": 80,
        "multiply_adds": 500,
    }
    placed = place_point(row, GPUS["L4"], facts)
    assert placed is not None and placed["intensity"] == pytest.approx(1000 / (2 * (80 + 80 / 4)))
    assert placed["value"] == pytest.approx(10 * 1000 / 1e12) and placed["in_cache"]
    assert place_point(row, GPUS["L4"], facts | {"weight_elements": None}) is None
    assert place_point(row, GPUS["L4"]) is None


@pytest.mark.parametrize(
    ("gpu", "precision", "batch_size", "fits"),
    # 64 x 112 x 112 elements an image in 48 MiB: 15.67 images of four bytes.
    [
        ("L4", "fp32", 15, True),
        ("L4", "fp32", 16, False),
        ("L4", "int8", 62, True),
        ("L4", "int8", 63, False),
        ("H200", "fp32", 19, True),
        ("H200", "fp32", 20, False),
        ("CPU", "int8", 1, None),
    ],
)
def test_the_cache_holds_the_largest_activation_or_is_not_known(
    gpu: str, precision: str, batch_size: int, fits: bool | None
) -> None:
    assert point(gpu, precision, batch_size)["in_cache"] is fits


def test_the_last_batch_size_in_the_cache_is_marked() -> None:
    rows = [
        point("L4", precision, size) | {"mode": precision} for size in (8, 64, 16) for precision in ("fp32", "int8")
    ]
    last = {row["mode"]: row["batch_size"] for row in last_in_cache(rows)}
    assert last == {"fp32": 8, "int8": 16}


def test_roofs_are_those_of_gpus_yaml_and_nothing_is_invented() -> None:
    rows = [{"precision": precision} for precision in ("fp16", "int8", "tf32")]
    assert peak_roofs(GPUS["T4"], rows) == {"fp16": 65, "int8": 130}
    assert find_ridges(GPUS["T4"], rows[:1]) == [pytest.approx(65e12 / 320e9)]
    assert peak_roofs(GPUS["CPU"], [{"precision": "fp32"}]) == {}
    text = json.dumps(load_figure("roofline")(full_summary()).to_dict())
    assert "L2 60 MiB" in text and "L2 48 MiB" in text
    assert describe_limits(replace(GPUS["L4"], l2_cache_mib=None))[1] == "L2 capacity not in gpus.yaml"
    assert "CPU: no peak or no bandwidth in config/gpus.yaml, so no roofs." in text
    alone = synthetic_summary([synthetic_family("CPU", "resnet18", "eager-fp32", 1)], published=False)
    assert "so no roofs" in json.dumps(load_figure("roofline")(alone).to_dict())


def test_fidelity_stands_at_the_peak_of_its_mode() -> None:
    summary = full_summary()
    points = {(row["gpu"], row["model"], row["mode"]): row for row in fidelity_points(summary)}
    tops = (
        summary.measured.filter("tied")
        .sort("batch_size")
        .group_by("gpu", "model", "mode")
        .agg(pl.col("throughput_img_s").first())
    )
    assert {key: row["value"] for key, row in points.items()} == {row[:3]: row[3] for row in tops.iter_rows()}
    assert points["H200", "resnet18", "eager-tf32"]["sqnr_db"] == pytest.approx(61.04)
    assert points["CPU", "resnet18", "eager-fp32"]["identical"]


def test_answers_that_are_exact_or_not_finite_have_places_of_their_own() -> None:
    modes = ("eager-fp32", "eager-tf32", "eager-fp16")
    rows = [synthetic_family("H200", "resnet18", mode, 8) for mode in modes]
    fidelity = [synthetic_fidelity("H200", "resnet18", mode) for mode in modes]
    fidelity[2] |= {"sqnr_db": None, "cosine": None, "all_finite": False}
    summary = replace(synthetic_summary(rows, published=False), fidelity=pl.DataFrame(fidelity, schema=FIDELITY))
    spec = load_figure("fidelity_against_speed")(summary).to_dict()
    placed = {
        row["mode"]: row["place"]
        for data in spec["datasets"].values()
        for row in data
        if "place" in row and "mode" in row
    }
    axis = decibel_axis([61.04])
    assert placed["eager-tf32"] == pytest.approx(61.04)
    assert placed["eager-fp16"] == axis.low < 61.04 < axis.ticks[-1] < placed["eager-fp32"] < axis.high


def test_labels_beside_marks_do_not_overlap() -> None:
    x, y = decibel_axis([20.0, 60.0]), log_axis("", [100.0, 10_000.0])
    values = (1000.0, 1400.0, 2000.0, 300.0)
    rows = [{"place": 55.0, "value": value, "agreement": "100.0 %"} for value in values]
    heights = sorted(row["label_y"] for row in spread_labels(rows, x, y, PANEL_HEIGHT))
    assert len(heights) == 4 and all(below - above >= 7 for above, below in pairwise(heights))


def test_marks_on_each_other_share_a_label() -> None:
    x, y = decibel_axis([20.0, 60.0]), log_axis("", [100.0, 10_000.0])

    def words(*agreements: str) -> list[str]:
        rows = [{"place": 55.0, "value": 1000.0 - i, "agreement": share} for i, share in enumerate(agreements)]
        return [row["words"] for row in spread_labels(rows, x, y, PANEL_HEIGHT)]

    assert words("100.0 %", "100.0 %") == ["100.0 %"]
    assert words("99.2 %", "100.0 %") == ["99.2 %, 100.0 %"]


@pytest.mark.parametrize(("share", "text"), [(1.0, "100.0 %"), (0.99999, "99.9 %"), (0.29, "29.0 %"), (None, "")])
def test_a_share_is_rounded_down(share: float | None, text: str) -> None:
    assert percent_down(share) == text


def threads_rows() -> list[dict[str, Any]]:
    return [
        synthetic_family(
            "CPU",
            "resnet50",
            "eager-fp32",
            batch,
            threads=threads,
            intraop_threads=threads or 8,
            throughput_img_s=speed,
        )
        for batch, speeds in ((1, {1: 10.0, 4: 30.0, 0: 40.0}), (8, {1: 10.5, 4: 33.0, 0: 41.0}))
        for threads, speed in speeds.items()
    ]


def test_all_cores_stand_at_their_real_number() -> None:
    points = thread_points(synthetic_summary(threads_rows()))
    assert sorted((row["batch_size"], row["threads"], row["value"]) for row in points) == [
        (1, 1, 10.0),
        (1, 4, 30.0),
        (1, 8, 40.0),
        (8, 1, 10.5),
        (8, 4, 33.0),
        (8, 8, 41.0),
    ]


def test_the_ideal_is_in_proportion_from_the_fewest_threads() -> None:
    points = thread_points(synthetic_summary(threads_rows()))
    assert [(line["left"], line["right"], line["bottom"], line["top"]) for line in ideal_lines(points)] == [
        (1, 8, 10.0, 80.0),
        (1, 8, 10.5, 84.0),
    ]


def test_each_line_has_its_batch_size_at_its_end_in_the_order_of_the_lines() -> None:
    points = thread_points(synthetic_summary(threads_rows()))
    y = log_axis("", [10.0, 80.0])
    for factor, words in ((1.0, ["B=8", "B=1"]), (2.0, ["B=8", "B=1"]), (0.97, ["B=1", "B=8"])):
        moved = [row if row["batch_size"] == 1 else {**row, "value": factor * row["value"]} for row in points]
        above, below = end_labels(moved, y, PANEL_HEIGHT)
        assert [above["words"], below["words"]] == words
        assert 0 < above["label_y"] <= below["label_y"] - 7 < PANEL_HEIGHT
    assert thread_axis([1, 8]).high > 8


def test_without_several_numbers_of_threads_the_figure_is_a_sentence() -> None:
    text = json.dumps(load_figure("cpu_threads")(cpu_summary()).to_dict())
    assert "No processor was measured with several numbers of threads" in text and "--config gpu=CPU" in text
