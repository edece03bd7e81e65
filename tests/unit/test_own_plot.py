"""The example of a plot of one's own runs on the tidy tables as they are written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl

from deepgap.files import write_parquet
from tests.conftest import ROOT
from tests.unit.synthetic import full_summary

EXAMPLE = ROOT / "examples/own_plot.py"


def test_the_example_draws_a_model_and_is_short(tmp_path: Path) -> None:
    file = tmp_path / "results/summary/families/H200/resnet50.parquet"
    file.parent.mkdir(parents=True)
    write_parquet(file, full_summary().families.filter(pl.col("gpu") == "H200", pl.col("model") == "resnet50"))
    picture = tmp_path / "own.svg"
    subprocess.run([sys.executable, EXAMPLE, "H200", "resnet50", picture.name], cwd=tmp_path, check=True, timeout=120)
    assert "graph-fp16" in picture.read_text(encoding="utf-8")
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 32
