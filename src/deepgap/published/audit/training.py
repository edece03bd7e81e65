"""The claims of the published study of training (arXiv 2603.20920), recomputed from its own numbers.

All but the abstract's numbers come from a secondary source, as `Finding.sections` says of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from statistics import mean, median

import polars as pl

from deepgap.analyse.memory_trend import FEWEST, LogisticFit
from deepgap.published.audit.evidence import (
    FAILS,
    HOLDS,
    OPEN,
    PARTLY,
    ROUGH,
    Finding,
    NotPrintedError,
    Row,
    need,
)
from deepgap.published.democratizing import ABSTRACT, FRAMEWORKS, MODELS
from deepgap.published.gpu_memory import yearly_maxima
from deepgap.published.training_networks import BATCH, published_work
from deepgap.study.gpus import Gpu
from deepgap.text import significant

LABELS = {"conv6": "Conv-6", "vgg16": "VGG-16", "resnet18": "ResNet-18", "cyclegan": "CycleGAN"}
WORDS = {"tensorflow": "TensorFlow", "pytorch": "PyTorch"}
CARD = "T4"
WINOGRAD = 2.25
"""By how much Winograd's F(2x2, 3x3) has fewer products (Lavin and Gray, CVPR 2016)."""


@dataclass(frozen=True)
class TrainingValues:
    """The transcription, the sizes of memory beside it, and what was read from it for a finding."""

    frame: pl.DataFrame
    gpu_memory: pl.DataFrame
    gpus: Mapping[str, Gpu]
    used: list[Row] = field(default_factory=list)

    def rows(self, quantity: str, section: str | None = None, **equal: str) -> list[Row]:
        """The rows of a quantity with these values that have a number, marked as used."""
        found = self.frame.filter(pl.col("quantity") == quantity, pl.col("value").is_not_null(), **equal)
        rows = (found if section is None else found.filter(section=section)).to_dicts()
        self.used.extend(row for row in rows if row not in self.used)
        return rows

    def one(self, quantity: str, section: str | None = None, **equal: str) -> float:
        """The first value of a quantity; see `rows`."""
        rows = self.rows(quantity, section, **equal)
        need(rows)
        return float(rows[0]["value"])

    def text(self, phase: str, quantity: str) -> str:
        """A value that is no number."""
        rows = self.frame.filter(phase=phase, quantity=quantity).to_dicts()
        need(rows)
        self.used.extend(row for row in rows if row not in self.used)
        return str(rows[0]["text"])

    def time(self, framework: str, model: str, device: str, phase: str) -> float:
        """Milliseconds of a step or of a forward pass."""
        return self.one("time", framework=framework, model=model, device=device, phase=phase)

    def finding(self, claim: str, evidence: str, verdict: str, *facts: str) -> Finding:
        return Finding(claim, evidence, verdict, tuple(self.used), facts)


def fusion_saves_15_percent(values: TrainingValues) -> Finding:
    """TensorFlow's inference takes about 15 % less time."""
    stated = values.one("latency_reduction", ABSTRACT)

    def saved(model: str, phase: str) -> float:
        ours, theirs = (values.time(framework, model, "gpu", phase) for framework in FRAMEWORKS)
        return 100 * (1 - ours / theirs)

    found = [saved(model, "inference") for model in MODELS]
    near = [
        f"{LABELS[model]} ({significant(saved(model, 'train'), 3)} %)"
        for model in MODELS
        if abs(saved(model, "train") / stated - 1) <= ROUGH
    ]
    listed = ", ".join(significant(value, 2 if value < 10 else 3) for value in found)
    return values.finding(
        f"TensorFlow's kernel fusion takes about {stated:g} % off the latency of inference",
        f"On the GPU its inference takes {listed} % less than PyTorch's: {mean(found):.1f} % on average, "
        f"{median(found):.1f} % in the middle. About {stated:g} % less is the training of "
        f"{', '.join(near) or 'none'}. Nothing printed tells fusion from what else differs between the frameworks.",
        HOLDS if abs(mean(found) / stated - 1) <= ROUGH else FAILS,
    )


def speedups_recompute(values: TrainingValues) -> Finding:
    """The speedups are the ratios of the printed times."""
    parts, off, count = [], 0, 0
    for framework in FRAMEWORKS:
        ratios = []
        for model in MODELS:
            stated = values.one("speedup", framework=framework, model=model, phase="train")
            ratio = values.time(framework, model, "cpu", "train") / values.time(framework, model, "gpu", "train")
            off += round(ratio) != stated
            count += 1
            ratios.append(significant(ratio, 3))
        parts.append(f"{WORDS[framework]} {', '.join(ratios)}")
    return values.finding(
        "A GPU trains 11 to 246 times faster than the CPU",
        f"In the order {', '.join(LABELS[model] for model in MODELS)}: {'; '.join(parts)}; {count - off} of {count} "
        "are as printed. The abstract's are TensorFlow's. The processor has two virtual cores of a shared host.",
        FAILS if off else HOLDS,
    )


