"""Two states of results against each other, on synthetic cells."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from deepgap.analyse.compare import (
    FASTER,
    SAME,
    SLOWER,
    UNCLEAR,
    Comparison,
    compare_states,
    describe,
    judge,
    read_state,
)
from deepgap.analyse.sweeps import LATENCY, THROUGHPUT
from deepgap.errors import DeepGapError
from deepgap.jobs.states import open_state
from deepgap.stats import Ratio
from tests.unit.synthetic import GPUS, synthetic_footer, synthetic_recipe, synthetic_rows, write_synthetic_cell

SIX = (0.99, 0.995, 0.999, 1.001, 1.005, 1.01)
MARGIN = 0.02


def add(
    folder: Path, call_ms: float, spread: Sequence[float] = SIX, cards: Sequence[str | None] = (), **changes
) -> None:
    """A family of cells, a sweep for each part of the spread; the folder is named by the GPU."""
    mode = changes.pop("mode", "eager-fp16")
    for sweep, part in enumerate(spread, 1):
        recipe = synthetic_recipe(folder.name.partition("@")[0], "resnet18", mode, 8, sweep=sweep, **changes)
        footer = synthetic_footer(recipe)
        if cards:
            footer.provenance["device"]["uuid_sha256"] = cards[sweep - 1]
        times = [call_ms * part] * 2
        write_synthetic_cell(folder / "cells", synthetic_rows([[time] * 3 for time in times], times), footer)


def compare(base: Path, other: Path, margin: float = MARGIN) -> Comparison:
    return compare_states(read_state(base, GPUS).cells, read_state(other, GPUS).cells, margin)


def text(base: Path, other: Path) -> str:
    states = [read_state(folder, GPUS) for folder in (base, other)]
    found = compare_states(states[0].cells, states[1].cells, MARGIN)
    return describe([base.name, other.name], states, found, MARGIN)


@pytest.mark.parametrize(
    ("low", "high", "of_a_rate", "of_a_time"),
    [
        (1.03, 1.10, FASTER, SLOWER),
        (0.80, 0.97, SLOWER, FASTER),
        (0.99, 1.01, SAME, SAME),
        (1.005, 1.015, SAME, SAME),
        (1.005, 1.03, FASTER, SLOWER),
        (0.97, 1.01, UNCLEAR, UNCLEAR),
        (0.5, 2.0, UNCLEAR, UNCLEAR),
        (None, None, UNCLEAR, UNCLEAR),
    ],
)
def test_a_verdict_is_of_the_whole_interval(low, high, of_a_rate, of_a_time) -> None:
    ratio = Ratio(1.0, low, high, 6, paired=False)
    assert judge(ratio, MARGIN, less_is_faster=False) == of_a_rate
    assert judge(ratio, MARGIN, less_is_faster=True) == of_a_time


def test_one_card_before_and_after_is_paired_sweep_by_sweep(tmp_path) -> None:
    """The spread over the sweeps is wide, and the same in both: only pairs can tell the states apart."""
    wide = (0.8, 0.9, 1.0, 1.1, 1.2, 1.3)
    base, other = tmp_path / "H200", tmp_path / "H200@new"
    add(base, 2.0, wide)
    add(other, 2.2, wide)
    rate, latency = compare(base, other).rows.to_dicts()
    assert (rate["quantity"], latency["quantity"]) == (THROUGHPUT, LATENCY)
    assert rate["paired"] and latency["paired"] and rate["values"] == 6
    assert latency["ratio"] == pytest.approx(1.1) and rate["ratio"] == pytest.approx(1 / 1.1, rel=1e-3)
    assert (latency["low"], latency["high"]) == pytest.approx((1.1, 1.1))
    assert (rate["verdict"], latency["verdict"]) == (SLOWER, SLOWER)
    assert latency["base"] == pytest.approx(2.1) and latency["base_sweeps"] == latency["other_sweeps"] == 6
    assert "median_ms: 0 faster, 1 slower, 0 same, 0 unclear; 1 paired by sweep and card, 0 unpaired" in text(
        base, other
    )


@pytest.mark.parametrize("other_card", ["f" * 12, None])
def test_other_cards_are_no_pairs_and_it_is_said(tmp_path, other_card) -> None:
    base, other = tmp_path / "H200", tmp_path / "H200@new"
    add(base, 2.0)
    add(other, 1.8, cards=[other_card] * 6)
    rows = compare(base, other).rows
    assert not rows["paired"].any() and rows["verdict"].to_list() == [FASTER, FASTER]
    latency = rows.row(1, named=True)
    assert (latency["low"], latency["high"]) == pytest.approx((0.9 * 0.99 / 1.01, 0.9 * 1.01 / 0.99))
    assert "(unpaired)" in text(base, other)


def test_two_kinds_are_compared_and_what_one_alone_has_is_counted(tmp_path) -> None:
    base, other = tmp_path / "H100", tmp_path / "H200"
    add(base, 2.0)
    add(other, 2.001)
    add(base, 1.0, mode="graph-fp16")
    add(other, 1.0, mode="eager-fp32")
    found = compare(base, other)
    assert found.rows["verdict"].to_list() == [SAME, SAME]
    assert found.left_out == {"are in base alone": 1, "are in other alone": 1}


def test_few_sweeps_are_unclear_and_nothing_else(tmp_path) -> None:
    base, other = tmp_path / "H100", tmp_path / "H200"
    add(base, 2.0, SIX[:3])
    add(other, 4.0, SIX[:3])
    rows = compare(base, other).rows
    assert rows["verdict"].to_list() == [UNCLEAR, UNCLEAR] and rows["low"].null_count() == 2
    assert "1 with too few sweeps for an interval" in text(base, other)


def test_one_measurement_in_both_is_no_evidence(tmp_path) -> None:
    base, other = tmp_path / "H200", tmp_path / "H200@new"
    add(base, 2.0)
    add(other, 2.0)
    found = compare(base, other)
    assert found.rows.is_empty() and found.left_out == {"hold the same measurements in both": 1}


def test_other_settings_are_compared_where_there_is_one_and_told(tmp_path) -> None:
    base, other = tmp_path / "H200", tmp_path / "H200@new"
    add(base, 2.0)
    add(other, 2.1, method_version=1)
    assert compare(base, other).rows["differs"].to_list() == ["method_version"] * 2
    assert "the recipes of 1 families differ in method_version" in text(base, other)
    add(base, 2.0, method_version=2)
    assert compare(base, other).left_out == {"have several settings and none in common": 1}
    add(other, 2.1, method_version=2)
    assert compare(base, other).rows["differs"].to_list() == [""] * 2


def test_odd_files_are_left_out_by_name_and_software_that_differs_is_told(tmp_path) -> None:
    base, other = tmp_path / "H200", tmp_path / "H200@new"
    add(base, 2.0)
    add(other, 2.0, [part * 1.5 for part in SIX])
    (other / "cells/x.0123456789ab.parquet").write_bytes(b"PAR1")
    said = text(base, other)
    assert "Left out of H200@new: " in said and "x.0123456789ab.parquet is damaged" in said
    assert "Software that differs: none." in said
    for sweep, file in enumerate(sorted((other / "cells").glob("resnet*")), 1):
        file.unlink()
        recipe = synthetic_recipe("H200", "resnet18", "eager-fp16", 8, sweep=sweep)
        footer = synthetic_footer(recipe)
        footer.provenance["device"]["driver"] = "111.11"
        write_synthetic_cell(other / "cells", synthetic_rows([[3.0] * 3] * 2, [3.0] * 2), footer)
    assert "Software that differs: driver 000.00 in base, 111.11 in other." in text(base, other)


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


def test_a_state_is_a_folder_here_or_elsewhere_or_in_a_revision(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = Path("results")
    add(results / "H200", 2.0)
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "x")
    git("tag", "old")
    names = sorted(file.name for file in (results / "H200/cells").iterdir())
    with open_state("H200", results) as folder:
        assert folder == results / "H200"
    with open_state(str(tmp_path / "results/H200"), results) as folder:
        assert folder == tmp_path / "results/H200"
    with open_state("old:H200", results) as folder:
        assert sorted(file.name for file in (folder / "cells").iterdir()) == names and folder.name == "H200"
        assert read_state(folder, GPUS).refused == ()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("H20", r"no cells in results/H20/cells .*nearest H200|no cells in results/H20/cells .*H200"),
        ("nowhere:H200", "git knows no revision 'nowhere'"),
        ("--upload-pack=x:H200", "git knows no revision '--upload-pack=x'"),
        ("HEAD:T4", "Revision 'HEAD' has no results/T4/cells"),
    ],
)
def test_what_is_no_state_is_refused_with_what_to_do(tmp_path, monkeypatch, name, sentence) -> None:
    monkeypatch.chdir(tmp_path)
    add(Path("results/H200"), 2.0, SIX[:1])
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "x")
    with pytest.raises(DeepGapError, match=sentence), open_state(name, Path("results")):
        pass
