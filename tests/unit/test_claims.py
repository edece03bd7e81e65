"""The text's claims: each can fail, each stands in the text, and none stands there untested."""

from __future__ import annotations

import re
from dataclasses import replace

import polars as pl
import pytest

from deepgap.analyse.summary import Summary
from deepgap.errors import DeepGapError
from deepgap.paper.claims import CLAIMS, NOT_MEASURED, check_claims, prose_gpu, write_claims
from tests.conftest import ROOT
from tests.unit.synthetic import empty_summary, h200_rows, synthetic_summary

TEXT = (ROOT / "paper/main.tex").read_text(encoding="utf-8")


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
    here = pl.format("{}-{}", "runtime", "precision") == (mode or "none")
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
    return claim.holds(of, "H200")


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


def with_flags(flags: dict[tuple[str, int], list[str]], reasons: tuple[str, ...] = ("sw_power_cap",)) -> Summary:
    """ResNet-50 on the H200 at 1, 64 and 512, faster with each size, with these flags by mode and batch size; the
    driver's reasons stand in its telemetry."""
    rows = [
        row | {"flags": flags.get((f"{row['runtime']}-{row['precision']}", row["batch_size"]), [])}
        for row in h200_rows((1, 64, 512))
        if row["model"] == "resnet50"
    ]
    made = synthetic_summary(rows)
    return replace(
        made,
        telemetry=made.telemetry.with_columns(
            pl.lit(list(reasons), pl.List(pl.String)).alias("throttle_reasons"), pl.lit(True).alias("timed")
        ),
    )


def test_the_power_limit_is_met_from_a_batch_size_on_and_by_the_power_alone():
    throttled = {("eager-fp16", size): ["throttled"] for size in (64, 512)}
    assert holds("ThePowerLimitIsMet", with_flags(throttled)) is True
    assert holds("ThePowerLimitIsMet", with_flags({})) is None
    assert holds("ThePowerLimitIsMet", with_flags({("eager-fp16", 64): ["throttled"]})) is False
    assert holds("ThePowerLimitIsMet", with_flags(throttled, ("sw_power_cap", "hw_thermal_slowdown"))) is False
    assert holds("ThePowerLimitIsMet", with_flags(throttled, ("sw_power_cap", "gpu_idle"))) is True
    assert holds("FpThirtyTwoMeetsNoLimit", with_flags(throttled)) is True
    assert holds("FpThirtyTwoMeetsNoLimit", with_flags({("eager-fp32", 1): ["throttled"]})) is False


def test_the_peaks_meet_the_power_limit_where_those_of_every_other_mode_do():
    modes = ("eager-tf32", "eager-fp16", "graph-fp16", "compile-fp16")
    at_peak = {(mode, 512): ["throttled"] for mode in modes}
    assert holds("PeaksMeetThePowerLimit", with_flags(at_peak)) is True
    del at_peak["graph-fp16", 512]
    assert holds("PeaksMeetThePowerLimit", with_flags(at_peak)) is False


def test_most_of_what_is_odd_is_launch_bound_until_it_is_not():
    flags = {("eager-fp16", size): ["launch_bound", "variable"] for size in (1, 64)} | {
        ("eager-fp32", 1): ["variable"]
    }
    assert holds("OddIsMostlyLaunchBound", with_flags(flags)) is True
    assert holds("OddIsMostlyLaunchBound", with_flags(flags | {("eager-tf32", 1): ["variable"]})) is False
    assert holds("OddIsMostlyLaunchBound", with_flags(flags | {("eager-tf32", 1): ["unsteady"]})) is False
    assert holds("OddIsMostlyLaunchBound", with_flags({})) is None


def test_graphs_are_launch_bound_nowhere():
    assert holds("GraphsAreNotLaunchBound", with_flags({("eager-fp16", 1): ["launch_bound"]})) is True
    assert holds("GraphsAreNotLaunchBound", with_flags({("graph-fp16", 1): ["launch_bound"]})) is False


def test_a_sweep_that_is_not_measured_to_its_end_tells_nothing_of_its_peak():
    part = synthetic_summary(h200_rows((1, 64)))
    whole = pl.lit([1, 64, 512], pl.List(pl.Int64))
    part = replace(part, design=part.design.with_columns(batch_sizes=whole))
    small = replace(part, hosts=part.hosts.with_columns(l2_cache_bytes=pl.lit(60 << 20, pl.Int64)))
    for name in ("PeaksMeetThePowerLimit", "PeaksLieBeyondTheCache", "TheCacheIsNoEdge"):
        assert holds(name, small) is None


def test_a_peak_beyond_the_cache_and_a_sweep_without_an_edge():
    made = with_flags({})
    assert holds("PeaksLieBeyondTheCache", made) is None
    small = replace(made, hosts=made.hosts.with_columns(l2_cache_bytes=pl.lit(60 << 20, pl.Int64)))
    assert holds("PeaksLieBeyondTheCache", small) is holds("TheCacheIsNoEdge", small) is True
    # Only a call of one image fits.
    for slow, peak_is_beyond in (({64}, True), ({64, 512}, False)):
        speed = pl.when(pl.col("batch_size").is_in(slow)).then(0.001).otherwise(1) * pl.col("throughput_img_s")
        changed = replace(small, families=small.families.with_columns(throughput_img_s=speed))
        assert holds("TheCacheIsNoEdge", changed) is False
        assert holds("PeaksLieBeyondTheCache", changed) is peak_is_beyond


def test_fidelity_falls_with_each_shorter_format():
    made = summary()
    assert holds("FidelityFallsWithPrecision", made) is True
    near = pl.when(pl.col("runtime") == "compile").then(62.0).otherwise(pl.col("sqnr_db")).alias("sqnr_db")
    assert holds("FidelityFallsWithPrecision", replace(made, fidelity=made.fidelity.with_columns(near))) is False


def test_the_l4s_cache_fits_its_peaks_until_it_is_of_another_size():
    made = summary()
    assert holds("TheCacheFitsTheLFour", made) is True
    larger = replace(made, gpus=made.gpus | {"L4": replace(made.gpus["L4"], l2_cache_mib=96)})
    assert holds("TheCacheFitsTheLFour", larger) is False


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


def test_a_broken_claim_stops_the_pdf_by_its_name():
    with pytest.raises(DeepGapError, match="TfThirtyTwoIsFaster") as caught:
        write_claims(summary("eager-tf32", throughput_img_s=0.5))
    assert "on the H200" in str(caught.value) and "paper/main.tex" in str(caught.value)


def test_claims_are_about_the_first_gpu_that_the_prose_is_written_for():
    made = summary("eager-tf32", throughput_img_s=0.5)
    assert prose_gpu(made) == "H200"
    for gpus in (["EPYCGenoa", "L4"], ["CPU"], []):
        others = replace(made, reporting=made.reporting | {"paper_gpus": gpus})
        told = check_claims(others)
        assert {name for name, known in told.items() if known} == {"TheCacheFitsTheLFour", "HeadlineIsOneCell"}
    unknown = replace(made, reporting=made.reporting | {"paper_gpus": ["H2000"]})
    with pytest.raises(DeepGapError, match=r"paper_gpus in config/config.yaml names H2000, which .* does not have"):
        check_claims(unknown)