def _rate(values: TrainingValues, model: str, device: str, phase: str) -> float:
    """Operations a second of TensorFlow, in units of 10^12, two a multiply-add, in the published set-up."""
    work = published_work(model)
    operations = 2 * BATCH[model] * (work.step if phase == "train" else work.forward)
    return operations / values.time("tensorflow", model, device, phase) / 1e9


def steps_within_the_peak(values: TrainingValues) -> Finding:
    """The printed steps are possible on the card."""
    peak = values.gpus[CARD].peak_tops.get("fp32") if CARD in values.gpus else None
    if peak is None:
        raise NotPrintedError
    rates = {model: _rate(values, model, "gpu", "train") for model in MODELS}
    above = {model: rate for model, rate in rates.items() if rate > peak}
    beyond = [model for model, rate in above.items() if rate > WINOGRAD * peak]
    listed = ", ".join(f"{LABELS[model]} {significant(rate, 3)}" for model, rate in rates.items())
    told = f"{_listed(beyond)} would need more than that" if beyond else "that would do"
    return values.finding(
        f"Steps were timed in FP32 at 224 pixels and batch 64 on a {CARD}",
        f"By the layers' multiply-adds the steps need {listed} TFLOPS; the card's FP32 peak is {peak:g}. Above it "
        f"{'lies' if len(above) == 1 else 'lie'} {_listed(above)}: only with "
        f"Winograd's savings, {WINOGRAD:g} times for F(2x2, 3x3); {told}.",
        FAILS if beyond else PARTLY if above else HOLDS,
        f"{CARD}'s data sheet",
        "layers, counted",
    )


def _listed(models: Iterable[str]) -> str:
    return " and ".join(LABELS[model] for model in models) or "none"


def inference_of_one_set_up(values: TrainingValues) -> Finding:
    """Training and inference were timed under the same conditions."""
    rates = {
        (model, phase): 1000 * _rate(values, model, "cpu", phase)
        for model in ("vgg16", "resnet18")
        for phase in ("train", "inference")
    }
    vgg, resnet = (values.time("tensorflow", model, "cpu", "inference") for model in ("vgg16", "resnet18"))
    more = published_work("vgg16").forward / published_work("resnet18").forward
    factor = rates["vgg16", "inference"] / rates["vgg16", "train"]
    strange = factor > 2 or vgg < resnet
    return values.finding(
        "Inference was timed as training was, at batch 64",
        f"VGG-16's inference on the CPU would do {rates['vgg16', 'inference']:.0f} GFLOPS where its training does "
        f"{rates['vgg16', 'train']:.0f}, and ResNet-18's {rates['resnet18', 'inference']:.0f} where its training "
        f"does {rates['resnet18', 'train']:.0f}. VGG-16 takes {vgg:.0f} ms and ResNet-18 {resnet:.0f} ms, though "
        f"VGG-16 multiplies {more:.1f} times as often. The columns of inference are of other conditions, which are "
        "not stated.",
        FAILS if strange else HOLDS,
        "layers, counted",
    )


def speedup_falls_with_complexity(values: TrainingValues) -> Finding:
    """The more complex a model, the less a GPU gains."""
    work = {model: published_work(model).step for model in MODELS}
    order = sorted(MODELS, key=lambda model: work[model])
    speedups = [values.one("speedup", framework="tensorflow", model=model, phase="train") for model in order]
    of_one_batch = [speedup for model, speedup in zip(order, speedups, strict=True) if BATCH[model] == BATCH["conv6"]]
    falls = all(speedups[place] > speedups[place + 1] for place in range(len(speedups) - 1))
    listed = ", ".join(
        f"{LABELS[model]} {work[model] / 1e9:.3g} ({speedup:g})"
        for model, speedup in zip(order, speedups, strict=True)
    )
    return values.finding(
        "Speedup falls as models become more complex",
        f"By the multiply-adds of a sample's step in billions, with the speedup: {listed}. Of the three at one batch "
        f"size the order of speedups is {', '.join(f'{speedup:g}' for speedup in of_one_batch)}; CycleGAN alone has "
        f"batch {BATCH['cyclegan']}, so that its model and its batch cannot be told apart.",
        HOLDS if falls else FAILS,
        "layers, counted",
    )


