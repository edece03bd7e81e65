r"""What the text says in words about the data, and whether it is true of the data at hand.

A claim is a sentence of paper/main.tex inside `\Claim<Name>{...}`. One that the data contradict stops the PDF by its
name. What more data may turn either way has two wordings, `\Either<Name>{...}{...}`, of which the data choose one. Of
what the data cannot tell, because something is not measured, the text says nothing: it leaves the sentence out. Text
inside `\When<Name>{...}` stands where the data have what it is about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from deepgap.analyse.effects import find_effects
from deepgap.analyse.flag_counts import families_with
from deepgap.analyse.peaks import Peak, find_peaks
from deepgap.analyse.summary import Summary
from deepgap.errors import DeepGapError
from deepgap.paper.predictions import bandwidth_elasticities
from deepgap.paper.tables.reproduction import compared_gpus
from deepgap.paper.wording import prose_gpus
from deepgap.published.audit import if_printed
from deepgap.published.audit.cache import cached_peaks
from deepgap.published.values import table1_peaks
from deepgap.study.cell import ALL_THREADS

LEFT_OUT = r"\leftout"
"""What stands for a sentence of which nothing is known: nothing, and no blank after it."""

SHORTENED = ("fp32", "tf32", "fp16", "int8")
"""Precisions of which each is said to be less exact than the one before."""


@dataclass(frozen=True)
class Claim:
    """A statement about the GPU of the prose and its test on a summary and that GPU: true, false, or None where the
    data cannot tell."""

    name: str
    statement: str
    """With `{gpu}` where the GPU is named."""
    holds: Callable[[Summary, str], bool | None]


@dataclass(frozen=True)
class Condition:
    """Something that the data have or not, of which a part of the text speaks."""

    name: str
    met: Callable[[Summary], bool]


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
    r"""The content of claims.tex: a macro a claim, an alternative and a condition, of one, two and one arguments.

    Raises:
        DeepGapError: see `check_claims`.
    """
    gpu = prose_gpu(summary) or "GPU"
    lines = [_macro("Claim", name, 1, r"\told{#1}" if told else "") for name, told in check_claims(summary).items()]
    for item in EITHER:
        verdict = item.holds(summary, gpu)
        lines.append(_macro("Either", item.name, 2, "" if verdict is None else rf"\told{{#{1 if verdict else 2}}}"))
    lines += [_macro("When", item.name, 1, "#1" if item.met(summary) else "") for item in CONDITIONS]
    return "".join(f"{line}\n" for line in lines)


def _macro(kind: str, name: str, arguments: int, text: str) -> str:
    return rf"\newcommand{{\{kind}{name}}}[{arguments}]{{{text or LEFT_OUT}}}"


def _all(verdicts: Sequence[bool]) -> bool | None:
    return all(verdicts) if verdicts else None


def _peaks(summary: Summary, gpu: str) -> Iterator[dict[str, Peak]]:
    """The peaks of a GPU by mode, a model at a time."""
    peaks = find_peaks(summary.measured.filter(gpu=gpu))
    for model in dict.fromkeys(model for _, model, _ in peaks):
        yield {mode: peak for (_, of, mode), peak in peaks.items() if of == model}


def _ratios(summary: Summary, gpu: str, mode: str, base: str) -> pl.DataFrame:
    """The ratios of two modes that have an interval, by model and batch size."""
    known = summary.ratios.filter(pl.col("low").is_not_null(), gpu=gpu, numerator=mode, denominator=base)
    return known.filter(threads=ALL_THREADS).sort("model", "batch_size")


def _largest(ratios: pl.DataFrame) -> pl.DataFrame:
    """The row of each model's largest batch size."""
    return ratios.group_by("model", maintain_order=True).last()


def _tf32_faster(summary: Summary, gpu: str) -> bool | None:
    return _all((_largest(_ratios(summary, gpu, "eager-tf32", "eager-fp32"))["low"] > 1.5).to_list())


def _int8_fastest(summary: Summary, gpu: str) -> bool | None:
    pairs = [p for p in _peaks(summary, gpu) if "cudnn-int8" in p and len(p) > 1]
    return _all([max(p, key=lambda mode: p[mode].best.throughput) == "cudnn-int8" for p in pairs])


def _peaks_at_the_edge(summary: Summary, gpu: str) -> bool | None:
    return _all([peak.at_edge for peaks in _peaks(summary, gpu) for peak in peaks.values()])


def _int8_gains_with_batch(summary: Summary, gpu: str) -> bool | None:
    """Whether INT8 gains more over half precision of the same kernels at the largest batch size than at 1."""
    ratios = _ratios(summary, gpu, "cudnn-int8", "cudnn-fp16")
    one, most = ratios.filter(batch_size=1), _largest(ratios).filter(pl.col("batch_size") > 1)
    both = one.join(most, on="model", suffix="_most")
    return _all((both["high"] < both["low_most"]).to_list())


def _graph_faster(summary: Summary, gpu: str) -> bool | None:
    """Whether a graph's throughput is over twice that of eager mode at batch size 1, by the interval."""
    here = _ratios(summary, gpu, "graph-fp16", "eager-fp16").filter(batch_size=1)
    return _all((here["low"] > 2).to_list())


