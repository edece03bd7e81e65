r"""The numbers of the prose, as LaTeX macros: one `\newcommand` a line, with the rows that it comes from.

A name is made of the words of its key, digits spelled: the peak of ResNet-50 in eager-fp16 on the H200 is
`\PeakHTwoZeroZeroResnetFiveZeroEagerFpOneSix`. A number that the data do not have prints as n/a, so that
the prose compiles whatever was measured.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from deepgap.analyse.flag_counts import families_with, first_flagged, flagged_families
from deepgap.analyse.flags import FLAGS
from deepgap.analyse.peaks import find_peaks
from deepgap.analyse.residency import l2_cache_bytes, residencies
from deepgap.analyse.summary import Summary
from deepgap.paper.latex import Latex, escape, number, rounded
from deepgap.paper.wording import MODELS, PRECISIONS, calibration_label, gpu_label, model_label
from deepgap.published.audit import FAILS, HOLDS, OPEN, audit, cached_peaks, if_printed, matched_ratios
from deepgap.published.values import pareto_pairs, table1_peaks
from deepgap.sources.traffic import BYTES_PER_ELEMENT, find_traffic

DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")

PROSE_MODES = {
    "H200": ("eager-fp32", "eager-tf32", "eager-fp16", "graph-fp16", "compile-fp16", "cudnn-int8"),
}
"""Modes whose macros the prose uses, measured or not."""

PROCESSOR_MODES = ("eager-fp32", "ort-fp32", "ort-int8")

THROUGHPUT_DIGITS, OTHER_DIGITS, PUBLISHED_DIGITS = 4, 3, 2
"""Significant digits as in the tables: of throughput in Table I; of latency, energy and ratios in Tables I, V, VI and
IX; and of what is recomputed from published values, most of which are approximate, in Table VII."""

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


def write_numbers(summary: Summary, captions: Mapping[str, str]) -> str:
    """The content of numbers.tex, in a fixed order.

    Args:
        captions: of the figures, by name.
    """
    numbers = [
        *count_cells(summary),
        *measured_numbers(summary),
        *energies(summary),
        *processor_numbers(summary),
        *family_sizes(summary),
        *design_numbers(summary),
        *flag_numbers(summary),
        *fidelity_numbers(summary),
        *residency_numbers(summary),
        *published_numbers(summary),
        *audit_numbers(summary),
        *caption_texts(captions),
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
            _rounded(peak.point.throughput if peak else None, THROUGHPUT_DIGITS),
            f"{rows}, highest throughput_img_s",
        )
        yield Number(
            macro_name("PeakBatch", *key),
            _exact(peak.point.batch_size if peak else None),
            f"{rows}, its batch_size",
        )
        latency = _rounded(singles.get(key), OTHER_DIGITS)
        yield Number(macro_name("Latency", *key), latency, f"{rows}, batch_size=1, median_ms")
        base = peaks.get((gpu, model, "eager-fp32"))
        gain = peak.point.throughput / base.point.throughput if peak and base else None
        gain_text = _rounded(gain, OTHER_DIGITS)
        yield Number(macro_name("PeakGain", *key), gain_text, f"{rows}, peak over that of eager-fp32")
        eager = singles.get((gpu, model, "eager-fp16"))
        ratio = eager / singles[key] if eager and key in singles else None
        yield Number(
            macro_name("LatencyGain", *key),
            _rounded(ratio, OTHER_DIGITS),
            f"{rows}, batch_size=1, eager-fp16's median_ms over it",
        )


def energies(summary: Summary) -> Iterator[Number]:
    """For each GPU, model and mode: energy of an image in mJ at the largest batch size that has one, and which."""
    known = summary.measured.filter(pl.col("energy_j_per_image").is_not_null()).sort("batch_size")
    last = {(row["gpu"], row["model"], row["mode"]): row for row in known.iter_rows(named=True)}
    for key in _measured_keys(summary, last):
        row, rows = last.get(key), "families: gpu={}, model={}, mode={}".format(*key)
        millijoules = None if row is None else 1000 * row["energy_j_per_image"]
        energy = _rounded(millijoules, OTHER_DIGITS)
        yield Number(macro_name("Energy", *key), energy, f"{rows}, largest batch_size with energy")
        yield Number(
            macro_name("EnergyBatch", *key), _exact(row["batch_size"] if row else None), f"{rows}, that batch_size"
        )


def processor_numbers(summary: Summary) -> Iterator[Number]:
    """The processor that GPUs are compared with: its name, cores, the size of its families, its peaks by model and
    mode, and the highest ratio to it."""
    processor = summary.processor
    yield Number("ProcessorName", escape(processor), "families: the first processor of gpus.yaml that has cells")
    cores = summary.processor_cores
    yield Number(
        "ProcessorCores", NOT_AVAILABLE if cores is None else escape(cores), f"hosts: gpu={processor}, logical_cores"
    )
    for gpu in PROSE_MODES:
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
    yield Number("OverProcessor", _rounded(ratios[top] if top else None, OTHER_DIGITS), rows)
    words = NOT_AVAILABLE if top is None else escape(f"{model_label(top[1])} in {top[2]} on the {gpu_label(top[0])}")
    yield Number("OverProcessorCell", words, rows)
    for model in MODELS:
        for mode in PROCESSOR_MODES:
            peak = peaks.get((processor, model, mode))
            yield Number(
                macro_name("Peak", "Processor", model, mode),
                _rounded(peak.point.throughput if peak else None, THROUGHPUT_DIGITS),
                f"families: gpu={processor}, model={model}, mode={mode}, highest throughput_img_s",
            )


def weights_compared(summary: Summary, gpu: str, other: str) -> str:
    """Whether the models that two GPUs were both measured with had the same weights, as a verb."""
    ours, theirs = (
        set(summary.hosts.filter(gpu=key).explode("weights")["weights"].drop_nulls()) for key in (gpu, other)
    )
    models = {text.split(" ")[0] for text in ours} & {text.split(" ")[0] for text in theirs}
    if not models:
        return "cannot be compared"
    same = not any(text.split(" ")[0] in models for text in ours ^ theirs)
    return "are the same" if same else "differ"


def family_sizes(summary: Summary) -> Iterator[Number]:
    """Runs and pooled latency calls of a family in words, by GPU, over its families of all numbers of threads."""
    timed = summary.families.filter(pl.col("status") == "ok")
    gpus = summary.order_gpus(set(timed["gpu"]))
    for name, column in (("RunsOfAFamily", "runs"), ("CallsOfAFamily", "samples")):
        spans = [
            _span(timed.filter(gpu=gpu)[column].to_list(), number) + rf" ({escape(gpu_label(gpu))})" for gpu in gpus
        ]
        text = Latex(", ".join(spans)) if spans else NOT_AVAILABLE
        yield Number(name, text, f"families: {column}, least and most by gpu")


def design_numbers(summary: Summary) -> Iterator[Number]:
    """The counts of the protocol by which each GPU of the prose is measured."""
    names = (
        "sweeps",
        "repeats",
        "warmup_iterations",
        "timed_iterations",
        "minimum_iterations",
        "minimum_ms",
        "energy_s",
    )
    for gpu in PROSE_MODES:
        row = next(iter(summary.design.filter(gpu=gpu).to_dicts()), {})
        for name in names:
            yield Number(macro_name("Design", gpu, name), _exact(row.get(name)), f"design: gpu={gpu}, {name}")
        sizes = row.get("batch_sizes") or []
        for name, value in (
            ("batch_sizes", len(sizes) or None),
            ("smallest_batch", min(sizes, default=None)),
            ("largest_batch", max(sizes, default=None)),
        ):
            yield Number(macro_name("Design", gpu, name), _exact(value), f"design: gpu={gpu}, batch_sizes")
        half = row.get("half_width")
        percent = None if half is None else 100 * half
        yield Number(macro_name("Design", gpu, "half_width"), _exact(percent), f"design: gpu={gpu}, half_width in %")


def flag_numbers(summary: Summary) -> Iterator[Number]:
    """For each GPU of the prose: its families, those with any flag and with each, and for each mode the smallest
    batch size that is throttled, over models."""
    for gpu, modes in PROSE_MODES.items():
        rows = f"families: gpu={gpu}, timed"
        yield Number(macro_name("Families", gpu), number(families_with(summary, gpu)), rows)
        yield Number(macro_name("Flagged", gpu), number(flagged_families(summary, gpu)), f"{rows}, any flag")
        for flag in FLAGS:
            yield Number(
                macro_name("Flagged", gpu, flag), number(families_with(summary, gpu, flag)), f"{rows}, {flag}"
            )
        for flag in ("unsteady", "variable", "arms_disagree"):
            count = number(families_with(summary, gpu, flag, "launch_bound"))
            yield Number(macro_name("Flagged", gpu, flag, "launch_bound"), count, f"{rows}, {flag} and launch_bound")
        first = first_flagged(summary, gpu, "throttled")
        for mode in modes:
            text = _span(list(first.get(mode, {}).values()), number)
            name = macro_name("ThrottledFrom", gpu, mode)
            yield Number(name, text, f"{rows}, mode={mode}, smallest batch_size with throttled, over models")


def fidelity_numbers(summary: Summary) -> Iterator[Number]:
    """For each GPU of the prose: the held-out images on which the rows of Table IV rest, the calibration of INT8, and
    by precision the worst SQNR of its modes in decibels, over modes and models."""
    for gpu in PROSE_MODES:
        here = summary.fidelity.filter(gpu=gpu)
        images = _span(here["images"].drop_nulls().to_list(), number)
        yield Number(macro_name("FidelityImages", gpu), images, f"fidelity: gpu={gpu}, images")
        calibrations = dict.fromkeys(label for row in here.to_dicts() if (label := calibration_label(row)))
        text = escape(" or ".join(calibrations)) if calibrations else NOT_AVAILABLE
        yield Number(macro_name("Calibration", gpu), text, f"fidelity: gpu={gpu}, calibration of int8")
        for precision in PRECISIONS:
            decibels = here.filter(precision=precision)["sqnr_db"].drop_nulls().to_list()
            text = _span(decibels, lambda value: Latex(rf"\num{{{value:.1f}}}"))
            yield Number(macro_name("Sqnr", gpu, precision), text, f"fidelity: gpu={gpu}, {precision}, sqnr_db")


def residency_numbers(summary: Summary) -> Iterator[Number]:
    """For each GPU of the prose: its L2 cache in MiB, the largest batch sizes whose largest activation fits, and how
    the sweeps go on beyond (`deepgap.analyse.residency`); shares and gains in percent."""
    for gpu in PROSE_MODES:
        capacity = l2_cache_bytes(summary, gpu)
        rows = f"hosts: gpu={gpu}, l2_cache_bytes"
        yield Number(
            macro_name("Cache", gpu), _exact(None if capacity is None else capacity / 2**20), f"{rows} in MiB"
        )
        found = list(residencies(summary, gpu))
        rows = f"families: gpu={gpu}, deepgap.analyse.residency"
        yield Number(macro_name("CacheSweeps", gpu), number(len(found)), rows)
        for width in sorted(set(BYTES_PER_ELEMENT.values())):
            fits = [item.last_fit for item in found if BYTES_PER_ELEMENT[item.mode.rpartition("-")[2]] == width]
            name = macro_name("CacheBatch", gpu, f"{width}")
            yield Number(name, _span(fits, number), f"{rows}, last_fit at {width} bytes an element")
        fair = [item for item in found if not item.launch_bound]
        yield Number(macro_name("CacheSweepsFair", gpu), number(len(fair)), f"{rows}, not launch_bound")
        told = sum(item.told for item in found)
        yield Number(macro_name("CacheGainTold", gpu), number(told), f"{rows}, gain beyond the intervals")
        columns = {
            "CachePeak": [item.peak_over_cache for item in found],
            "CacheShare": [100 * item.share for item in found],
            "CacheShareFair": [100 * item.share for item in fair],
            "CacheGain": [100 * (item.gain - 1) for item in found],
        }
        for name, values in columns.items():
            yield from _range(macro_name(name, gpu), values, PUBLISHED_DIGITS, rows)
        ours, theirs = (
            summary.gpus[key].memory_bandwidth_gb_s if key in summary.gpus else None for key in (gpu, "L4")
        )
        ratio = None if ours is None or theirs is None else ours / theirs
        rows = f"gpus.yaml: memory_bandwidth_gb_s of {gpu} over L4"
        yield Number(macro_name("Bandwidth", gpu, "OverL4"), _rounded(ratio, PUBLISHED_DIGITS), rows)
    largest = {traffic.largest for model in MODELS if (traffic := find_traffic(model)) is not None}
    yield Number("LargestActivation", _span(sorted(largest), number), "deepgap.sources.traffic: elements an image")


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


def _span(values: Sequence[float], write: Callable[[float], Latex]) -> Latex:
    """`9`, or `96 to 128` where values differ."""
    if not values:
        return NOT_AVAILABLE
    return Latex(" to ".join(dict.fromkeys((write(min(values)), write(max(values))))))


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
    yield from _range(
        "PublishedRatioOther", others, PUBLISHED_DIGITS, "published: Table I, L4 over T4, all cells but the highest"
    )

    steps = (
        l4.filter(pl.col("precision") == "int8")
        .join(l4.filter(pl.col("precision") == "fp16"), on="model")
        .select(ratio=pl.col("throughput_img_s") / pl.col("throughput_img_s_right"))["ratio"]
    )
    int8_rows = "published: Table I, L4, int8 over fp16"
    yield from _range("PublishedIntEightStep", steps.to_list(), PUBLISHED_DIGITS, int8_rows)
    yield from _matched(summary)
    yield from _cached(summary)

    pair = pareto_pairs(values).filter(pl.col("gpu") == "L4").sort("throughput_img_s").tail(1)
    batch = None if pair.is_empty() else pair["throughput_img_s"][0] * pair["median_ms"][0] / 1000
    yield Number("PublishedImpliedBatch", _rounded(batch, 3), "published: V-F, highest L4 pair, throughput x latency")


def _matched(summary: Summary) -> Iterator[Number]:
    """L4 over T4 at one batch size, as in Table VII."""
    rows = "audit: L4 over T4 by the medians at the largest batch size"
    found = if_printed(matched_ratios, summary.published, summary.gpus)
    known = list(found.known.values()) if found else []
    yield Number("PublishedRatioMatchedBatch", _exact(found.batch_size if found else None), rows)
    yield Number("PublishedRatioMatchedCells", number(len(known)), rows)
    yield from _range("PublishedRatioMatched", known, PUBLISHED_DIGITS, rows)
    bounds = escape(found.bounds) if found and found.lower else NOT_AVAILABLE
    yield Number("PublishedRatioMatchedBounds", bounds, f"{rows}, those printed as bounds")


def _cached(summary: Summary) -> Iterator[Number]:
    """The L4's peaks that share one product of batch size and bytes an element, as in Table VII."""
    rows = "audit: peaks of the L4 by batch size times bytes of an element"
    found = if_printed(cached_peaks, summary.published, summary.gpus)
    values = (found.usual, found.count, found.peaks) if found else (None, None, None)
    for name, value in zip(("Product", "Count", "Peaks"), values, strict=True):
        yield Number(f"PublishedCache{name}", _exact(value), rows)


def _range(name: str, values: list[float], digits: int, rows: str) -> Iterator[Number]:
    yield Number(f"{name}Low", _rounded(min(values, default=None), digits), f"{rows}, lowest")
    yield Number(f"{name}High", _rounded(max(values, default=None), digits), f"{rows}, highest")


def caption_texts(captions: Mapping[str, str]) -> Iterator[Number]:
    """The captions of the figures, so that each stands in one place only."""
    for name, caption in captions.items():
        yield Number(macro_name("Caption", name), escape(caption), f"deepgap.paper.figures.{name}")
