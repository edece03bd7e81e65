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
from deepgap.paper.charts.layout import PANEL_HEIGHT, Place
from deepgap.paper.figures import load_figure
from deepgap.paper.figures.cpu_threads import end_labels, ideal_lines, thread_axis, thread_points
from deepgap.paper.figures.fidelity_against_speed import agreement_axis, fidelity_points, spread_labels
from deepgap.paper.figures.roofline import nearer_roofs, place_point
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


def test_a_point_is_the_share_of_the_lower_of_two_limits() -> None:
    placed = point("L4", "fp16", 8)
    limit = 300e9 * placed["intensity"]
    assert placed["roof"] == "DRAM" and limit < 121e12
    assert placed["value"] == pytest.approx(100 * 1000 * 2 * 1.81e9 / limit)
    assert (placed["low"], placed["high"]) == (None, pytest.approx(2 * placed["value"]))
    fp32 = point("L4", "fp32", 8)
    assert fp32["intensity"] == pytest.approx(placed["intensity"] / 2)
    slow = replace(GPUS["L4"], peak_tops={"fp32": 0.5})
    row = {
        "gpu": "L4",
        "model": "resnet18",
        "precision": "fp32",
        "batch_size": 8,
        "value": 10,
        "low": None,
        "high": 10,
    }
    bound = place_point(row, slow)
    assert bound is not None and bound["roof"] == "peak"
    assert bound["value"] == pytest.approx(100 * 10 * 2 * 1.81e9 / 0.5e12)


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
    assert placed["value"] == pytest.approx(100 * 10 * 1000 / (300e9 * placed["intensity"]))
    assert place_point(row, GPUS["L4"], facts | {"weight_elements": None}) is None
    assert place_point(row, GPUS["L4"]) is None


def test_the_nearer_roof_is_told_in_words() -> None:
    rows = [
        {"model": model, "batch_size": size, "roof": roof}
        for model, size, roof in (
            ("resnet18", 1, "peak"),
            ("resnet18", 8, "DRAM"),
            ("resnet50", 8, "DRAM"),
            ("vit_b_16", 8, "peak"),
        )
    ]
    models = ["resnet18", "resnet50", "vit_b_16"]
    assert nearer_roofs(rows, models) == "DRAM; ViT-B/16: peak"
    assert nearer_roofs(rows[:3], models) == "DRAM"


def test_a_device_without_roofs_has_no_panel() -> None:
    assert place_point({"model": "resnet18", "precision": "fp32", "batch_size": 1}, GPUS["CPU"]) is None
    assert not any(row.get("gpu") == "CPU" for row in rows_in(load_figure("roofline")(full_summary()).to_dict()))
    alone = synthetic_summary([synthetic_family("CPU", "resnet18", "eager-fp32", 1)], published=False)
    assert "No roof is known for CPU." in json.dumps(load_figure("roofline")(alone).to_dict())


def rows_in(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for rows in spec["datasets"].values() for row in rows]


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


def test_answers_that_are_exact_or_not_finite_say_so() -> None:
    modes = ("eager-fp32", "eager-tf32", "eager-fp16")
    rows = [synthetic_family("H200", "resnet18", mode, 8) for mode in modes]
    fidelity = [synthetic_fidelity("H200", "resnet18", mode) for mode in modes]
    fidelity[2] |= {"sqnr_db": None, "cosine": None, "all_finite": False}
    summary = replace(synthetic_summary(rows, published=False), fidelity=pl.DataFrame(fidelity, schema=FIDELITY))
    words = {row["mode"]: row["words"] for row in fidelity_points(summary)}
    assert words == {"eager-fp32": "exact", "eager-tf32": "61", "eager-fp16": ""}
    for row in fidelity_points(summary):
        assert row["agreement_low"] < row["agreement"] == row["agreement_high"] == 100.0


def test_labels_beside_marks_do_not_overlap() -> None:
    x, y = agreement_axis([97.0]), log_axis("", [100.0, 10_000.0])
    place = Place(inner=False, bottom=True)
    values = (1000.0, 1400.0, 2000.0, 300.0)
    rows = [{"agreement_high": 100.0, "value": value, "words": f"{value}"} for value in values]
    heights = sorted(row["label_y"] for row in spread_labels(rows, x, y, place))
    assert len(heights) == 4 and all(below - above >= 7 for above, below in pairwise(heights))


def test_marks_on_each_other_share_a_label() -> None:
    x, y = agreement_axis([97.0]), log_axis("", [100.0, 10_000.0])
    place = Place(inner=False, bottom=True)

    def words(*told: str) -> list[str]:
        rows = [{"agreement_high": 100.0, "value": 1000.0 - i, "words": text} for i, text in enumerate(told)]
        return [row["words"] for row in spread_labels(rows, x, y, place)]

    assert words("53", "53") == ["53"]
    assert words("53", "61") == ["53, 61"]
    assert words("", "61") == ["61"]


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
    assert "No processor was measured with 3 numbers of threads or more" in text
    two = [row for row in threads_rows() if row["threads"] != 4]
    assert thread_points(synthetic_summary(two)) == []
