"""Measured over published, on invented numbers."""

from __future__ import annotations

from typing import Any

import pytest

from deepgap.analyse.summary import Summary
from deepgap.paper.latex import render
from deepgap.paper.tables import load_table
from tests.unit.synthetic import ROOT, cpu_rows, empty_summary, synthetic_family, synthetic_summary


def context(name: str, summary: Summary) -> dict[str, Any]:
    return load_table(name)(summary)


def tex(name: str, summary: Summary) -> str:
    return render(ROOT / f"paper/templates/{name}.tex.j2", context(name, summary))


def t4_rows() -> list[dict[str, Any]]:
    """A T4 with its published peak batch of ResNet-18 in FP32, 384, and another that is much faster."""
    flat = {"throughput_low_img_s": 1200.0, "throughput_high_img_s": 1400.0}
    slow = {"median_ms": 5.0, "median_low_ms": 4.8, "median_high_ms": 5.4}
    return [
        synthetic_family("T4", "resnet18", "eager-fp32", 1, throughput_img_s=200.0, **slow),
        synthetic_family("T4", "resnet18", "eager-fp32", 384, throughput_img_s=1300.0, **flat),
        synthetic_family("T4", "resnet18", "eager-fp32", 512, throughput_img_s=1800.0, median_ms=380.0),
    ]


def test_a_gpu_with_both_is_compared_at_its_peaks_and_at_each_published_batch() -> None:
    table = context("reproduction", synthetic_summary(t4_rows()))
    assert (table["compared"], table["missing"], table["processor"]) == (["T4"], ["L4", "CPU"], None)
    rows = {(row["quantity"], row["batch"]): row for row in table["rows"]}
    assert set(rows) == {
        ("peak (img/s)", "512 / 384"),
        ("throughput (img/s)", "384"),
        ("median latency (ms)", "1"),
        ("median latency (ms)", "512"),
    }
    same = rows["throughput (img/s)", "384"]
    assert (same["published"], same["measured"], same["ratio"]) == (1289, 1300, pytest.approx(1300 / 1289))
    assert (same["ratio_low"], same["ratio_high"]) == (pytest.approx(1200 / 1289), pytest.approx(1400 / 1289))
    assert rows["peak (img/s)", "512 / 384"]["ratio"] == pytest.approx(1800 / 1289)
    assert rows["median latency (ms)", "1"]["ratio_high"] == pytest.approx(5.4 / 6)
    assert rows["median latency (ms)", "512"]["bound"] == "over"
    assert "over \\num{400}" in tex("reproduction", synthetic_summary(t4_rows()))


def test_a_published_fp32_is_held_against_tf32_too_where_there_is_any() -> None:
    rows = [synthetic_family("L4", "resnet18", mode, 8) for mode in ("eager-fp32", "eager-tf32", "eager-fp16")]
    table = context("reproduction", synthetic_summary(rows))
    at_batch = {row["mode"]: row["published"] for row in table["rows"] if row["quantity"] == "throughput (img/s)"}
    # FP16 was published at batch 16.
    assert at_batch == {"eager-fp32": 3483, "eager-tf32": 3483}
    assert {row["mode"] for row in table["rows"] if row["quantity"] == "peak (img/s)"} == {*at_batch, "eager-fp16"}


def test_a_processor_is_compared_and_said_to_be_another_one() -> None:
    table = context("reproduction", synthetic_summary(cpu_rows()))
    assert {row["gpu"] for row in table["rows"]} == {"CPU"}
    assert "Granite Rapids" in tex("reproduction", synthetic_summary(cpu_rows()))
    assert table["missing"] == ["T4", "L4"]


def test_without_both_the_table_is_a_sentence_that_says_how_to_get_it() -> None:
    text = tex("reproduction", synthetic_summary([]))
    assert "tabular" not in text
    assert "No device has both measured and published values (published: T4, L4, CPU)" in text and "gpu=T4" in text
    assert "Nothing is published" in tex("reproduction", empty_summary())
