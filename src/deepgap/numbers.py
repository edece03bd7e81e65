r"""The numbers of the prose, as LaTeX macros: one `\newcommand` a line, with the rows that it comes from.

A name is made of the words of its key, digits spelled: the peak of ResNet-50 in eager-fp16 on the H200 is
`\PeakHTwoZeroZeroResnetFiveZeroEagerFpOneSix`. A number that the data do not have prints as n/a, so that
the prose compiles whatever was measured.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl

from deepgap.audit import FAILS, HOLDS, OPEN, audit
from deepgap.figures import FIGURES, read_caption
from deepgap.latex import Latex, escape, number, rounded
from deepgap.peaks import find_peaks
from deepgap.published import median_latencies, pareto_pairs, table1_peaks
from deepgap.summary import Summary
from deepgap.wording import MODELS

DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")

PROSE_MODES = {
    "H200": ("eager-fp32", "eager-tf32", "eager-fp16", "graph-fp16", "compile-fp16", "cudnn-int8"),
}
"""Modes whose macros the prose uses, measured or not."""

PROCESSOR_MODES = ("eager-fp32", "ort-fp32", "ort-int8")

NOT_AVAILABLE = Latex("n/a")


@dataclass(frozen=True)
class Number:
    """A macro: its name (letters only), its text, and where it comes from."""

    name: str
    text: Latex
    rows: str


def macro_name(*words: str) -> str:
    """Letters only: `("Peak", "H200", "eager-fp16")` is `PeakHTwoZeroZeroEagerFpOneSix`."""
    parts = re.split("[-_@]", "-".join(words))
    spelled = "".join(part[:1].upper() + part[1:] for part in parts)
    return "".join(DIGITS[int(char)] if char.isdecimal() else char for char in spelled if char.isalnum())


def write_numbers(summary: Summary) -> str:
    """The content of numbers.tex, in a fixed order."""
    numbers = [
        *count_cells(summary),
        *measured_numbers(summary),
        *energies(summary),
        *processor_numbers(summary),
        *published_numbers(summary),
        *audit_numbers(summary),
        *captions(),
    ]
    return "".join(f"\\newcommand{{\\{item.name}}}{{{item.text}}} % {item.rows}\n" for item in numbers)


def count_cells(summary: Summary) -> Iterator[Number]:
    """Cells found, by GPU and in all, and the devices that have any."""
    found = dict.fromkeys(summary.gpus, 0)
    found |= {
        str(gpu): int(count) for gpu, count in summary.coverage.group_by("gpu").agg(pl.col("found").sum()).iter_rows()
    }
    order = summary.order_gpus(set(found))
    for gpu in order:
        yield Number(macro_name("Cells", gpu), number(found[gpu]), f"coverage: gpu={gpu}, sum of found")
    yield Number("CellsMeasured", number(sum(found.values())), "coverage: sum of found")
    present = [gpu for gpu in order if found[gpu]]
    listed = " and ".join([", ".join(present[:-1]), present[-1]] if len(present) > 1 else present) or "no device"
    yield Number("DevicesMeasured", escape(listed), "coverage: gpus with found above 0")
    yield Number("MatchedBatch", number(summary.reporting["matched_batch_size"]), "config: reporting")
    yield Number("MatchedLatency", number(summary.reporting["matched_latency_ms"]), "config: reporting")


def measured_numbers(summary: Summary) -> Iterator[Number]:
    """For each GPU, model and mode: peak throughput and its batch size, and median latency at batch size
    1."""
    peaks = find_peaks(summary.measured)
    singles = {
        (row["gpu"], row["model"], row["mode"]): row["median_ms"]
        for row in summary.measured.filter(pl.col("batch_size") == 1).iter_rows(named=True)
    }
    for gpu, model, mode in _measured_keys(summary, peaks):
        key, rows = (gpu, model, mode), f"families: gpu={gpu}, model={model}, mode={mode}"
        peak = peaks.get(key)
        yield Number(
            macro_name("Peak", *key),
            _rounded(peak.point.throughput if peak else None, 3),
            f"{rows}, highest throughput_img_s",
        )
        yield Number(
            macro_name("PeakBatch", *key),
            _exact(peak.point.batch_size if peak else None),
            f"{rows}, its batch_size",
        )
        yield Number(macro_name("Latency", *key), _rounded(singles.get(key), 3), f"{rows}, batch_size=1, median_ms")
        base = peaks.get((gpu, model, "eager-fp32"))
        gain = peak.point.throughput / base.point.throughput if peak and base else None
        yield Number(macro_name("PeakGain", *key), _rounded(gain, 2), f"{rows}, peak over that of eager-fp32")
        eager = singles.get((gpu, model, "eager-fp16"))
        ratio = eager / singles[key] if eager and key in singles else None
        yield Number(
            macro_name("LatencyGain", *key),
            _rounded(ratio, 2),
            f"{rows}, batch_size=1, eager-fp16's median_ms over it",
        )


def energies(summary: Summary) -> Iterator[Number]:
    """For each GPU, model and mode: energy of an image in mJ at the largest batch size that has one, and which."""
    known = summary.measured.filter(pl.col("energy_j_per_image").is_not_null()).sort("batch_size")
    last = {(row["gpu"], row["model"], row["mode"]): row for row in known.iter_rows(named=True)}
    for key in _measured_keys(summary, last):
        row, rows = last.get(key), "families: gpu={}, model={}, mode={}".format(*key)
        millijoules = None if row is None else 1000 * row["energy_j_per_image"]
        yield Number(macro_name("Energy", *key), _rounded(millijoules, 3), f"{rows}, largest batch_size with energy")
        yield Number(
            macro_name("EnergyBatch", *key), _exact(row["batch_size"] if row else None), f"{rows}, that batch_size"
        )


def processor_numbers(summary: Summary) -> Iterator[Number]:
    """The processor that GPUs are compared with: its name, and its peaks by model and mode."""
    processor = summary.processor
    yield Number("ProcessorName", escape(processor), "families: the first processor of gpus.yaml that has cells")
    peaks = find_peaks(summary.measured)
    for model in MODELS:
        for mode in PROCESSOR_MODES:
            peak = peaks.get((processor, model, mode))
            yield Number(
                macro_name("Peak", "Processor", model, mode),
                _rounded(peak.point.throughput if peak else None, 3),
                f"families: gpu={processor}, model={model}, mode={mode}, highest throughput_img_s",
            )


def audit_numbers(summary: Summary) -> Iterator[Number]:
    """How many of the published study's claims hold by its own values."""
    verdicts = [finding.verdict for finding in audit(summary.published, summary.gpus)]
    yield Number("AuditFindings", number(len(verdicts)), "audit: all findings")
    for name, verdict in (("AuditHolds", HOLDS), ("AuditFails", FAILS), ("AuditOpen", OPEN)):
        yield Number(name, number(verdicts.count(verdict)), f"audit: verdict '{verdict}'")


