"""The text's claims: each can fail, each stands in the text, and none stands there untested."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from deepgap.analyse.schemas import RATIOS
from deepgap.analyse.summary import Summary
from deepgap.errors import DeepGapError
from deepgap.paper.claims import CLAIMS, CONDITIONS, EITHER, LEFT_OUT, check_claims, prose_gpu, write_claims
from deepgap.study.cell import ALL_THREADS
from tests.conftest import ROOT
from tests.unit.synthetic import empty_summary, h200_rows, synthetic_family, synthetic_summary

TEXT = (ROOT / "paper/main.tex").read_text(encoding="utf-8")


def test_every_claim_of_the_text_is_tested_and_every_test_is_of_the_text():
    for kind, known in (("Claim", CLAIMS), ("Either", EITHER), ("When", CONDITIONS)):
        used = set(re.findall(rf"\\{kind}([A-Za-z]+)", TEXT))
        assert used == {item.name for item in known}


def test_of_what_is_not_measured_the_text_says_nothing():
    assert not any(check_claims(empty_summary()).values())
    lines = write_claims(empty_summary()).splitlines()
    assert len(lines) == len(CLAIMS) + len(EITHER) + len(CONDITIONS)
    assert all(line.endswith(f"]{{{LEFT_OUT}}}") for line in lines)


def test_the_data_choose_between_two_wordings_and_neither_stops_the_text():
    rising = {8: 100.0, 32: 200.0}
    for factor, chosen in ((1, 1), (-1, 2)):
        rows = (("eager-fp16", size, {"throughput_img_s": speed**factor}) for size, speed in rising.items())
        assert rf"\newcommand{{\EitherEveryPeakIsAtTheEdge}}[2]{{\told{{#{chosen}}}}}" in write_claims(
            synthetic(*rows)
        )


def test_a_part_of_the_text_stands_where_the_data_have_what_it_is_about():
    measured = write_claims(synthetic(("eager-fp16", 8, {})))
    assert rf"\newcommand{{\WhenBothBandwidths}}[1]{{{LEFT_OUT}}}" in measured
    both = [synthetic_family(gpu, "resnet50", "cudnn-int8", 512) for gpu in ("H100", "H200")]
    assert r"\newcommand{\WhenBothBandwidths}[1]{#1}" in write_claims(synthetic_summary(both))


def synthetic(*pairs: tuple[str, int, dict[str, Any]]) -> Summary:
    """ResNet-50 on the H200: families of these modes and batch sizes with these changes."""
    return synthetic_summary([synthetic_family("H200", "resnet50", *place, **changes) for *place, changes in pairs])


def with_ratios(numerator: str, denominator: str, intervals: dict[int, tuple[float, float]]) -> Summary:
    """The ratio of two modes on the H200 by batch size, with these intervals."""
    made = synthetic_summary(h200_rows((1,)))
    rows = [
        dict.fromkeys(RATIOS.names())
        | {"gpu": "H200", "model": "resnet50", "batch_size": size, "threads": ALL_THREADS}
        | {"numerator": numerator, "denominator": denominator, "ratio": (low + high) / 2, "low": low, "high": high}
        | {"numerator_cells": [], "denominator_cells": []}
        for size, (low, high) in intervals.items()
    ]
    return replace(made, ratios=pl.DataFrame(rows, schema=RATIOS))


def holds(name: str, of: Summary) -> bool | None:
    (claim,) = (claim for claim in (*CLAIMS, *EITHER) if claim.name == name)
    return claim.holds(of, "H200")


@pytest.mark.parametrize(
    ("name", "modes", "true", "false"),
    [
        ("TfThirtyTwoIsFaster", ("eager-tf32", "eager-fp32"), {1: (0.8, 0.9), 32: (1.6, 1.7)}, {32: (1.4, 1.7)}),
        ("GraphDoublesThroughput", ("graph-fp16", "eager-fp16"), {1: (2.1, 3.0), 8: (1, 1)}, {1: (1.9, 3.0)}),
        ("TheLayoutIsNotTold", ("eager-fp16", "eager-fp16-nchw"), {1: (0.9, 1.1)}, {1: (0.9, 1.1), 8: (1.1, 1.2)}),
        (
            "IntEightGainsWithTheBatch",
            ("cudnn-int8", "cudnn-fp16"),
            {1: (1.0, 1.1), 8: (1.0, 1.05), 32: (1.2, 1.3)},
            {1: (1.0, 1.25), 32: (1.2, 1.3)},
        ),
    ],
)
def test_a_claim_of_a_ratio_holds_by_its_interval(name, modes, true, false):
    assert holds(name, with_ratios(*modes, true)) is True
    assert holds(name, with_ratios(*modes, false)) is False
    assert holds(name, with_ratios("rtx-fp16", "rtx-fp32", true)) is None


def test_a_graph_gains_most_until_a_precision_does():
    speeds = {"eager-fp32": 90.0, "eager-tf32": 95.0, "eager-fp16": 100.0, "graph-fp16": 700.0}
    made = [("resnet50", mode, 1, {"throughput_img_s": speed}) for mode, speed in speeds.items()]

    def told(rows):
        families = [synthetic_family("H200", *place, **changes) for *place, changes in rows]
        return holds("TheGraphGainsMost", synthetic_summary(families))

    assert told(made) is True
    assert told([*made[:1], ("resnet50", "eager-tf32", 1, {"throughput_img_s": 900.0}), *made[2:]]) is False
    assert told(made[:3]) is None


def test_a_peak_is_at_the_edge_until_a_smaller_batch_is_best():
    rising = {8: 100.0, 32: 200.0}
    made = synthetic(*(("eager-fp16", size, {"throughput_img_s": speed}) for size, speed in rising.items()))
    assert holds("EveryPeakIsAtTheEdge", made) is True
    falling = synthetic(*(("eager-fp16", size, {"throughput_img_s": 1 / speed}) for size, speed in rising.items()))
    assert holds("EveryPeakIsAtTheEdge", falling) is False


def test_int8_is_the_fastest_until_it_is_not():
    for speed, verdict in ((300.0, True), (100.0, False)):
        made = synthetic(
            ("eager-fp16", 8, {"throughput_img_s": 200.0}), ("cudnn-int8", 8, {"throughput_img_s": speed})
        )
        assert holds("IntEightIsFastest", made) is verdict


def test_eager_modes_are_launch_bound_up_to_a_batch_of_eight():
    bound, free = {"launch_bound": True}, {"launch_bound": False}
    made = synthetic(("eager-fp16", 1, bound), ("eager-fp32", 8, bound), ("eager-fp32", 32, free))
    assert holds("EagerIsLaunchBound", made) is True
    assert holds("EagerIsLaunchBound", synthetic(("eager-fp16", 1, bound), ("eager-fp32", 8, free))) is False


def test_graphs_are_launch_bound_nowhere():
    bound = {"launch_bound": True}
    assert holds("GraphsAreNotLaunchBound", synthetic(("graph-fp16", 1, {}), ("eager-fp16", 1, bound))) is True
    assert holds("GraphsAreNotLaunchBound", synthetic(("graph-fp16", 1, bound))) is False


def with_flags(flags: dict[tuple[str, int], list[str]]) -> Summary:
    """ResNet-50 on the H200 at 1, 64 and 512 with these flags by mode and batch size."""
    rows = [row for row in h200_rows((1, 64, 512)) if row["model"] == "resnet50"]
    return synthetic_summary([row | {"flags": flags.get((row["mode"], row["batch_size"]), [])} for row in rows])


def test_most_of_what_is_odd_is_launch_bound_until_it_is_not():
    flags = {("eager-fp16", size): ["launch_bound", "variable"] for size in (1, 64)} | {
        ("eager-fp32", 1): ["variable"]
    }
    assert holds("OddIsMostlyLaunchBound", with_flags(flags)) is True
    assert holds("OddIsMostlyLaunchBound", with_flags(flags | {("eager-tf32", 1): ["variable"]})) is False
    assert holds("OddIsMostlyLaunchBound", with_flags(flags | {("eager-tf32", 1): ["unsteady"]})) is False
    assert holds("OddIsMostlyLaunchBound", with_flags({})) is None


def test_the_power_limit_holds_nothing_until_it_does():
    held = {"flags": ["power_held"]}
    assert holds("ThePowerLimitHoldsNothing", synthetic(("cudnn-fp16", 8, {}))) is True
    assert holds("ThePowerLimitHoldsNothing", synthetic(("cudnn-fp16", 8, held))) is False
    assert holds("ThePowerLimitHoldsNothing", synthetic_summary([])) is None


def test_fidelity_falls_with_each_shorter_format():
    made = synthetic_summary(h200_rows((1,)))
    assert holds("FidelityFallsWithPrecision", made) is True
    near = pl.when(pl.col("runtime") == "compile").then(62.0).otherwise(pl.col("sqnr_db")).alias("sqnr_db")
    assert holds("FidelityFallsWithPrecision", replace(made, fidelity=made.fidelity.with_columns(near))) is False


def test_the_l4s_cache_fits_its_peaks_until_it_is_of_another_size():
    made = synthetic_summary([])
    assert holds("TheCacheFitsTheLFour", made) is True
    larger = replace(made, gpus=made.gpus | {"L4": replace(made.gpus["L4"], l2_cache_mib=96)})
    assert holds("TheCacheFitsTheLFour", larger) is False


def test_int8_saves_energy_beyond_the_intervals():
    def joules(low: float) -> dict[str, float]:
        return {"images_per_joule": low + 1, "images_per_joule_low": low, "images_per_joule_high": low + 2}

    fp16 = ("cudnn-fp16", 8, joules(10))
    assert holds("IntEightSavesEnergy", synthetic(fp16)) is None
    assert holds("IntEightSavesEnergy", synthetic(fp16, ("cudnn-int8", 8, joules(13)))) is True
    assert holds("IntEightSavesEnergy", synthetic(fp16, ("cudnn-int8", 8, joules(11)))) is False


def test_int8_agrees_where_the_lower_end_of_its_interval_says_so():
    made = synthetic(("cudnn-int8", 8, {}))
    assert holds("IntEightAgrees", made) is True
    fewer = made.fidelity.with_columns(top1_agreement_low=pl.lit(0.94))
    assert holds("IntEightAgrees", replace(made, fidelity=fewer)) is False


def test_the_headline_is_one_cell_until_that_cell_is_gone():
    made = synthetic_summary([])
    assert holds("HeadlineIsOneCell", made) is True
    values = made.published.filter(~((pl.col("precision") == "int8") & (pl.col("model") == "resnet18")))
    assert holds("HeadlineIsOneCell", replace(made, published=values)) is False


def slow_tf32() -> Summary:
    return with_ratios("eager-tf32", "eager-fp32", {32: (0.9, 1.0)})


def test_a_broken_claim_stops_the_pdf_by_its_name():
    with pytest.raises(DeepGapError, match="TfThirtyTwoIsFaster") as caught:
        write_claims(slow_tf32())
    assert "on the H200" in str(caught.value) and "paper/main.tex" in str(caught.value)


def test_claims_are_about_the_first_gpu_that_the_prose_is_written_for():
    made = slow_tf32()
    assert prose_gpu(made) == "H200"
    for gpus in (["EPYCGenoa", "L4"], ["CPU"], []):
        others = replace(made, reporting=made.reporting | {"paper_gpus": gpus})
        told = check_claims(others)
        assert {name for name, known in told.items() if known} == {"TheCacheFitsTheLFour", "HeadlineIsOneCell"}
    unknown = replace(made, reporting=made.reporting | {"paper_gpus": ["H2000"]})
    with pytest.raises(DeepGapError, match=r"paper_gpus in config/config.yaml names H2000, which .* does not have"):
        check_claims(unknown)