def _graph_gains_most(summary: Summary, gpu: str) -> bool | None:
    """Whether a graph's gain over eager mode at batch size 1 exceeds, by intervals, that of every precision alone."""
    one = [effect for effect in find_effects(summary) if effect.gpu == gpu and effect.batch_size == 1]
    known = [effect for effect in one if effect.ratio.low is not None and effect.ratio.high is not None]
    verdicts = []
    for model in dict.fromkeys(effect.model for effect in known):
        of_factor = {
            factor: [effect.ratio for effect in known if effect.model == model and effect.factors == (factor,)]
            for factor in ("graph", "precision")
        }
        if all(of_factor.values()):
            lows, highs = (
                [getattr(ratio, end) for ratio in of_factor[factor]]
                for factor, end in (("graph", "low"), ("precision", "high"))
            )
            verdicts.append(max(lows) > max(highs))
    return _all(verdicts)


def _layout_not_told(summary: Summary, gpu: str) -> bool | None:
    here = _ratios(summary, gpu, "eager-fp16", "eager-fp16-nchw")
    return _all(((here["low"] <= 1) & (here["high"] >= 1)).to_list())


def _eager_launch_bound(summary: Summary, gpu: str) -> bool | None:
    here = summary.measured.filter(pl.col("batch_size") <= 8, gpu=gpu, runtime="eager")
    return _all(here["launch_bound"].to_list())


def _graphs_not_launch_bound(summary: Summary, gpu: str) -> bool | None:
    here = summary.measured.filter(pl.col("runtime").is_in(["graph", "compilegraph", "cudnn"]), gpu=gpu)
    return _all((~here["launch_bound"]).to_list())


def _odd_is_launch_bound(summary: Summary, gpu: str) -> bool | None:
    """Whether most families that are variable, unsteady, or whose arms disagree are launch-bound, too."""
    odd = [flag for flag in ("variable", "unsteady", "arms_disagree") if families_with(summary, gpu, flag)]
    both = [2 * families_with(summary, gpu, flag, "launch_bound") > families_with(summary, gpu, flag) for flag in odd]
    return _all(both)


def _power_holds_nothing(summary: Summary, gpu: str) -> bool | None:
    here = summary.measured.filter(gpu=gpu)
    return None if here.is_empty() else not families_with(summary, gpu, "power_held")


def _int8_saves_energy(summary: Summary, gpu: str) -> bool | None:
    """Whether INT8's images a joule exceed those of the same kernels in half precision beyond the intervals."""
    here = summary.measured.filter(pl.col("images_per_joule_low").is_not_null(), gpu=gpu)
    int8, fp16 = (here.filter(mode=mode) for mode in ("cudnn-int8", "cudnn-fp16"))
    both = int8.join(fp16, on=["model", "batch_size", "threads"], suffix="_other")
    return _all((both["images_per_joule_low"] > both["images_per_joule_high_other"]).to_list())


def _int8_agrees(summary: Summary, gpu: str) -> bool | None:
    here = summary.fidelity.filter(pl.col("gpu") == gpu, pl.col("precision") == "int8")
    return _all((here["top1_agreement_low"] >= 0.95).to_list())


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
    Claim(
        "TfThirtyTwoIsFaster",
        "on the {gpu} eager-tf32 has over 1.5 times eager-fp32's throughput at the largest batch size",
        _tf32_faster,
    ),
    Claim("IntEightIsFastest", "on the {gpu} cudnn-int8 has the highest throughput of every model", _int8_fastest),
    Claim(
        "IntEightGainsWithTheBatch",
        "on the {gpu} cudnn-int8 gains more over cudnn-fp16 at the largest batch size than at 1",
        _int8_gains_with_batch,
    ),
    Claim(
        "GraphDoublesThroughput",
        "on the {gpu} graph-fp16 has over twice eager-fp16's throughput at batch size 1",
        _graph_faster,
    ),
    Claim(
        "TheGraphGainsMost",
        "on the {gpu} a graph gains more over eager mode at batch size 1 than any precision alone",
        _graph_gains_most,
    ),
    Claim(
        "GraphsAreNotLaunchBound",
        "on the {gpu} graph, compilegraph and cudnn modes are launch-bound nowhere",
        _graphs_not_launch_bound,
    ),
    Claim(
        "IntEightAgrees",
        "on the {gpu} the interval of INT8's agreement with FP32 is above 95 % of the held-out images",
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
"""What the data must not contradict."""

EITHER = (
    Claim(
        "EveryPeakIsAtTheEdge",
        "on the {gpu} every mode's largest batch size is tied with its best",
        _peaks_at_the_edge,
    ),
    Claim(
        "TheLayoutIsNotTold",
        "on the {gpu} the interval of eager-fp16 over eager-fp16-nchw holds 1 at every batch size",
        _layout_not_told,
    ),
    Claim(
        "EagerIsLaunchBound",
        "on the {gpu} all eager modes are launch-bound at every batch size up to 8",
        _eager_launch_bound,
    ),
    Claim(
        "OddIsMostlyLaunchBound",
        "on the {gpu} most families that are variable, unsteady, or whose arms disagree are launch-bound",
        _odd_is_launch_bound,
    ),
    Claim("ThePowerLimitHoldsNothing", "on the {gpu} the power limit holds no clock", _power_holds_nothing),
    Claim(
        "IntEightSavesEnergy",
        "on the {gpu} cudnn-int8 has more images a joule than cudnn-fp16, beyond the intervals, at every batch size",
        _int8_saves_energy,
    ),
)
"""What the text says in one of two ways."""

CONDITIONS = (
    Condition("BothBandwidths", lambda summary: not bandwidth_elasticities(summary).is_empty()),
    Condition("Reproduced", lambda summary: bool(compared_gpus(summary))),
    Condition("Processors", lambda summary: not summary.thread_scaling.is_empty()),
)
"""What parts of the text are about."""
