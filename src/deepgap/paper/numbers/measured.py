"""Peaks, latencies and energies of the prose's devices, and the processor that they are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import polars as pl

from deepgap.analyse.peaks import find_peaks
from deepgap.analyse.summary import Summary
from deepgap.paper.latex import escape, rounded
from deepgap.paper.numbers.macro import (
    NOT_AVAILABLE,
    OTHER_DIGITS,
    THROUGHPUT_DIGITS,
    Number,
    exact,
    macro_name,
    rounded_or_not,
)
from deepgap.paper.wording import gpu_label, prose_gpus, prose_processor
from deepgap.study.words import model_label


def measured_numbers(summary: Summary) -> Iterator[Number]:
    """For each GPU, model and mode: peak throughput and its batch size, and median latency at batch size
    1."""
    peaks = find_peaks(summary.measured)
    singles = {
        (row["gpu"], row["model"], row["mode"]): row["median_ms"]
        for row in summary.measured.filter(pl.col("batch_size") == 1).iter_rows(named=True)
    }
    for gpu, model, mode in _prose_keys(summary, peaks):
        key, rows = (gpu, model, mode), f"families: gpu={gpu}, model={model}, mode={mode}"
        peak = peaks.get(key)
        yield Number(
            macro_name("Peak", *key),
            rounded_or_not(peak.point.throughput if peak else None, THROUGHPUT_DIGITS),
            f"{rows}, highest throughput_img_s",
        )
        yield Number(
            macro_name("PeakBatch", *key),
            exact(peak.point.batch_size if peak else None),
            f"{rows}, its batch_size",
        )
        latency = rounded_or_not(singles.get(key), OTHER_DIGITS)
        yield Number(macro_name("Latency", *key), latency, f"{rows}, batch_size=1, median_ms")
        base = peaks.get((gpu, model, "eager-fp32"))
        gain = peak.point.throughput / base.point.throughput if peak and base else None
        gain_text = rounded_or_not(gain, OTHER_DIGITS)
        yield Number(macro_name("PeakGain", *key), gain_text, f"{rows}, peak over that of eager-fp32")
        eager = singles.get((gpu, model, "eager-fp16"))
        ratio = eager / singles[key] if eager and key in singles else None
        yield Number(
            macro_name("LatencyGain", *key),
            rounded_or_not(ratio, OTHER_DIGITS),
            f"{rows}, batch_size=1, eager-fp16's median_ms over it",
        )


def energies(summary: Summary) -> Iterator[Number]:
    """For each GPU, model and mode: energy of an image in mJ at the largest batch size that has one, and which."""
    known = summary.measured.filter(pl.col("energy_j_per_image").is_not_null()).sort("batch_size")
    last = {(row["gpu"], row["model"], row["mode"]): row for row in known.iter_rows(named=True)}
    for key in _prose_keys(summary, last):
        row, rows = last.get(key), "families: gpu={}, model={}, mode={}".format(*key)
        millijoules = None if row is None else 1000 * row["energy_j_per_image"]
        energy = rounded_or_not(millijoules, OTHER_DIGITS)
        yield Number(macro_name("Energy", *key), energy, f"{rows}, largest batch_size with energy")
        yield Number(
            macro_name("EnergyBatch", *key), exact(row["batch_size"] if row else None), f"{rows}, that batch_size"
        )


def processor_numbers(summary: Summary) -> Iterator[Number]:
    """The processor that GPUs are compared with: its name, cores, the size of its families, its peaks by model and
    mode, and the highest ratio to it."""
    processor = prose_processor(summary)
    yield Number("ProcessorName", escape(processor), "families: the first processor of the prose that has cells")
    cores = summary.cores(processor)
    yield Number(
        "ProcessorCores", NOT_AVAILABLE if cores is None else escape(cores), f"hosts: gpu={processor}, logical_cores"
    )
    for gpu in prose_gpus(summary):
        words = escape(weights_compared(summary, gpu, processor))
        yield Number(macro_name("WeightsCompared", gpu), words, f"hosts: weights of gpu={gpu} and gpu={processor}")
    peaks = find_peaks(summary.measured)
    ratios = {
        key: peak.point.throughput / peaks[processor, key[1], "eager-fp32"].point.throughput
        for key, peak in peaks.items()
        if key[0] != processor and (processor, key[1], "eager-fp32") in peaks
    }
    top = max(ratios, key=lambda key: ratios[key], default=None)
    rows = f"families: highest peak over that of gpu={processor}, eager-fp32, of the same model"
    yield Number("OverProcessor", rounded_or_not(ratios[top] if top else None, OTHER_DIGITS), rows)
    words = NOT_AVAILABLE if top is None else escape(f"{model_label(top[1])} in {top[2]} on the {gpu_label(top[0])}")
    yield Number("OverProcessorCell", words, rows)
    for (gpu, model, mode), peak in peaks.items():
        if gpu == processor:
            yield Number(
                macro_name("Peak", "Processor", model, mode),
                rounded(peak.point.throughput, THROUGHPUT_DIGITS),
                f"families: gpu={processor}, model={model}, mode={mode}, highest throughput_img_s",
            )


def weights_compared(summary: Summary, gpu: str, other: str) -> str:
    """Whether the models that two GPUs were both measured with had the same weights, as a verb."""
    ours, theirs = (
        set(summary.hosts.filter(gpu=key).explode("weights")["weights"].drop_nulls()) for key in (gpu, other)
    )
    models = {text.rpartition(" ")[0] for text in ours} & {text.rpartition(" ")[0] for text in theirs}
    if not models:
        return "cannot be compared"
    same = not any(text.rpartition(" ")[0] in models for text in ours ^ theirs)
    return "are the same" if same else "differ"


def _prose_keys(summary: Summary, keys: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Those of these gpus, models and modes that are of the prose's devices, in order."""
    gpus = prose_gpus(summary)
    wanted = [key for key in keys if key[0] in gpus]
    return sorted(wanted, key=lambda key: (gpus.index(key[0]), summary.place_model(key[1]), key[2]))