def _measured_keys(summary: Summary, keys: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    prose = {(gpu, model, mode) for gpu, modes in PROSE_MODES.items() for model in MODELS for mode in modes}
    wanted = prose | set(keys)
    gpus = summary.order_gpus({gpu for gpu, _, _ in wanted})
    return sorted(wanted, key=lambda key: (gpus.index(key[0]), MODELS.index(key[1]), key[2]))


def _rounded(value: float | None, digits: int) -> Latex:
    return NOT_AVAILABLE if value is None else rounded(value, digits)


def _exact(value: float | None) -> Latex:
    return NOT_AVAILABLE if value is None else number(value)


def published_numbers(summary: Summary) -> Iterator[Number]:
    """Headline values of the published study, and what follows from them by arithmetic alone."""
    values = summary.published
    yield Number("PublishedValues", number(values.height), "published: all rows")
    peaks = table1_peaks(values)
    for row in peaks.iter_rows(named=True):
        key = (row["gpu"], row["model"], f"{row['runtime']}-{row['precision']}")
        rows = f"published: Table I, {', '.join(key)}"
        yield Number(macro_name("PublishedPeak", *key), number(row["throughput_img_s"]), rows)
        yield Number(macro_name("PublishedPeakBatch", *key), number(row["batch_size"]), rows)

    def stated(section: str, quantity: str) -> float | None:
        found = values.filter(pl.col("section") == section, pl.col("quantity") == quantity)["value"]
        return None if found.is_empty() else float(found[0])

    headline = "published: Abstract"
    yield Number(
        "PublishedSpeedupCpu",
        _exact(stated("Abstract", "speedup_vs_cpu")),
        f"{headline}, speedup_vs_cpu",
    )
    yield Number(
        "PublishedRatio",
        _exact(stated("Abstract", "throughput_ratio")),
        f"{headline}, throughput_ratio",
    )

    mode_of_model = ["model", "runtime", "precision"]
    t4, l4 = (peaks.filter(pl.col("gpu") == gpu) for gpu in ("T4", "L4"))
    ratios = (
        l4.join(t4, on=mode_of_model)
        .select(ratio=pl.col("throughput_img_s") / pl.col("throughput_img_s_right"))["ratio"]
        .sort()
    )
    others = ratios.head(-1).to_list()
    yield Number(
        "PublishedRatioCells",
        number(len(others)),
        "published: Table I, L4 over T4, all cells but the highest",
    )
    yield from _range("PublishedRatioOther", others, 2, "published: Table I, L4 over T4, all cells but the highest")

    steps = (
        l4.filter(pl.col("precision") == "int8")
        .join(l4.filter(pl.col("precision") == "fp16"), on="model")
        .select(ratio=pl.col("throughput_img_s") / pl.col("throughput_img_s_right"))["ratio"]
    )
    yield from _range("PublishedIntEightStep", steps.to_list(), 2, "published: Table I, L4, int8 over fp16")

    latencies = median_latencies(values).filter(pl.col("batch_size") == 512, pl.col("approx") == "approx")
    slow, fast = (latencies.filter(pl.col("gpu") == gpu) for gpu in ("T4", "L4"))
    matched = fast.join(slow, on=mode_of_model).select(ratio=pl.col("median_ms_right") / pl.col("median_ms"))["ratio"]
    yield from _range("PublishedRatioMatched", matched.to_list(), 2, "published: V-B, batch 512, T4 median over L4's")

    pair = pareto_pairs(values).filter(pl.col("gpu") == "L4").sort("throughput_img_s").tail(1)
    batch = None if pair.is_empty() else pair["throughput_img_s"][0] * pair["median_ms"][0] / 1000
    yield Number("PublishedImpliedBatch", _rounded(batch, 3), "published: V-F, highest L4 pair, throughput x latency")


def _range(name: str, values: list[float], digits: int, rows: str) -> Iterator[Number]:
    yield Number(f"{name}Low", _rounded(min(values, default=None), digits), f"{rows}, lowest")
    yield Number(f"{name}High", _rounded(max(values, default=None), digits), f"{rows}, highest")


def captions() -> Iterator[Number]:
    """The captions of the figures, so that each stands in one place only."""
    for name in FIGURES:
        yield Number(macro_name("Caption", name), escape(read_caption(name)), f"deepgap.figures.{name}")
