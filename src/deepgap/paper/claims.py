r"""What the text says in words about the data, and whether it is true of the data at hand.

A claim is a sentence of paper/main.tex inside `\Claim<Name>{...}`. One that the data contradict stops the PDF by its
name; one that they cannot tell, because something is not measured, prints as not measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import polars as pl

from deepgap.analyse.flag_counts import families_with, first_flagged
from deepgap.analyse.flags import NO_THROTTLING
from deepgap.analyse.peaks import Peak, find_peaks
from deepgap.analyse.residency import residencies
from deepgap.analyse.summary import Summary
from deepgap.errors import DeepGapError
from deepgap.paper.wording import prose_gpus
from deepgap.published.audit import if_printed
from deepgap.published.audit.cache import cached_peaks
from deepgap.published.values import table1_peaks

POWER_LIMIT = "sw_power_cap"
"""NVML's name for a clock that is held down to keep within the power limit."""

SHORTENED = ("fp32", "tf32", "fp16", "int8")
"""Precisions of which each is said to be less exact than the one before."""

NOT_MEASURED = "(not measured in this edition.)"


@dataclass(frozen=True)
class Claim:
    """A statement about the GPU of the prose and its test on a summary and that GPU: true, false, or None where the
    data cannot tell."""

    name: str
    statement: str
    """With `{gpu}` where the GPU is named."""
    holds: Callable[[Summary, str], bool | None]


def prose_gpu(summary: Summary) -> str | None:
    """The GPU of which the claims speak: the first of the prose's devices that is none of the processors."""
    return next((gpu for gpu in prose_gpus(summary) if not summary.is_processor(gpu)), None)


def check_claims(summary: Summary) -> dict[str, bool]:
    r"""Whether each claim of `CLAIMS` can be told, by name.

    Raises:
        DeepGapError: the data contradict a claim; all of them are named.
    """
    gpu = prose_gpu(summary) or "GPU"
    verdicts = {claim.name: claim.holds(summary, gpu) for claim in CLAIMS}
    broken = [
        f"{claim.name} ({claim.statement.format(gpu=gpu)})" for claim in CLAIMS if verdicts[claim.name] is False
    ]
    if broken:
        raise DeepGapError(
            f"The paper's text claims what the data contradict: {'; '.join(broken)}; "
            "mend the sentence in paper/main.tex and its test in src/deepgap/paper/claims.py."
        )
    return {name: verdict is not None for name, verdict in verdicts.items()}


def write_claims(summary: Summary) -> str:
    r"""The content of claims.tex: a macro a claim that prints its sentence, or that it is not measured."""
    return "".join(
        f"\\newcommand{{\\Claim{name}}}[1]{{{'#1' if told else NOT_MEASURED}}}\n"
        for name, told in check_claims(summary).items()
    )


def _all(verdicts: Sequence[bool]) -> bool | None:
    return all(verdicts) if verdicts else None


def _peaks(summary: Summary, gpu: str) -> Iterator[dict[str, Peak]]:
    """The peaks of a GPU by mode, a model at a time."""
    peaks = find_peaks(summary.measured.filter(gpu=gpu))
    for model in dict.fromkeys(model for _, model, _ in peaks):
        yield {mode: peak for (_, of, mode), peak in peaks.items() if of == model}


def _compare(
    value: str, better: str, worse: str, factor: float, batch_size: int | None = None
) -> Callable[[Summary, str], bool | None]:
    """Whether `better` has at most 1 / factor of the `value` of `worse`, wherever both have one."""

    def holds(summary: Summary, gpu: str) -> bool | None:
        here = summary.measured.filter(pl.col("gpu") == gpu, pl.col(value).is_not_null())
        if batch_size is not None:
            here = here.filter(pl.col("batch_size") == batch_size)
        one, other = (here.filter(pl.col("mode") == mode) for mode in (better, worse))
        both = one.join(other, on=["model", "batch_size", "threads"], suffix="_other")
        return _all((both[value] * factor <= both[f"{value}_other"]).to_list())

    return holds


def _tf32_faster(summary: Summary, gpu: str) -> bool | None:
    pairs = [p for p in _peaks(summary, gpu) if {"eager-fp32", "eager-tf32"} <= p.keys()]
    return _all([p["eager-tf32"].point.throughput > 1.5 * p["eager-fp32"].point.throughput for p in pairs])


