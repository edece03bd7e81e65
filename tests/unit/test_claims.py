"""The text's claims: each can fail, each stands in the text, and none stands there untested."""

from __future__ import annotations

import re
from dataclasses import replace

import polars as pl
import pytest

from deepgap.claims import CLAIMS, GPU, NOT_MEASURED, check_claims, write_claims
from deepgap.errors import DeepGapError
from deepgap.summary import Summary
from tests.conftest import ROOT
from tests.unit.synthetic import empty_summary, h200_rows, synthetic_summary

TEXT = (ROOT / "paper/main.tex").read_text()


def test_every_claim_of_the_text_is_tested_and_every_test_is_of_the_text():
    assert sorted(set(re.findall(r"\\Claim([A-Za-z]+)", TEXT))) == sorted(claim.name for claim in CLAIMS)


def test_without_data_every_claim_says_so():
    assert not any(check_claims(empty_summary()).values())
    lines = write_claims(empty_summary()).splitlines()
    assert len(lines) == len(CLAIMS)
    assert all(line.endswith(f"[1]{{{NOT_MEASURED}}}") for line in lines)


def summary(mode: str | None = None, **changes: float) -> Summary:
    """The H200's synthetic families, with the columns of one mode multiplied."""
    made = synthetic_summary(h200_rows())
    here = pl.format("{}-{}", "runtime", "precision") == mode
    return replace(
        made,
        families=made.families.with_columns(
            pl.when(here)
            .then(pl.col(name) * factor)
            .otherwise(pl.col(name))
            .cast(made.families.schema[name])
            .alias(name)
            for name, factor in changes.items()
        ),
    )


def holds(name: str, of: Summary) -> bool | None:
    (claim,) = (claim for claim in CLAIMS if claim.name == name)
    return claim.holds(of)


@pytest.mark.parametrize(
    ("name", "mode", "changes"),
    [
        ("TfThirtyTwoIsFaster", "eager-tf32", {"throughput_img_s": 0.5}),
        ("GraphHalvesLatency", "graph-fp16", {"median_ms": 3}),
    ],
)
def test_a_claim_holds_until_the_data_turn(name, mode, changes):
    assert holds(name, summary()) is True
    assert holds(name, summary(mode, **changes)) is False


@pytest.mark.parametrize(
    ("name", "mode", "flag"),
    [
        ("EagerIsLaunchBound", "eager-fp16", "launch_bound"),
        ("IntEightMeetsThePowerLimit", "cudnn-int8", "throttled"),
    ],
)
def test_a_claim_about_a_flag_needs_it_everywhere(name, mode, flag):
    rows = [
        row | {"runtime": mode.split("-")[0], "precision": mode.split("-")[1], "flags": [flag]}
        for row in h200_rows((1, 8, 512))
        if (row["runtime"], row["precision"]) == ("eager", "fp16")
    ]
    assert holds(name, synthetic_summary(rows)) is True
    assert (
        holds(
            name,
            synthetic_summary(
                [
                    *rows[:-1],
                    rows[-1] | {"flags": []},
                    *({**rows[0], "model": "resnet101", "batch_size": b, "flags": []} for b in (2, 256)),
                ]
            ),
        )
        is False
    )


def test_fidelity_and_energy_and_the_headline():
    rows = [
        row | {"energy_j_per_image": 0.02 if row["runtime"] == "compile" else 0.05}
        for row in h200_rows((1, 512))
        if row["runtime"] in ("compile", "graph")
    ]
    int8 = [row | {"runtime": "cudnn", "precision": "int8", "energy_j_per_image": 0.01} for row in rows]
    assert holds("IntEightSavesEnergy", synthetic_summary(rows)) is None
    assert holds("IntEightSavesEnergy", synthetic_summary(rows + int8)) is True
    worse = [row | {"energy_j_per_image": 0.03} for row in int8]
    assert holds("IntEightSavesEnergy", synthetic_summary(rows + worse)) is False
    made = synthetic_summary(rows + int8)
    assert holds("IntEightAgrees", made) is True
    fidelity = made.fidelity.with_columns(top1_agreement=pl.lit(0.5))
    assert holds("IntEightAgrees", replace(made, fidelity=fidelity)) is False
    fast = [row | {"throughput_img_s": 9e5} for row in int8]
    assert holds("IntEightIsFastest", synthetic_summary(rows + fast)) is True
    assert (
        holds("IntEightIsFastest", synthetic_summary(rows + [row | {"throughput_img_s": 1.0} for row in int8]))
        is False
    )
    assert holds("HeadlineIsOneCell", made) is True
    values = made.published.filter(~((pl.col("precision") == "int8") & (pl.col("model") == "resnet18")))
    assert holds("HeadlineIsOneCell", replace(made, published=values)) is False


def test_a_broken_claim_stops_the_build_by_its_name():
    with pytest.raises(DeepGapError, match="TfThirtyTwoIsFaster") as caught:
        write_claims(summary("eager-tf32", throughput_img_s=0.5))
    assert GPU in str(caught.value) and "paper/main.tex" in str(caught.value)
