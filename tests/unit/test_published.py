"""The transcription of the published study and its views."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from deepgap.analyse.schemas import PUBLISHED_VALUES
from deepgap.errors import DeepGapError
from deepgap.published.values import (
    CPU,
    device_memory,
    median_latencies,
    pareto_pairs,
    read_published,
    speedup_ranges,
    sweep_batch_sizes,
    table1_peaks,
)
from tests.unit.synthetic import ROOT

FILE = ROOT / "data/published/deep_gap.csv"


@pytest.fixture(scope="module")
def values() -> pl.DataFrame:
    return read_published(FILE)


def one(view: pl.DataFrame, gpu: str, model: str, precision: str) -> list[dict[str, object]]:
    return view.filter(gpu=gpu, model=model, precision=precision).to_dicts()


def test_every_row_is_read_with_the_contract_schema_and_marked_as_published(values: pl.DataFrame) -> None:
    assert values.schema == PUBLISHED_VALUES
    assert values.height == len(FILE.read_text(encoding="utf-8").splitlines()) - 1
    assert set(values["source"]) == {"published"}


def test_runtimes_have_the_projects_names(values: pl.DataFrame) -> None:
    assert set(values["runtime"].drop_nulls()) == {"eager", "tensorrt", "tensorrt/eager"}


def test_table1_has_each_cell_once_and_keeps_what_is_not_available_null(values: pl.DataFrame) -> None:
    peaks = table1_peaks(values)
    assert peaks.height == 2 + 2 * 3 * 3
    assert peaks.select("gpu", "model", "precision").is_duplicated().sum() == 0
    (top,) = one(peaks, "L4", "resnet18", "int8")
    assert (top["batch_size"], top["throughput_img_s"], top["speedup_vs_cpu"]) == (32, 38932, 58.11)
    assert peaks.filter(pl.col("speedup_vs_cpu").is_null())["model"].unique().to_list() == ["resnet101"]
    assert peaks.filter(gpu=CPU)["throughput_img_s"].to_list() == [670, 230]


def test_published_speedups_follow_from_published_throughputs(values: pl.DataFrame) -> None:
    peaks = table1_peaks(values)
    base = peaks.filter(gpu=CPU).select("model", base="throughput_img_s")
    joined = peaks.join(base, on="model").with_columns(ratio=pl.col("throughput_img_s") / pl.col("base"))
    assert joined.select(((pl.col("ratio") - pl.col("speedup_vs_cpu")).abs() < 0.011).all()).item()


def test_latencies_name_their_batch_and_repeated_statements_count_once(values: pl.DataFrame) -> None:
    latencies = median_latencies(values)
    assert set(latencies["batch_size"]) == {1, 512}
    assert [row["median_ms"] for row in one(latencies, "T4", "resnet18", "fp32")] == [6, 400]


def test_memory_is_converted_from_decimal_gigabytes(values: pl.DataFrame) -> None:
    (row,) = one(device_memory(values), "T4", "resnet18", "fp32")
    assert row["memory_gib"] == pytest.approx(4.9e9 / 2**30)
    assert row["batch_size"] is None


def test_a_pareto_pair_joins_the_peak_with_a_latency_of_another_batch(values: pl.DataFrame) -> None:
    (pair,) = one(pareto_pairs(values), "L4", "resnet18", "int8")
    assert (pair["throughput_img_s"], pair["median_ms"]) == (38932, 15)


def test_pareto_values_out_of_step_are_refused(values: pl.DataFrame) -> None:
    broken = values.with_row_index().filter(
        pl.col("index") != pl.arg_where(pl.col("quantity") == "pareto_latency").first()
    )
    with pytest.raises(DeepGapError, match="pairs"):
        pareto_pairs(broken.drop("index"))


def test_models_without_a_range_of_their_own_take_the_general_one(values: pl.DataFrame) -> None:
    ranges = speedup_ranges(values)
    (own,) = one(ranges, "T4", "resnet50", "fp16")
    (general,) = one(ranges, "L4", "resnet50", "fp16")
    assert (own["low"], own["high"]) == (2.1, 2.3)
    assert (general["low"], general["high"]) == (1.6, 2.1)
    assert (ranges["low"] <= ranges["high"]).all()


def test_the_sweep_is_the_published_one(values: pl.DataFrame) -> None:
    assert sweep_batch_sizes(values) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 384, 512]


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [("section,gpu", "part,gpu", "columns"), (",1289,", ",many,", "a positive number, or NA")],
)
def test_a_damaged_transcription_is_refused_in_one_sentence(tmp_path: Path, old: str, new: str, match: str) -> None:
    file = tmp_path / "published.csv"
    file.write_text(FILE.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(DeepGapError, match=match):
        read_published(file)


def test_a_missing_transcription_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeepGapError, match="missing"):
        read_published(tmp_path / "none.csv")


def test_views_of_nothing_are_empty() -> None:
    nothing = pl.DataFrame(schema=PUBLISHED_VALUES)
    for view in (table1_peaks, median_latencies, device_memory, pareto_pairs, speedup_ranges):
        assert view(nothing).is_empty()
