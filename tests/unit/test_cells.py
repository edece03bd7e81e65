"""Cell files: what is written is what is read, and everything else is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepgap.cells.cell_file import FOOTER_KEY, SCHEMA, UNSUPPORTED, Footer, failure_row, read_cell, write_cell
from deepgap.errors import CellError
from deepgap.study.cell import recipe_digest

RECIPE = {
    "model": "synthetic",
    "energy_s": 0,
    "protocol": {
        "warmup_iterations": 1,
        "timed_iterations": 2,
        "repeats": 2,
        "cold_iterations": 0,
        "stop": None,
    },
}


def footer(recipe: dict = RECIPE) -> Footer:
    return Footer(dict(recipe), "0" * 64, {"versions": {}}, {"intraop_threads": 1})


def synthetic_rows(times: list[float]) -> pl.DataFrame:
    """Rows that fit `RECIPE`: two repeats of two latency calls and one throughput span, six times in all."""
    keys = [(r, *arm) for r in (1, 2) for arm in ((1, 1, "latency"), (2, 1, "latency"), (1, 2, "throughput"))]
    return pl.DataFrame(
        [
            ("ok", None, arm, repeat, iteration, calls, 0.5, time, time, None)
            for (repeat, iteration, calls, arm), time in zip(keys, times, strict=True)
        ],
        schema=SCHEMA,
        orient="row",
    )


def cell_path(folder: Path, recipe: dict = RECIPE) -> Path:
    return folder / f"synthetic_b1.{recipe_digest(recipe)}.parquet"


@pytest.fixture
def cell(tmp_path) -> Path:
    path = cell_path(tmp_path)
    write_cell(path, synthetic_rows([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), footer())
    return path


positive = st.floats(min_value=1e-6, max_value=1e9, allow_nan=False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(positive, min_size=6, max_size=6))
def test_round_trip(tmp_path, times):
    path = cell_path(tmp_path)
    write_cell(path, synthetic_rows(times), footer())
    rows, read = read_cell(path)
    assert rows.equals(synthetic_rows(times))
    assert read == footer()


def test_writing_the_same_cell_twice_gives_the_same_bytes(cell, tmp_path):
    before = cell.read_bytes()
    write_cell(cell, synthetic_rows([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), footer())
    assert cell.read_bytes() == before


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0, 0.0])
def test_a_time_that_cannot_be_is_refused_and_leaves_nothing(tmp_path, bad):
    with pytest.raises(CellError, match="not finite or not positive"):
        write_cell(cell_path(tmp_path), synthetic_rows([1.0, bad, 3.0, 4.0, 5.0, 6.0]), footer())
    assert list(tmp_path.iterdir()) == []


def test_missing_rows_are_refused(tmp_path):
    rows = synthetic_rows([1.0] * 6)
    for short in (rows.head(5), rows.filter(pl.col("arm") == "latency"), rows.clear()):
        with pytest.raises(CellError):
            write_cell(cell_path(tmp_path), short, footer())
    with pytest.raises(CellError, match="1 repeats of the arm latency"):
        write_cell(cell_path(tmp_path), rows.with_columns(pl.lit(1, pl.Int32).alias("repeat")), footer())
    with pytest.raises(CellError, match="stands twice"):
        write_cell(cell_path(tmp_path), rows.with_columns(pl.lit(1, pl.Int32).alias("iteration")), footer())
    assert list(tmp_path.iterdir()) == []


def test_a_failure_is_a_row_with_a_reason(tmp_path):
    write_cell(cell_path(tmp_path), failure_row(UNSUPPORTED, "no such kernel"), footer())
    rows, _ = read_cell(cell_path(tmp_path))
    assert rows.select("status", "reason").rows() == [("unsupported", "no such kernel")]
    with pytest.raises(CellError, match="reason"):
        write_cell(cell_path(tmp_path), failure_row(UNSUPPORTED, ""), footer())


def test_every_truncation_is_refused_by_name(cell):
    whole = cell.read_bytes()
    for size in range(0, len(whole), 97):
        cell.write_bytes(whole[:size])
        with pytest.raises(CellError, match=cell.name) as caught:
            read_cell(cell)
        assert "\n" not in str(caught.value)


def test_edited_rows_are_refused(cell):
    rows, _ = read_cell(cell)
    metadata = pl.read_parquet_metadata(cell)
    edited = rows.with_columns(pl.col("device_ms") * 0.9)
    edited.write_parquet(cell, metadata={FOOTER_KEY: metadata[FOOTER_KEY]})
    with pytest.raises(CellError, match="edited"):
        read_cell(cell)


def test_an_edited_footer_is_refused(cell):
    rows, _ = read_cell(cell)
    content = json.loads(pl.read_parquet_metadata(cell)[FOOTER_KEY])
    content["recipe"]["protocol"]["timed_iterations"] = 3
    rows.write_parquet(cell, metadata={FOOTER_KEY: json.dumps(content)})
    with pytest.raises(CellError, match="not the one in its name"):
        read_cell(cell)


def test_a_renamed_cell_is_refused(cell):
    other = cell.with_name("synthetic_b1.0123456789ab.parquet")
    cell.rename(other)
    with pytest.raises(CellError, match="not the one in its name"):
        read_cell(other)


def test_foreign_and_absent_files_are_refused(tmp_path):
    foreign = tmp_path / "foreign.0123456789ab.parquet"
    pl.DataFrame({"a": [1]}).write_parquet(foreign)
    with pytest.raises(CellError, match="not written by deepgap"):
        read_cell(foreign)
    with pytest.raises(CellError, match="does not exist"):
        read_cell(tmp_path / "absent.0123456789ab.parquet")