def _int8_fastest(summary: Summary, gpu: str) -> bool | None:
    pairs = [p for p in _peaks(summary, gpu) if "cudnn-int8" in p and len(p) > 1]
    return _all([max(p, key=lambda mode: p[mode].point.throughput) == "cudnn-int8" for p in pairs])


def _flagged(flag: str, mode: str, smallest: int, largest: int) -> Callable[[Summary, str], bool | None]:
    def holds(summary: Summary, gpu: str) -> bool | None:
        here = summary.measured.filter(
            pl.col("gpu") == gpu, pl.col("mode") == mode, pl.col("batch_size").is_between(smallest, largest)
        )
        return _all(here["flags"].list.contains(flag).to_list())

    return holds


def _unflagged(flag: str, *modes: str) -> Callable[[Summary, str], bool | None]:
    def holds(summary: Summary, gpu: str) -> bool | None:
        here = summary.measured.filter(pl.col("gpu") == gpu, pl.col("mode").is_in(modes))
        return _all((~here["flags"].list.contains(flag)).to_list())

    return holds


def _power_limit(summary: Summary, gpu: str) -> bool | None:
    """Whether a mode that was held down at a batch size was so at all larger ones, and by the power limit alone."""
    first = first_flagged(summary, gpu, "throttled")
    timed = summary.telemetry.filter(pl.col("gpu") == gpu, pl.col("timed")).explode("throttle_reasons")
    reasons = set(timed["throttle_reasons"].drop_nulls()) - NO_THROTTLING
    if not first or not reasons:
        return None
    beyond = [
        "throttled" in row["flags"]
        for row in summary.measured.filter(pl.col("gpu") == gpu).iter_rows(named=True)
        if row["batch_size"] >= first.get(row["mode"], {}).get(row["model"], math.inf)
    ]
    return all(beyond) and reasons == {POWER_LIMIT}


def _odd_is_launch_bound(summary: Summary, gpu: str) -> bool | None:
    """Whether most families that are variable, unsteady, or whose arms disagree are launch-bound, too."""
    odd = [flag for flag in ("variable", "unsteady", "arms_disagree") if families_with(summary, gpu, flag)]
    both = [2 * families_with(summary, gpu, flag, "launch_bound") > families_with(summary, gpu, flag) for flag in odd]
    return _all(both)


def _swept(summary: Summary, gpu: str) -> Summary:
    """The summary with those sweeps alone that were measured to the largest batch size that the study asks of a GPU:
    others cannot tell where a peak is."""
    largest = summary.design.filter(gpu=gpu)["batch_sizes"].explode().max()
    whole = (pl.col("batch_size") == largest).any().over("gpu", "model", "runtime", "precision", "threads")
    return replace(summary, families=summary.families.filter(whole))


def _peaks_at_the_limit(summary: Summary, gpu: str) -> bool | None:
    """Whether the peaks of all modes but eager-fp32 lie where the clock was held down."""
    summary = _swept(summary, gpu)
    first = first_flagged(summary, gpu, "throttled")
    return _all(
        [
            peak.point.batch_size >= first.get(mode, {}).get(model, math.inf)
            for (_, model, mode), peak in find_peaks(summary.measured.filter(gpu=gpu)).items()
            if mode != "eager-fp32"
        ]
    )


def _beyond_the_cache(summary: Summary, gpu: str) -> bool | None:
    return _all([item.peak_over_cache > 1 and not item.tied for item in residencies(_swept(summary, gpu), gpu)])


def _no_edge_at_the_cache(summary: Summary, gpu: str) -> bool | None:
    return _all([item.gain > 1 for item in residencies(_swept(summary, gpu), gpu)])


def _int8_agrees(summary: Summary, gpu: str) -> bool | None:
    here = summary.fidelity.filter(pl.col("gpu") == gpu, pl.col("precision") == "int8")
    return _all((here["top1_agreement"] >= 0.95).to_list())


def _fidelity_falls(summary: Summary, gpu: str) -> bool | None:
    """Whether in every model each shorter format has a lower worst SQNR than all of the one before."""
    verdicts = []
    known = summary.fidelity.filter(pl.col("gpu") == gpu, pl.col("sqnr_db").is_not_null())
    for _, of_model in known.group_by("model"):
        values = [of_model.filter(precision=precision)["sqnr_db"].to_list() for precision in SHORTENED]
        present = [decibels for decibels in values if decibels]
        verdicts += [max(after) < min(before) for before, after in pairwise(present)]
    return _all(verdicts)