def parameters_are_those_of_the_models(values: TrainingValues) -> Finding:
    """The parameter counts are those of the networks that are named."""
    parts, agree = [], 0
    for model in MODELS:
        stated, own = values.one("parameters", model=model), published_work(model).parameters
        digits = 3 if stated >= 1e8 else 2
        agree += float(significant(own, digits)) == stated
        parts.append(f"{LABELS[model]} {stated / 1e6:g} against {own / 1e6:.2f}")
    return values.finding(
        "The networks are Conv-6, VGG-16, ResNet-18 and CycleGAN",
        f"Printed parameters against those of the standard definitions, in millions: {', '.join(parts)} (two "
        f"generators and two discriminators). {agree} of {len(MODELS)} agree; what is printed of CycleGAN is "
        "what Conv-6 has.",
        HOLDS if agree == len(MODELS) else PARTLY if agree else FAILS,
        "layers, counted",
    )


def memory_in_2025(values: TrainingValues) -> Finding:
    """The projection gives the memory of 2025."""
    gigabytes, year = _projected(values)
    shipped = yearly_maxima(values.gpu_memory).filter(year=year).to_dicts()
    need(shipped)
    (largest,) = shipped
    earlier = values.gpu_memory.filter(pl.col("memory_gb") >= gigabytes)["year"].to_list()
    need(earlier)
    size = float(largest["memory_gb"])
    return values.finding(
        f"GPU memory reaches {gigabytes:g} GB in {year}",
        f"The largest listed for {year} is {largest['gpu']} with {size:g} GB, {size / gigabytes:.2f} times as much; "
        f"{gigabytes:g} GB is on the list in {min(earlier)} already.",
        HOLDS if abs(size / gigabytes - 1) <= ROUGH else FAILS,
        "Epoch AI's list",
    )


def memory_wall(values: TrainingValues) -> Finding:
    """A logistic curve shows where memory ends."""
    wall = values.text("gpu_memory_regression", "logistic_memory_wall")
    largest = yearly_maxima(values.gpu_memory)
    if largest.height < FEWEST:
        raise NotPrintedError
    years, gb = (largest[name].to_numpy().astype(float) for name in ("year", "memory_gb"))
    fit = LogisticFit(years, gb)
    ceiling, low, high = fit.ceiling
    ahead = fit.at(2030)
    ends = f"{significant(low, 3)} GB and {'no end' if not isfinite(high) else f'{significant(high, 3)} GB'}"
    best = "none" if not isfinite(ceiling) else f"{significant(ceiling, 3)} GB"
    return values.finding(
        f"By a logistic curve memory comes near 1 TB in 2030 and meets a wall in {wall.replace('-', ' to ')}",
        f"Fitted to the largest of each year since {int(years[0])}, the most likely ceiling is {best}; its 95 % "
        f"interval lies between {ends}. For 2030 it says {significant(ahead.low, 2)} to {significant(ahead.high, 2)} "
        "GB. These data do not show a ceiling, and cannot say when one would be met.",
        OPEN if not isfinite(high) else FAILS,
        "Epoch AI's list",
    )


def _projected(values: TrainingValues) -> tuple[float, int]:
    """The last size in GB that the study gives, and its year."""
    words = values.text("gpu_memory_regression", "memory_last").split()
    if len(words) != 4 or not words[0].isdecimal() or words[1:3] != ["GB", "in"] or not words[3].isdecimal():
        raise NotPrintedError
    return float(words[0]), int(words[3])


TrainingCheck = Callable[[TrainingValues], Finding]

TRAINING: tuple[TrainingCheck, ...] = (
    steps_within_the_peak,
    inference_of_one_set_up,
    fusion_saves_15_percent,
    speedup_falls_with_complexity,
    parameters_are_those_of_the_models,
    memory_in_2025,
    memory_wall,
    speedups_recompute,
)
"""The most damaging first; last what holds."""


def audit_training(values: pl.DataFrame, gpu_memory: pl.DataFrame, gpus: Mapping[str, Gpu]) -> list[Finding]:
    """All findings on a transcription, in the order of `TRAINING`; none on an empty one.

    Args:
        values: in `democratizing.DEMOCRATIZING`.
        gpu_memory: in `gpu_memory.GPU_MEMORY`.
        gpus: the hardware facts, by key.
    """
    findings = []
    for check in TRAINING if values.height else ():
        seen = TrainingValues(values, gpu_memory, gpus)
        try:
            findings.append(check(seen))
        except NotPrintedError:
            claim = check.__name__.replace("_", " ").capitalize()
            findings.append(seen.finding(claim, "The transcription lacks values that this needs.", OPEN))
    return findings
