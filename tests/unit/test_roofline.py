"""Figures 15 to 17: what they place where, on invented numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import polars as pl
import pytest

from deepgap.figures import load_figure
from deepgap.figures.fig15_roofline import find_ridges, peak_roofs, place_point
from deepgap.figures.fig16_fidelity_against_speed import decibel_axis, fidelity_points, percent_down, spread_labels
from deepgap.figures.fig17_cpu_threads import end_labels, ideal_lines, thread_axis, thread_points
from deepgap.panels import PANEL_HEIGHT, log_axis
from deepgap.summary import FIDELITY
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
    return place_point(row | {"value": value, "low": None, "high": 2 * value}, GPUS[gpu])


def test_a_point_is_operations_a_second_and_a_byte() -> None:
    placed = point("L4", "fp16", 8)
    assert placed["value"] == pytest.approx(1000 * 2 * 1.81e9 / 1e12)
    assert (placed["low"], placed["high"]) == (None, pytest.approx(2 * placed["value"]))
    assert point("L4", "fp32", 8)["intensity"] == pytest.approx(placed["intensity"] / 2)


@pytest.mark.parametrize(
    ("gpu", "precision", "batch_size", "fits"),
    # 64 x 112 x 112 elements an image in 48 MiB: 15.67 images of four bytes.
    [
        ("L4", "fp32", 15, True),
        ("L4", "fp32", 16, False),
        ("L4", "int8", 62, True),
        ("L4", "int8", 63, False),
        ("H200", "int8", 1, None),
    ],
)
def test_the_cache_holds_the_largest_activation_or_is_not_known(
    gpu: str, precision: str, batch_size: int, fits: bool | None
) -> None:
    assert point(gpu, precision, batch_size)["in_cache"] is fits


def test_roofs_are_those_of_gpus_yaml_and_nothing_is_invented() -> None:
    rows = [{"precision": precision} for precision in ("fp16", "int8", "tf32")]
    assert peak_roofs(GPUS["T4"], rows) == {"fp16": 65, "int8": 130}
    assert find_ridges(GPUS["T4"], rows[:1]) == [pytest.approx(65e12 / 320e9)]
    assert peak_roofs(GPUS["CPU"], [{"precision": "fp32"}]) == {}
    text = json.dumps(load_figure("fig15_roofline")(full_summary()).to_dict())
    assert "L2 capacity not in gpus.yaml" in text and "L2 48 MiB" in text
    assert "CPU: no peak or no bandwidth in config/gpus.yaml, so no roofs." in text
    alone = synthetic_summary([synthetic_family("CPU", "resnet18", "eager-fp32", 1)], published=False)
    assert "so no roofs" in json.dumps(load_figure("fig15_roofline")(alone).to_dict())


def test_fidelity_stands_at_the_peak_of_its_mode() -> None:
    summary = full_summary()
    points = {(row["gpu"], row["model"], row["mode"]): row for row in fidelity_points(summary)}
    tops = summary.measured.group_by("gpu", "model", "mode").agg(pl.col("throughput_img_s").max())
    assert {key: row["value"] for key, row in points.items()} == {row[:3]: row[3] for row in tops.iter_rows()}
    assert points["H200", "resnet18", "eager-tf32"]["sqnr_db"] == pytest.approx(61.04)
    assert points["CPU", "resnet18", "eager-fp32"]["identical"]


def test_answers_that_are_exact_or_not_finite_have_places_of_their_own() -> None:
    modes = ("eager-fp32", "eager-tf32", "eager-fp16")
    rows = [synthetic_family("H200", "resnet18", mode, 8) for mode in modes]
    fidelity = [synthetic_fidelity("H200", "resnet18", mode) for mode in modes]
    fidelity[2] |= {"sqnr_db": None, "cosine": None, "all_finite": False}
    summary = replace(synthetic_summary(rows, published=False), fidelity=pl.DataFrame(fidelity, schema=FIDELITY))
    spec = load_figure("fig16_fidelity_against_speed")(summary).to_dict()
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
    rows = [{"place": 55.0, "value": value} for value in (1000.0, 1010.0, 1020.0, 300.0)]
    heights = sorted(row["label_y"] for row in spread_labels(rows, x, y))
    assert all(below - above >= 7 for above, below in pairwise(heights))


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


def test_batch_sizes_that_end_in_one_place_share_a_label() -> None:
    points = thread_points(synthetic_summary(threads_rows()))
    y = log_axis("", [10.0, 80.0])
    (label,) = end_labels(points, y)
    assert label["words"] == "B=1, 8" and 0 < label["label_y"] < PANEL_HEIGHT
    apart = [row if row["batch_size"] == 1 else {**row, "value": 2 * row["value"]} for row in points]
    assert [label["words"] for label in end_labels(apart, y)] == ["B=8", "B=1"]
    assert thread_axis([1, 8]).high > 8


def test_without_several_numbers_of_threads_the_figure_is_a_sentence() -> None:
    text = json.dumps(load_figure("fig17_cpu_threads")(cpu_summary()).to_dict())
    assert "No processor was measured with several numbers of threads" in text and "--config gpu=CPU" in text