def _cache_explains_the_l4(summary: Summary, _: str) -> bool | None:
    """Whether at the usual product of the L4's peaks the largest activation fits in L2, and at twice it does not."""
    found = if_printed(cached_peaks, summary.published, summary.gpus)
    if found is None:
        return None
    size = found.largest * found.usual
    return 2 * found.count > found.peaks and size <= found.capacity_bytes < 2 * size


def _headline_is_one_cell(summary: Summary, _: str) -> bool | None:
    peaks = table1_peaks(summary.published)
    key = ["model", "runtime", "precision"]
    t4, l4 = (peaks.filter(pl.col("gpu") == gpu) for gpu in ("T4", "L4"))
    ratios = l4.join(t4, on=key).select(pl.col("throughput_img_s") / pl.col("throughput_img_s_right")).to_series()
    return None if ratios.len() < 2 else bool(ratios.sort()[-1] > 1.3 * ratios.sort()[-2])


CLAIMS = (
    Claim("TfThirtyTwoIsFaster", "on the {gpu} eager-tf32 peaks over 1.5 times eager-fp32", _tf32_faster),
    Claim("IntEightIsFastest", "on the {gpu} cudnn-int8 has the highest peak of every model", _int8_fastest),
    Claim(
        "GraphHalvesLatency",
        "on the {gpu} graph-fp16 has at most half of eager-fp16's median latency at batch size 1",
        _compare("median_ms", "graph-fp16", "eager-fp16", 2, batch_size=1),
    ),
    Claim(
        "EagerIsLaunchBound",
        "on the {gpu} eager-fp16 is launch-bound at every batch size up to 8",
        _flagged("launch_bound", "eager-fp16", 1, 8),
    ),
    Claim(
        "GraphsAreNotLaunchBound",
        "on the {gpu} graph-fp16 and cudnn-int8 are launch-bound nowhere",
        _unflagged("launch_bound", "graph-fp16", "cudnn-int8"),
    ),
    Claim(
        "OddIsMostlyLaunchBound",
        "on the {gpu} most families that are variable, unsteady, or whose arms disagree are launch-bound",
        _odd_is_launch_bound,
    ),
    Claim(
        "ThePowerLimitIsMet",
        "on the {gpu} a mode that is throttled at a batch size is so at all larger ones, by the power limit alone",
        _power_limit,
    ),
    Claim(
        "FpThirtyTwoMeetsNoLimit",
        "on the {gpu} eager-fp32 is throttled nowhere",
        _unflagged("throttled", "eager-fp32"),
    ),
    Claim(
        "PeaksMeetThePowerLimit",
        "on the {gpu} the peaks of all modes but eager-fp32 lie at batch sizes from which on they are throttled",
        _peaks_at_the_limit,
    ),
    Claim(
        "PeaksLieBeyondTheCache",
        "on the {gpu} no sweep peaks, or ties with its peak, where the largest activation fits in the L2 cache",
        _beyond_the_cache,
    ),
    Claim(
        "TheCacheIsNoEdge",
        "on the {gpu} every sweep is faster at the first batch size whose largest activation does not fit in L2",
        _no_edge_at_the_cache,
    ),
    Claim(
        "IntEightSavesEnergy",
        "on the {gpu} cudnn-int8 takes less energy an image than compile-fp16 at every batch size that has both",
        _compare("energy_j_per_image", "cudnn-int8", "compile-fp16", 1),
    ),
    Claim(
        "IntEightAgrees",
        "on the {gpu} INT8 agrees with FP32 on 95 % of the held-out images in every cell with the most of them",
        _int8_agrees,
    ),
    Claim(
        "FidelityFallsWithPrecision",
        "on the {gpu} the worst SQNR falls from fp32 to tf32, fp16 and int8 in every model",
        _fidelity_falls,
    ),
    Claim(
        "TheCacheFitsTheLFour",
        "most published peaks of the L4 have one product of batch size and bytes an element, at which the largest "
        "activation fits in L2, and at twice of which it does not",
        _cache_explains_the_l4,
    ),
    Claim("HeadlineIsOneCell", "the published L4-over-T4 headline is 1.3 times its next cell", _headline_is_one_cell),
)
