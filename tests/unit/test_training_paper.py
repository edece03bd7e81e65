"""The second paper: its text shows its parts, its macros are given, and a claim that is broken stops it."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from deepgap.analyse.training.cells import TRAINING_CELLS
from deepgap.analyse.training.summary import TrainingSummary
from deepgap.errors import DeepGapError
from deepgap.paper.latex import render
from deepgap.paper.parts import DEFINED_MACRO, read_shown
from deepgap.paper.training import FIGURES, TABLES, load_figure, load_table, read_caption
from deepgap.paper.training.claims import CLAIMS, write_claims
from deepgap.paper.training.numbers import write_numbers
from deepgap.published.democratizing import DEMOCRATIZING, read_democratizing
from deepgap.published.gpu_memory import GPU_MEMORY, read_gpu_memory
from tests.unit.synthetic import GPUS, ROOT

SHOWN = read_shown(ROOT / "paper/training.tex")
CAPTIONS = {figure: read_caption(figure) for figure in FIGURES}


def published() -> TrainingSummary:
    return TrainingSummary(
        cells=TRAINING_CELLS.to_frame(),
        published=read_democratizing(ROOT / "data/published/democratizing_ai.csv"),
        gpu_memory=read_gpu_memory(ROOT / "data/published/gpu_memory_epoch.csv", GPUS),
        gpus=GPUS,
    )


def nothing() -> TrainingSummary:
    return TrainingSummary(TRAINING_CELLS.to_frame(), DEMOCRATIZING.to_frame(), GPU_MEMORY.to_frame(), GPUS)


def macros(summary: TrainingSummary) -> set[str]:
    return set(DEFINED_MACRO.findall(write_numbers(summary, CAPTIONS) + write_claims(summary)))


def test_the_text_shows_every_figure_and_table_and_no_others() -> None:
    assert sorted(SHOWN.figures) == list(FIGURES)
    assert sorted(SHOWN.tables) == list(TABLES)
    templates = (ROOT / "paper/templates/training").glob("*.tex.j2")
    assert sorted(file.name.split(".")[0] for file in templates) == list(TABLES)


@pytest.mark.parametrize("summary", [published, nothing])
def test_every_macro_of_the_text_is_given_whatever_there_is(summary) -> None:
    assert set(SHOWN.macros) <= macros(summary()) | {"LaTeX", "IEEEauthorblockN", "Delta"}
    assert {f"Claim{claim.name}" for claim in CLAIMS} <= set(SHOWN.macros)


def test_parts_render_without_any_value() -> None:
    for table in TABLES:
        render(ROOT / f"paper/templates/training/{table}.tex.j2", load_table(table)(nothing()))
    for figure in FIGURES:
        said = str(load_figure(figure)(nothing()).to_dict())
        assert "needs more than" in said or "No training step is measured" in said
    assert write_claims(nothing()).count("leftout") == len(CLAIMS)


def test_a_broken_claim_stops_the_paper_by_its_name() -> None:
    sizes = published().gpu_memory
    small = replace(published(), gpu_memory=sizes.filter(pl.col("memory_gb") < 280))
    with pytest.raises(DeepGapError, match=r"TwiceTheProjection .* paper/training\.tex"):
        write_claims(small)


def test_no_published_speedup_stands_alone() -> None:
    """Beside each are samples and operations a second, and the share of the peak."""
    rows = [row for model in load_table("workloads")(published())["models"] for row in model["rows"]]
    assert len(rows) == 8
    for row in rows:
        assert all("num" in row[device][name] for device in ("cpu", "gpu") for name in ("ms", "samples", "rate"))
    conv6 = rows[0]
    assert conv6["speedup"] == r"\num{246}" and conv6["share"] == r"\num{248}"
