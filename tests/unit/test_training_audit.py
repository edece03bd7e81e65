"""The audit of the published study of training, recomputed here from the CSV by hand."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from deepgap.analyse.training.cells import TRAINING_CELLS
from deepgap.analyse.training.summary import TrainingSummary
from deepgap.errors import DeepGapError
from deepgap.paper.latex import render
from deepgap.paper.training import load_table
from deepgap.published.audit.evidence import FAILS, HOLDS, OPEN, PARTLY, Finding
from deepgap.published.audit.training import TRAINING, audit_training
from deepgap.published.democratizing import ABSTRACT, DEMOCRATIZING, NOWHERE, SECONDARY, read_democratizing
from deepgap.published.gpu_memory import read_gpu_memory
from deepgap.published.training_networks import BATCH, published_work
from tests.unit.synthetic import GPUS, ROOT
from tests.unit.training_cells import PARAMETERS

FILE = ROOT / "data/published/democratizing_ai.csv"
MEMORY = ROOT / "data/published/gpu_memory_epoch.csv"


def findings(file: Path = FILE) -> dict[str, Finding]:
    found = audit_training(read_democratizing(file), read_gpu_memory(MEMORY, GPUS), GPUS)
    return dict(zip((check.__name__ for check in TRAINING), found, strict=True))


@pytest.fixture(scope="module")
def found() -> dict[str, Finding]:
    return findings()


def changed(tmp_path: Path, *changes: tuple[str, str]) -> dict[str, Finding]:
    text = FILE.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "changed.csv").write_text(text, encoding="utf-8")
    return findings(tmp_path / "changed.csv")


def test_every_finding_says_where_its_values_are_from(found: dict[str, Finding]) -> None:
    for finding in found.values():
        assert finding.rows and "lacks" not in finding.evidence
        assert set(finding.sections) <= {ABSTRACT, SECONDARY}
    assert ABSTRACT in found["fusion_saves_15_percent"].sections
    sections = read_democratizing(FILE)["section"]
    assert set(sections) == {ABSTRACT, SECONDARY, NOWHERE} and sections.null_count() == 0


@pytest.mark.parametrize("model", BATCH)
def test_the_networks_by_hand_have_the_parameters_of_their_definitions(model: str) -> None:
    assert published_work(model).parameters == PARAMETERS[model]


def test_the_multiply_adds_by_hand() -> None:
    """Of the first layers by hand, and of whole networks as their model pages and papers round them."""
    conv6 = 64 * 9 * 224**2 * (3 + 64) + 128 * 9 * 112**2 * (64 + 128) + 256 * 9 * 56**2 * (128 + 256)
    assert published_work("conv6").forward == conv6 + 4096 * 256 + 256 * 256 + 2560
    assert published_work("resnet18").forward / 1e9 == pytest.approx(1.81, abs=0.01)
    assert published_work("vgg16").forward / 1e9 == pytest.approx(15.47, abs=0.02)
    for model in ("conv6", "vgg16", "resnet18"):
        assert 2.9 < published_work(model).step / published_work(model).forward < 3


def test_fusion(found: dict[str, Finding]) -> None:
    finding = found["fusion_saves_15_percent"]
    saved = [1 - 19.38 / 23.82, 1 - 66.24 / 70.79, 1 - 64.17 / 71.18, 1 - 4.63 / 4.93]
    assert f"{25 * sum(saved):.1f} % on average" in finding.evidence and "18.6, 6.4, 9.8, 6.1 %" in finding.evidence
    assert f"ResNet-18 ({100 * (1 - 198.42 / 233.25):.1f} %)" in finding.evidence
    assert finding.verdict == FAILS


def test_rates(found: dict[str, Finding]) -> None:
    needed = 2 * 64 * 22_373_015_040 / 0.14267 / 1e12
    assert f"Conv-6 {needed:.1f}" in found["steps_within_the_peak"].evidence and f"{needed:.1f}" == "20.1"
    assert "VGG-16 9.82" in found["steps_within_the_peak"].evidence
    assert found["steps_within_the_peak"].verdict == FAILS
    other = found["inference_of_one_set_up"]
    assert "710 GFLOPS where its training does 85" in other.evidence and other.verdict == FAILS


def test_order_of_speedups(found: dict[str, Finding]) -> None:
    finding = found["speedup_falls_with_complexity"]
    places = [finding.evidence.index(f"({speedup})") for speedup in (51, 246, 116, 11)]
    assert places == sorted(places) and finding.verdict == FAILS
    assert found["speedups_recompute"].verdict == HOLDS and "8 of 8" in found["speedups_recompute"].evidence


def test_parameters_and_memory(found: dict[str, Finding]) -> None:
    assert "1 of 4 agree" in found["parameters_are_those_of_the_models"].evidence
    assert found["parameters_are_those_of_the_models"].verdict == PARTLY
    memory = found["memory_in_2025"]
    assert "287.5 GB, 2.04 times" in memory.evidence and "in 2024 already" in memory.evidence
    assert memory.verdict == FAILS
    assert found["memory_wall"].verdict == OPEN and "no end" in found["memory_wall"].evidence


@pytest.mark.parametrize(
    ("name", "changes", "verdict"),
    [
        ("fusion_saves_15_percent", [("~15", "~10")], HOLDS),
        ("speedups_recompute", [("gpu,train,time,142.67", "gpu,train,time,152.67")], FAILS),
        ("steps_within_the_peak", [("train,time,142.67", "train,time,442.67")], PARTLY),
        (
            "steps_within_the_peak",
            [("train,time,142.67", "train,time,442.67"), ("train,time,603.54", "train,time,803.54")],
            HOLDS,
        ),
        ("inference_of_one_set_up", [("time,2789.17", "time,22789.17")], HOLDS),
        (
            "speedup_falls_with_complexity",
            [("gpu/cpu,train,speedup,51,", "gpu/cpu,train,speedup,351,")],
            HOLDS,
        ),
        ("parameters_are_those_of_the_models", [("11e6", "12e6")], FAILS),
        ("memory_in_2025", [("141 GB in 2025", "281 GB in 2025")], HOLDS),
    ],
)
def test_a_verdict_follows_the_numbers(
    tmp_path: Path, name: str, changes: list[tuple[str, str]], verdict: str
) -> None:
    assert changed(tmp_path, *changes)[name].verdict == verdict


def test_values_that_are_not_printed_leave_it_open(tmp_path: Path) -> None:
    lacking = changed(tmp_path, ("latency_reduction", "reduction"), ("141 GB in 2025", "much"))
    assert lacking["fusion_saves_15_percent"].verdict == lacking["memory_in_2025"].verdict == OPEN
    assert audit_training(DEMOCRATIZING.to_frame(), read_gpu_memory(MEMORY, GPUS), GPUS) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("35123.42", "fast"), "'fast' in line 2"),
        (("35123.42", "-1"), "'-1' in line 2"),
        (("primary: abstract", "hearsay"), "'primary: ...'"),
        (("framework,", "library,"), "has the columns library"),
    ],
)
def test_a_transcription_that_is_none_is_refused(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    with pytest.raises(DeepGapError, match=said):
        changed(tmp_path, change)
    with pytest.raises(DeepGapError, match="missing"):
        read_democratizing(tmp_path / "none.csv")


def test_the_table_shows_every_finding() -> None:
    published = read_democratizing(FILE)
    cells = TRAINING_CELLS.to_frame()
    summary = TrainingSummary(cells=cells, published=published, gpu_memory=read_gpu_memory(MEMORY, GPUS), gpus=GPUS)
    template = ROOT / "paper/templates/training/audit.tex.j2"
    text = render(template, load_table("audit")(summary))
    assert text.count("secondary") >= len(TRAINING) - 1 and "does not hold" in text
    nothing = TrainingSummary(cells, published.filter(pl.lit(False)), summary.gpu_memory, GPUS)
    assert "Nothing published" in render(template, load_table("audit")(nothing))
