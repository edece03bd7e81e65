"""The independent computation agrees with the tables, and tells where it does not."""

from __future__ import annotations

import random
from pathlib import Path

import polars as pl
import pytest

from benchmarks.recompute import main
from deepgap.analyse.store import cell_table_file, write_tables
from tests.unit.cells import Cells
from tests.unit.synthetic import synthetic_recipe, synthetic_rows


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with noisy cells of several modes, one of them launch-bound on two hosts, and their tables."""
    cells, noise = Cells(tmp_path / "results"), random.Random(0)
    protocol = synthetic_recipe("H200", "resnet18", "eager-fp16", 8)["protocol"] | {
        "timed_iterations": 120,
        "runs": 1,
    }
    for mode, call_ms, sweeps in (("eager-fp32", 8.0, 9), ("eager-fp16", 3.0, 9), ("graph-fp16", 2.0, 4)):
        for sweep in range(1, sweeps + 1):
            times = [call_ms * noise.lognormvariate(0, 0.02) for _ in range(120)]
            rate = 80_000 / (10 * times[0] + 0.01)
            joules = 0.5 * noise.lognormvariate(0, 0.05)
            energy = {"window_s": 2.0, "images": 2 * rate, "joules": joules * 2 * rate, "joules_per_image": joules}
            cells.add(
                mode,
                sweep=sweep,
                rows=synthetic_rows([times], [times[0]], enqueue=0.9 if mode == "eager-fp16" else 0.1),
                recipe={"protocol": protocol},
                host={"host_sha256": "d" * 12 if sweep > 6 else "b" * 12},
                energy=energy | {"source": "nvml"},
            )
    tables = cells.tables()
    write_tables(tables, {name: tmp_path / cell_table_file(name, "H200", "resnet18") for name in tables})
    return tmp_path


def test_it_agrees(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(project / "results")
    told = capsys.readouterr().out
    assert "3 families, 3 ratios, 3 energy computed once more from 22 cells" in told and "All agree" in told


@pytest.mark.parametrize(
    ("table", "column"), [("families", "median_low_ms"), ("families", "power_w"), ("ratios", "high")]
)
def test_a_figure_that_is_off_is_told(project: Path, table: str, column: str) -> None:
    file = project / cell_table_file(table, "H200", "resnet18")
    write_tables({table: pl.read_parquet(file).with_columns(pl.col(column) * (1 + 1e-5))}, {table: file})
    with pytest.raises(SystemExit, match="They differ in"):
        main(project / "results")
