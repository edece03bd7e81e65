"""Cell files: what is written is what is read, and everything else is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepgap.cells.cell_file import (
    FOOTER_KEY,
    OUT_OF_MEMORY,
    REFUSED,
    ROW_A_CALL,
    SCHEMA,
    UNSUPPORTED,
    failure_row,
    read_cell,
    write_cell,
)
from deepgap.cells.footer import FOOTER_SCHEMA, Footer
from deepgap.errors import CellError
from deepgap.study.cell import recipe_digest

RECIPE = {
    "model": "synthetic",
    "gpu": "T4",
    "runtime": "eager",
    "precision": "fp32",
    "batch_size": 1,
    "threads": 0,
    "sweep": 1,
    "method_version": 4,
    "protocol": {
        "warmup_iterations": 1,
        "timed_iterations": 2,
        "runs": 2,
        "fidelity_images": 1,
        "throughput_s": 0.1,
        "arms": [],
        "stop": None,
    },
}


def footer(recipe: dict = RECIPE) -> Footer:
    versions = dict.fromkeys(("torch", "torchvision", "cuda_runtime", "cudnn")) | {"python": "3"}
    provenance = {
        "measured_at": "2000-01-01T00:00:00+00:00",
        "versions": versions,
        "host": dict.fromkeys(("cpu", "logical_cores", "memory_gib", "os", "kernel")),
        "device": {"name": None},
    }
    return Footer(dict(recipe), "0" * 64, provenance, {"intraop_threads": 1}, graph_sha256=None)


def synthetic_rows(times: list[float]) -> pl.DataFrame:
    """Rows that fit `RECIPE`: two runs of two latency calls and one throughput span, six times in all."""
    keys = [(r, *arm) for r in (1, 2) for arm in ((1, 1, "latency"), (2, 1, "latency"), (1, 2, "throughput"))]
    return pl.DataFrame(
        [
            ("ok", None, arm, run, iteration, calls, 0.5, time, time, None)
            for (run, iteration, calls, arm), time in zip(keys, times, strict=True)
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
    with pytest.raises(CellError, match="1 runs of the arm latency"):
        write_cell(cell_path(tmp_path), rows.with_columns(pl.lit(1, pl.Int32).alias("run")), footer())
    with pytest.raises(CellError, match="stands twice"):
        write_cell(cell_path(tmp_path), rows.with_columns(pl.lit(1, pl.Int32).alias("iteration")), footer())
    assert list(tmp_path.iterdir()) == []


def with_arms(*arms: str, stop: dict | None = None, most: int = 2) -> dict:
    return RECIPE | {"protocol": RECIPE["protocol"] | {"arms": list(arms), "stop": stop, "timed_iterations": most}}


@pytest.mark.parametrize("arm", ["enqueue", "burst", "cold", "end_to_end"])
def test_an_optional_arm_is_there_when_and_only_when_it_is_asked_for(tmp_path, arm):
    rows = synthetic_rows([1.0] * 6)
    calls = 2 if arm in ROW_A_CALL else 1
    more = [("ok", None, arm, run, i, 1, 9.0, 1.0, 1.0, None) for run in (1, 2) for i in range(1, calls + 1)]
    both = pl.concat([rows, pl.DataFrame(more, schema=SCHEMA, orient="row")])
    recipe = with_arms(arm)
    write_cell(cell_path(tmp_path, recipe), both, footer(recipe))
    with pytest.raises(CellError, match=f"0 runs of the arm {arm}"):
        write_cell(cell_path(tmp_path, recipe), rows, footer(recipe))
    with pytest.raises(CellError, match=f"the arm {arm}, which the protocol does not ask for"):
        write_cell(cell_path(tmp_path), both, footer())


def test_a_run_may_end_early_where_the_protocol_has_a_rule(tmp_path):
    stop = {"half_width": 0.1, "minimum_iterations": 2, "minimum_ms": 0, "maximum_s": None}
    recipe = with_arms(stop=stop, most=5)
    write_cell(cell_path(tmp_path, recipe), synthetic_rows([1.0] * 6), footer(recipe))
    recipe = with_arms(stop=stop | {"minimum_iterations": 3}, most=5)
    with pytest.raises(CellError, match="2, 2 latency rows in its runs where the protocol asks for 3 to 5"):
        write_cell(cell_path(tmp_path, recipe), synthetic_rows([1.0] * 6), footer(recipe))


@pytest.mark.parametrize(
    ("part", "value", "problem"),
    [
        ("provenance", {"versions": {}}, "lacks the key"),
        ("observed", {"intraop_threads": "two"}, "must be of type integer or null"),
        ("observed", {"energy": {"joules": -1.0}}, "must be more than 0"),
    ],
)
def test_a_footer_that_breaks_its_schema_is_refused(tmp_path, part, value, problem):
    with pytest.raises(CellError, match=problem):
        write_cell(cell_path(tmp_path), synthetic_rows([1.0] * 6), replace(footer(), **{part: value}))
    assert list(tmp_path.iterdir()) == []


def test_every_key_of_the_footer_is_described():
    def undescribed(schema: dict, name: str) -> list[str]:
        inner = schema.get("properties", {})
        found = [] if schema.get("description") else [name]
        return found + [bad for key, value in inner.items() for bad in undescribed(value, f"{name}.{key}")]

    assert undescribed(FOOTER_SCHEMA, "footer") == []


@pytest.mark.parametrize("status", [UNSUPPORTED, OUT_OF_MEMORY, REFUSED])
def test_a_failure_is_a_row_with_a_reason(tmp_path, status):
    write_cell(cell_path(tmp_path), failure_row(status, "no such kernel"), footer())
    rows, _ = read_cell(cell_path(tmp_path))
    assert rows.select("status", "reason").rows() == [(status, "no such kernel")]
    with pytest.raises(CellError, match="reason"):
        write_cell(cell_path(tmp_path), failure_row(status, ""), footer())


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
