"""The published study's claims, recomputed from its own printed numbers.

Every finding names the rows of the transcription that it was computed from. Approximately printed values (read off
figures by the study itself) agree with each other when they are within `ROUGH`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import polars as pl

from deepgap.paper.latex import significant
from deepgap.paper.wording import model_label
from deepgap.published.values import CPU
from deepgap.sources.traffic import BYTES_PER_ELEMENT, IMAGE_CHANNELS, IMAGE_SIDE, find_traffic
from deepgap.stats import minimum_samples
from deepgap.study.gpus import Gpu

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"

ROUGH = 0.1

MINUS = "\N{MINUS SIGN}"
"""Before a negative number in words, where a hyphen would be too short."""

Row: TypeAlias = dict[str, Any]
Cell: TypeAlias = tuple[str, str, str]
"""A gpu, model and precision: each GPU has one runtime a precision."""

BOUNDS = ("over", "under", "at_least", "at_most")


@dataclass(frozen=True)
class Finding:
    """What a claim of the study is worth by its own numbers.

    claim: in this project's words. evidence: what was recomputed, with units. verdict: HOLDS, FAILS or OPEN.
    rows: of the transcription, all that the evidence is computed from. facts: other sources, by name.
    """

    claim: str
    evidence: str
    verdict: str
    rows: tuple[Row, ...]
    facts: tuple[str, ...] = ()

    @property
    def sections(self) -> tuple[str, ...]:
        """The sections that the rows stand in, in the order of the transcription."""
        return tuple(dict.fromkeys(row["section"] for row in self.rows))


Found = TypeVar("Found")


@dataclass(frozen=True)
class Values:
    """The transcription, and what was read from it for a finding."""

    frame: pl.DataFrame
    gpus: Mapping[str, Gpu]
    used: list[Row] = field(default_factory=list)

    def rows(self, quantity: str, section: str | None = None, **equal: str) -> list[Row]:
        """The rows of a quantity, of a section if one is given, with these values; marked as used."""
        found = self.frame.filter(pl.col("quantity") == quantity, **equal)
        if section is not None:
            found = found.filter(pl.col("section").str.starts_with(section))
        rows = found.to_dicts()
        self.used.extend(row for row in rows if row not in self.used)
        return rows

    def cells(self, quantity: str, section: str | None = None, **equal: str) -> dict[Cell, list[Row]]:
        """The rows of a quantity by cell, those of pairs of devices and of any model left out."""
        found: dict[Cell, list[Row]] = {}
        for row in self.rows(quantity, section, **equal):
            cell = (row["gpu"], row["model"], row["precision"])
            if row["gpu"] in (*self.gpus, CPU) and row["model"] not in (None, "any") and "/" not in str(cell[2]):
                found.setdefault(cell, []).append(row)
        return found

    def table1(self) -> dict[Cell, tuple[int, float]]:
        """Batch size and throughput of each of Table I's peaks."""
        batches = self.cells("peak_batch", "Table I")
        return {
            cell: (int(batches[cell][0]["value"]), rows[0]["value"])
            for cell, rows in self.cells("peak_throughput", "Table I").items()
        }

    def theoretical_peaks(self) -> dict[str, dict[str, float]]:
        """The peak rate of each precision of each GPU, as the study prints it."""
        found: dict[str, dict[str, float]] = {}
        for row in self.rows("theoretical_peak"):
            found.setdefault(row["gpu"], {})[row["precision"]] = row["value"]
        return found

    def sweep(self) -> list[int]:
        return sorted({int(row["value"]) for row in self.rows("batch_size_in_sweep")})

    def finding(self, claim: str, evidence: str, verdict: str, *facts: str) -> Finding:
        return Finding(claim, evidence, verdict, tuple(self.used), facts)


class NotPrintedError(Exception):
    """The transcription lacks a value that a check needs."""


def audit(values: pl.DataFrame, gpus: Mapping[str, Gpu]) -> list[Finding]:
    """All findings on a transcription, in the order of `CHECKS`; none on an empty one.

    Args:
        values: in `summary.PUBLISHED_VALUES`.
        gpus: the hardware facts, by key.
    """
    if values.is_empty():
        return []
    findings = []
    for check in CHECKS:
        seen = Values(values, gpus)
        try:
            findings.append(check(seen))
        except (NotPrintedError, LookupError, ValueError):
            claim = check.__name__.replace("_", " ").capitalize()
            findings.append(seen.finding(claim, "The transcription lacks values that this needs.", OPEN))
    return findings


def if_printed(compute: Callable[[Values], Found], values: pl.DataFrame, gpus: Mapping[str, Gpu]) -> Found | None:
    """What `compute` finds on a transcription; null where it lacks a value for that. Arguments: see `audit`."""
    try:
        return compute(Values(values, gpus))
    except NotPrintedError:
        return None


def _need(items: Sequence[Any] | Mapping[Any, Any]) -> None:
    if not items:
        raise NotPrintedError


def pairs_of_one_batch(values: Values) -> Finding:
    """A stated pair of throughput and latency belongs to one batch size."""
    peaks, sweep = values.table1(), values.sweep()
    speeds, latencies = values.rows("pareto_throughput"), values.rows("pareto_latency")
    implied: dict[tuple[Cell, float, float], float] = {}
    for speed, latency in zip(speeds, latencies, strict=True):
        cell = (speed["gpu"], speed["model"], speed["precision"])
        if cell in peaks and speed["value"] == peaks[cell][1]:
            key = (cell, speed["value"], latency["value"])
            implied[key] = speed["value"] * latency["value"] / 1000
    _need(implied)
    near = [key for key, batch in implied.items() if _agree(batch, peaks[key[0]][0])]
    beyond = [key for key, batch in implied.items() if batch > (1 + ROUGH) * max(sweep)]
    top = max(implied, key=lambda key: key[1])
    return values.finding(
        "A stated pair of throughput and latency belongs to one batch size",
        f"Throughput times latency is the throughput's own batch size, within {_percent(ROUGH)}, in {len(near)} of "
        f"{len(implied)} pairs, and beyond the sweep's {max(sweep)} by more than that in {len(beyond)}. "
        f"{top[1]:,.0f} img/s with {top[2]:g} ms would be batch {implied[top]:.0f}; that peak is at "
        f"{peaks[top[0]][0]}, where a call takes {1000 * peaks[top[0]][0] / top[1]:.2f} ms.",
        HOLDS if len(near) == len(implied) else FAILS,
    )


def no_batch_above_the_peak(values: Values) -> Finding:
    """No batch size is faster than the printed peak."""
    peaks, shares = values.table1(), []
    for cell, rows in values.cells("median_latency").items():
        for row in rows:
            # A latency of under some time allows any throughput above its own.
            if cell in peaks and row["approx"] != "under":
                shares.append(1000 * float(row["batch"]) / row["value"] / peaks[cell][1])
    _need(shares)
    return values.finding(
        "No batch size is faster than the printed peak",
        f"Batch over median latency is at most {_percent(max(shares))} of the mode's peak, in {len(shares)} medians.",
        HOLDS if max(shares) <= 1 + ROUGH else FAILS,
    )


def speedups_over_the_cpu(values: Values) -> Finding:
    """Table I's speedups over the CPU follow from its throughputs."""
    peaks, differences = values.table1(), []
    for cell, rows in values.cells("speedup_vs_cpu", "Table I").items():
        base = peaks.get((CPU, cell[1], "fp32"))
        if base is not None and rows[0]["value"] is not None:
            differences.append(abs(peaks[cell][1] / base[1] - rows[0]["value"]))
    _need(differences)
    return values.finding(
        "Table I's speedups over the CPU follow from its throughputs",
        f"{len(differences)} recomputed; the largest difference is {max(differences):.3f}.",
        HOLDS if max(differences) < 0.011 else FAILS,
    )


def stated_ratios_of_peaks(values: Values) -> Finding:
    """The two stated ratios of L4's peak to T4's follow from Table I."""
    peaks, said = values.table1(), values.rows("peak_throughput_ratio", gpu="L4/T4")
    _need(said)
    found = [_ratio(peaks, row["model"], row["precision"]) for row in said]
    pairs = ", ".join(f"{ratio:.2f} for the stated {row['value']:g}" for ratio, row in zip(found, said, strict=True))
    agree = all(round(ratio, 1) == row["value"] for ratio, row in zip(found, said, strict=True))
    claim = "The two stated ratios of L4's peak to T4's follow from Table I"
    return values.finding(claim, f"{pairs}.", HOLDS if agree else FAILS)


def cards_at_their_own_best(values: Values) -> Finding:
    """The headline ratio of L4 to T4, each at its own best batch size."""
    headline, peaks = _headline(values), values.table1()
    ratios = {cell[1:]: _ratio(peaks, *cell[1:]) for cell in peaks if cell[0] == "L4"}
    reached = {cell for cell, ratio in ratios.items() if round(ratio, 1) >= headline}
    others = [ratio for cell, ratio in ratios.items() if cell not in reached]
    top = max(ratios, key=lambda cell: ratios[cell])
    return values.finding(
        f"The L4 is up to {headline:g} times as fast as the T4, each at its own best batch size",
        f"{len(reached)} of {len(ratios)} cells {'reaches' if len(reached) == 1 else 'reach'} it; the largest is "
        f"{ratios[top]:.2f} ({_cell(top)}, batch {peaks['L4', *top][0]} over batch {peaks['T4', *top][0]}), the "
        f"others are {_span(others, 2)}.",
        HOLDS if reached else FAILS,
    )


@dataclass(frozen=True)
class MatchedRatios:
    """L4 over T4 by the medians at one batch size, by model and precision.

    known: T4's median latency over L4's. lower: the same where one of them is printed as a bound, so that the ratio
    is at least this.
    """

    batch_size: int
    known: Mapping[tuple[str, str], float]
    lower: Mapping[tuple[str, str], float]

    @property
    def bounds(self) -> str:
        """The lower bounds in words, `over 3.0 in ResNet-18 INT8`; nothing where there is none."""
        return ", ".join(f"over {significant(ratio, 2)} in {_cell(cell)}" for cell, ratio in self.lower.items())


def matched_ratios(values: Values) -> MatchedRatios:
    """The ratios of the cards at the largest batch size of the sweep.

    Raises:
        NotPrintedError: there is no sweep, or no pair of medians.
    """
    _need(values.sweep())
    batch = max(values.sweep())
    known: dict[tuple[str, str], float] = {}
    lower: dict[tuple[str, str], float] = {}
    medians = values.cells("median_latency", batch=str(batch))
    for (gpu, *cell), rows in medians.items():
        if gpu != "L4" or ("T4", *cell) not in medians:
            continue
        ours, theirs = _closest(rows), _closest(medians["T4", cell[0], cell[1]])
        target = lower if ours["approx"] == "under" or theirs["approx"] == "over" else known
        target[cell[0], cell[1]] = theirs["value"] / ours["value"]
    _need(known | lower)
    return MatchedRatios(batch, known, lower)


def cards_at_one_batch(values: Values) -> Finding:
    """The headline ratio of L4 to T4 at one batch size."""
    headline, found = _headline(values), matched_ratios(values)
    ratios = [*found.known.values(), *found.lower.values()]
    reached = any(ratio * (1 + ROUGH) >= headline for ratio in ratios)
    return values.finding(
        f"The L4 is up to {headline:g} times as fast as the T4 at the same batch size",
        f"At {found.batch_size} the ratio of medians is {_span(found.known.values(), 2)} in {len(found.known)} cells"
        f"{f', {found.bounds}' if found.lower else ''}.",
        HOLDS if reached else OPEN if found.lower else FAILS,
    )


def over_the_cpu_at_own_best(values: Values) -> Finding:
    """The headline ratio of GPU to CPU, each at its own best batch size."""
    headline, peaks = _stated(values, "speedup_vs_cpu", "Abstract"), values.table1()
    base = {cell[1]: speed for cell, (_, speed) in peaks.items() if cell[0] == CPU}
    ratios = {c: speed / base[c[1]] for c, (_, speed) in peaks.items() if c[1] in base and c[0] != CPU}
    reached = [cell for cell, ratio in ratios.items() if round(ratio) >= headline]
    fp16 = [ratio for cell, ratio in ratios.items() if cell[2] != "int8"]
    return values.finding(
        f"The best GPU is up to {headline:g} times as fast as the CPU, each at its own best batch size",
        f"{len(reached)} of {len(ratios)} cells reach it ({_span([ratios[cell] for cell in reached], 3)}): "
        f"{', '.join(f'{_cell(cell[1:])} on the {cell[0]}' for cell in reached) or 'none'}. INT8 ran in TensorRT, "
        f"the CPU's FP32 in eager PyTorch; where both ran in eager PyTorch it is at most {max(fp16):.1f}.",
        HOLDS if reached else FAILS,
    )


def over_the_cpu_at_one_batch(values: Values) -> Finding:
    """The headline ratio of GPU to CPU at one batch size."""
    headline, peaks = _stated(values, "speedup_vs_cpu", "Abstract"), values.table1()
    base = {cell[1]: (batch, speed) for cell, (batch, speed) in peaks.items() if cell[0] == CPU}
    _need(base)
    ratios = [
        speed / base[cell[1]][1]
        for cell, (batch, speed) in peaks.items()
        if cell[0] != CPU and cell[1] in base and batch == base[cell[1]][0]
    ]
    fast = {cell: batch for cell, (batch, _) in peaks.items() if cell[2] == "int8" and cell[0] == "L4"}
    compared = any(cell[1] in base and base[cell[1]][0] == batch for cell, batch in fast.items())
    verdict = OPEN if not compared else HOLDS if max(ratios) >= headline - 0.5 else FAILS
    return values.finding(
        f"The best GPU is up to {headline:g} times as fast as the CPU at the same batch size",
        f"The CPU's values are of batch {_list(batch for batch, _ in base.values())}, the L4's in INT8 of "
        f"{_list(fast.values())}. The peaks that share the CPU's batch are {_span(ratios, 3)} times it.",
        verdict,
    )


def precision_of_int8(values: Values) -> Finding:
    """The gain from FP16 to INT8 is one of precision."""
    peaks, theory = values.table1(), values.theoretical_peaks()
    parts, above, total = [], 0, 0
    for gpu, rates in theory.items():
        limit = rates["int8"] / rates["fp16"]
        steps = [
            speed / peaks[gpu, cell[1], "fp16"][1]
            for cell, (_, speed) in peaks.items()
            if cell[0] == gpu and cell[2] == "int8"
        ]
        above += sum(step > (1 + ROUGH) * limit for step in steps)
        total += len(steps)
        parts.append(f"{_span(steps, 2)} on the {gpu}, where the peak rates differ by {limit:.1f}")
    _need(parts)
    return values.finding(
        "The gain from FP16 to INT8 is one of precision",
        f"{'; '.join(parts)}. FP16 ran in eager PyTorch, INT8 in TensorRT.",
        FAILS if above else OPEN,
    )


def int8_over_fp32(values: Values) -> Finding:
    """The stated limits of INT8 over FP32, each at its own best batch size."""
    peaks = values.table1()
    said = [row for row in values.rows("speedup_vs_fp32", "V-G", approx="at_most") if row["gpu"] in values.gpus]
    _need(said)
    stated = " and ".join(f"{row['value']:g} ({row['gpu']})" for row in said)
    parts, reached = [], []
    for row in said:
        ratios = [
            peaks[cell][1] / peaks[cell[0], cell[1], "fp32"][1]
            for cell in peaks
            if cell[0] == row["gpu"] and cell[2] == "int8"
        ]
        reached.append(round(max(ratios)) >= row["value"])
        parts.append(f"{_span(ratios, 3)} on the {row['gpu']}, stated up to {row['value']:g}")
    return values.finding(
        f"INT8 is up to {stated} times as fast as FP32, each at its own best batch size",
        f"{'; '.join(parts)}. Above that the FP32 baseline is past its own peak.",
        HOLDS if all(reached) else FAILS,
    )


def p99_above_the_median(values: Values) -> Finding:
    """The 99th percentile is no lower than the median."""
    medians, below, compared = values.cells("median_latency"), {}, 0
    for cell, rows in values.cells("p99_latency").items():
        same = [row for row in medians.get(cell, []) if row["batch"] == rows[0]["batch"]]
        if not same or rows[0]["approx"] == "over" or all(row["approx"] == "under" for row in same):
            continue
        compared += 1
        highest, median = max(row["value"] for row in rows), _closest(same)["value"]
        if highest < median:
            below[cell] = (highest, median)
    if not compared:
        raise NotPrintedError
    told = "; ".join(f"{_cell(c[1:])} on the {c[0]}: {p:g} below {m:g} ms" for c, (p, m) in below.items())
    return values.finding(
        "The 99th percentile is no lower than the median",
        f"It is lower in {len(below)} of {compared} cells{f' ({told})' if told else ''}; all are printed as "
        "approximate.",
        FAILS if below else HOLDS,
    )


def p99_of_few_calls(values: Values) -> Finding:
    """The tail is stable: the 99th percentile describes it."""
    (calls,) = {int(row["value"]) for row in values.rows("timed_iterations")}
    needed = minimum_samples(0.99)
    return values.finding(
        "The tail is stable: the 99th percentile describes it",
        f"With {calls} calls a run even the largest lies below the true 99th percentile with a probability of "
        f"{_percent(0.99**calls)}; at 99 % confidence it takes {needed}.",
        HOLDS if calls >= needed else OPEN,
    )


def p99_reductions(values: Values) -> Finding:
    """The stated reductions of the 99th percentile from T4 to L4 follow from its values."""
    tails, off = values.cells("p99_latency"), []
    for row in values.rows("p99_reduction", gpu="L4/T4"):
        cells = [(gpu, row["model"], row["precision"]) for gpu in ("L4", "T4")]
        if not all(cell in tails for cell in cells):
            continue
        ours, theirs = ([r["value"] for r in tails[cell]] for cell in cells)
        low, high = (100 * (1 - a / b) for a, b in ((max(ours), min(theirs)), (min(ours), max(theirs))))
        limit = float("inf") if row["approx"] == "over" else high
        off.append(max(low - row["value"], row["value"] - limit, 0.0))
    _need(off)
    return values.finding(
        "The stated reductions of the 99th percentile from T4 to L4 follow from its values",
        f"{len(off)} recomputed; the largest is off by {max(off):.1f} percentage points.",
        HOLDS if max(off) < 2.5 else FAILS,
    )


def peaks_within_the_sweep(values: Values) -> Finding:
    """Table I's peaks are the highest throughputs there are."""
    peaks, edge = values.table1(), max(values.sweep())
    cells = {cell: batch for cell, (batch, _) in peaks.items() if cell[0] != CPU}
    _need(cells)
    at_edge = [cell for cell, batch in cells.items() if batch == edge]
    told = ", ".join(f"{_cell(cell[1:])} on the {cell[0]}" for cell in at_edge)
    return values.finding(
        "Table I's peaks are the highest throughputs there are",
        f"{len(at_edge)} of {len(cells)} lie at the sweep's largest batch size, {edge}{f': {told}' if told else ''}; "
        "the true peak may be beyond.",
        OPEN if at_edge else HOLDS,
    )


def t4_peaks_late(values: Values) -> Finding:
    """The stated peak batch sizes of the T4."""
    limit = _stated(values, "peak_batch", "V-A", gpu="T4")
    return _peaks_between(values, "T4", limit, float("inf"), f"The T4 peaks at batch sizes of {limit:g} and more")


def l4_peaks_early(values: Values) -> Finding:
    """The stated peak batch sizes of the L4."""
    said = [row["value"] for row in values.rows("peak_batch", "V-A", gpu="L4")]
    _need(said)
    claim = f"The L4 peaks at batch sizes of {min(said):g} to {max(said):g}"
    return _peaks_between(values, "L4", min(said), max(said), claim)


def _peaks_between(values: Values, gpu: str, low: float, high: float, claim: str) -> Finding:
    batches = [batch for cell, (batch, _) in values.table1().items() if cell[0] == gpu]
    _need(batches)
    inside = sum(low <= batch <= high for batch in batches)
    if inside == len(batches):
        return values.finding(claim, f"All {inside} in Table I.", HOLDS)
    others = _list(batch for batch in batches if not low <= batch <= high)
    return values.finding(claim, f"{inside} of {len(batches)} in Table I; the others are at {others}.", FAILS)


@dataclass(frozen=True)
class CachedPeaks:
    """The L4's peaks by what their largest activation takes of its L2 cache.

    usual: the most frequent product of batch size and bytes of an element. count: of the peaks that have it, among
    all. largest: elements of the largest activation of an image. fit: the peaks at which that of a call fits.
    """

    usual: int
    count: int
    peaks: int
    largest: int
    fit: int
    capacity_bytes: float


def cached_peaks(values: Values) -> CachedPeaks:
    """The L4's peaks of Table I, of models whose layers are known.

    Raises:
        NotPrintedError: there are none, or the cache's capacity is not known.
    """
    capacity_mib = values.gpus["L4"].l2_cache_mib if "L4" in values.gpus else None
    sizes = []
    for cell, (batch, _) in values.table1().items():
        traffic = find_traffic(cell[1])
        if cell[0] == "L4" and traffic is not None:
            sizes.append((batch * BYTES_PER_ELEMENT[cell[2]], traffic.largest))
    _need(sizes)
    if capacity_mib is None:
        raise NotPrintedError
    products, capacity = [product for product, _ in sizes], capacity_mib * 2**20
    usual = max(products, key=products.count)
    fit = sum(product * largest <= capacity for product, largest in sizes)
    return CachedPeaks(usual, products.count(usual), len(sizes), sizes[0][1], fit, capacity)


def scheduling_of_the_l4(values: Values) -> Finding:
    """The L4 peaks early because of its scheduling."""
    found = cached_peaks(values)
    size_mb = found.largest * found.usual / 1e6
    return values.finding(
        "The L4 peaks early because of its scheduling",
        f"In {found.count} of {found.peaks} peaks batch size times bytes of an element is {found.usual}. "
        f"The largest activation ({found.largest:,} elements an image) is then {size_mb:.1f} MB, and at twice that "
        f"batch {2 * size_mb:.1f} MB, where the L2 cache holds {found.capacity_bytes / 1e6:.1f} MB; it fits at "
        f"{found.fit} of {found.peaks} peaks. The cache explains this as well, and no printed number tells the two "
        "apart.",
        OPEN,
        "config/gpus.yaml: L4, l2_cache_mib",
        "deepgap.sources.traffic: largest activation",
    )


def larger_model_more_memory(values: Values) -> Finding:
    """A larger model needs more memory."""
    memory, pairs = values.cells("nvml_memory"), []
    for (gpu, model, precision), rows in memory.items():
        for row in rows:
            others = memory.get((gpu, "resnet101", precision), []) if model == "resnet50" else []
            same = [other["value"] for other in others if other["batch"] == row["batch"]][:1]
            pairs += [(gpu, precision, row["batch"], row["value"], other) for other in same]
    pairs = list(dict.fromkeys(pairs))
    _need(pairs)
    below = [pair for pair in pairs if pair[4] < pair[3]]
    equal = [pair for pair in pairs if pair[4] == pair[3]]
    told = "; ".join(f"{big:g} below {small:g} GB in {p.upper()} on the {gpu}" for gpu, p, _, small, big in below)
    return values.finding(
        "A larger model needs more memory",
        f"ResNet-101 is printed below ResNet-50 in {len(below)} of {len(pairs)} pairs{f' ({told})' if told else ''} "
        f"and equal to it in {len(equal)}.",
        FAILS if below else HOLDS,
    )


def memory_without_batch(values: Values) -> Finding:
    """Memory in eager PyTorch is independent of the batch size."""
    stated = [
        row
        for rows in values.cells("nvml_memory").values()
        for row in rows
        if row["batch"] is None and row["precision"] in ("fp32", "fp16")
    ]
    _need(stated)
    largest = max(values.sweep())
    need = {}
    for row in stated:
        traffic = find_traffic(row["model"])
        if traffic is not None:
            image = IMAGE_CHANNELS * IMAGE_SIDE**2 + traffic.largest
            need[row["precision"]] = image * BYTES_PER_ELEMENT[row["precision"]] * (largest - 1) / 1e9
    told = " and ".join(f"{size:.1f} GB in {precision.upper()}" for precision, size in need.items())
    return values.finding(
        "Memory in eager PyTorch is independent of the batch size",
        f"{len(stated)} values name no batch size; from 1 to {largest} images the input and the largest activation "
        f"alone grow by {told}. One value for all batch sizes is the high-water mark of a long-lived process.",
        # The study prints tenths of a GB.
        FAILS if min(need.values()) > 0.05 else OPEN,
        "deepgap.sources.traffic: largest activation",
    )


def growth_of_int8(values: Values) -> Finding:
    """The stated growth of one INT8 mode's memory."""
    (said,) = values.rows("nvml_memory_growth")
    growths = {}
    for cell, rows in values.cells("nvml_memory").items():
        by_batch = {row["batch"]: row["value"] for row in rows if row["batch"] is not None}
        if len(by_batch) > 1:
            first, last = (by_batch[size] for size in (min(by_batch, key=int), max(by_batch, key=int)))
            growths[cell] = 1000 * (last - first)
    growth = growths[said["gpu"], said["model"], said["precision"]]
    largest = max(values.sweep())
    image = IMAGE_CHANNELS * IMAGE_SIDE**2 * BYTES_PER_ELEMENT["fp32"] * largest / 1e6
    return values.finding(
        f"Memory of {_cell((said['model'], said['precision']))} on the {said['gpu']} grows by less than "
        f"{said['value']:g} MB from the smallest batch size to the largest",
        f"{growth:.0f} MB; over all models and GPUs {_span(growths.values(), 3)} MB, near the {image:.0f} MB of "
        f"{largest} input images in FP32.",
        HOLDS if growth < said["value"] else FAILS,
    )


def reduction_of_memory(values: Values) -> Finding:
    """The stated ratios of FP32's memory to INT8's."""
    low, high = (row["value"] for row in values.rows("memory_reduction"))
    memory = values.cells("nvml_memory")
    ratios = [
        memory[gpu, model, "fp32"][0]["value"] / row["value"]
        for (gpu, model, precision), rows in memory.items()
        if precision == "int8"
        for row in rows
    ]
    _need(ratios)
    inside = sum(round(low, 1) <= round(ratio, 1) <= round(high, 1) for ratio in ratios)
    return values.finding(
        f"FP32 needs {low:g} to {high:g} times the memory of INT8",
        f"FP32 over INT8 is {_span(ratios, 2)}; {inside} of {len(ratios)} are within {low:g} to {high:g}.",
        HOLDS if inside == len(ratios) else FAILS,
    )


def difference_of_memory(values: Values) -> Finding:
    """The stated differences of memory between L4 and T4."""
    low, high = (row["value"] for row in values.rows("nvml_memory_difference"))
    memory = values.cells("nvml_memory")
    differences = []
    for (gpu, model, precision), rows in memory.items():
        for row in rows if gpu == "L4" else []:
            same = [o for o in memory.get(("T4", model, precision), []) if o["batch"] == row["batch"]]
            differences += [1000 * (row["value"] - other["value"]) for other in same[:1]]
    _need(differences)
    inside = sum(low <= round(difference) <= high for difference in differences)
    return values.finding(
        f"The L4 uses {low:g} to {high:g} MB more memory than the T4",
        f"{_span(differences, 3)} MB; {inside} of {len(differences)} are within {low:g} to {high:g}.",
        HOLDS if inside == len(differences) else FAILS,
    )


def one_value_a_mode(values: Values) -> Finding:
    """Each mode has one value of memory."""
    memory = values.cells("nvml_memory")
    _need(memory)
    twice = {}
    for cell, rows in memory.items():
        for batch in {row["batch"] for row in rows}:
            found = sorted({row["value"] for row in rows if row["batch"] == batch})
            if len(found) > 1:
                twice[cell] = found
    told = "; ".join(
        f"{_cell(cell[1:])} on the {cell[0]}: {' and '.join(f'{v:g}' for v in found)} GB"
        for cell, found in twice.items()
    )
    verb = "has" if len(twice) == 1 else "have"
    return values.finding(
        "Each mode has one value of memory",
        f"{len(twice)} of {len(memory)} modes {verb} more{f' ({told})' if told else ''}.",
        FAILS if twice else HOLDS,
    )


def bandwidth_of_the_l4(values: Values) -> Finding:
    """The L4's memory bandwidth is higher than the T4's."""
    ours, theirs = (values.gpus[gpu].memory_bandwidth_gb_s for gpu in ("L4", "T4"))
    if ours is None or theirs is None:
        raise NotPrintedError
    return values.finding(
        "The L4's memory bandwidth is higher than the T4's",
        f"By the vendor's datasheets {ours:g} against {theirs:g} GB/s.",
        HOLDS if ours > theirs else FAILS,
        "config/gpus.yaml: L4 and T4, memory_bandwidth_gb_s",
    )


def batch_configurations(values: Values) -> Finding:
    """The sweep has the stated number of batch sizes."""
    (said,) = {int(row["value"]) for row in values.rows("batch_configurations")}
    listed = values.sweep()
    _need(listed)
    return values.finding(
        "The sweep has the stated number of batch sizes",
        f"{said} stated, {len(listed)} listed.",
        HOLDS if said == len(listed) else FAILS,
    )


def one_host(values: Values) -> Finding:
    """One operating system ran all of it."""
    versions = sorted({row["value"] for row in values.rows("os_ubuntu_version")})
    _need(versions)
    return values.finding(
        "One operating system ran all of it",
        f"Ubuntu {' and '.join(f'{version:.2f}' for version in versions)}.",
        HOLDS if len(versions) == 1 else FAILS,
    )


CHECKS: tuple[Callable[[Values], Finding], ...] = (
    pairs_of_one_batch,
    no_batch_above_the_peak,
    stated_ratios_of_peaks,
    cards_at_their_own_best,
    cards_at_one_batch,
    speedups_over_the_cpu,
    over_the_cpu_at_own_best,
    over_the_cpu_at_one_batch,
    precision_of_int8,
    int8_over_fp32,
    p99_above_the_median,
    p99_of_few_calls,
    p99_reductions,
    peaks_within_the_sweep,
    t4_peaks_late,
    l4_peaks_early,
    scheduling_of_the_l4,
    larger_model_more_memory,
    memory_without_batch,
    growth_of_int8,
    reduction_of_memory,
    difference_of_memory,
    one_value_a_mode,
    bandwidth_of_the_l4,
    batch_configurations,
    one_host,
)


def _headline(values: Values) -> float:
    return _stated(values, "throughput_ratio", "Abstract", gpu="L4/T4")


def _stated(values: Values, quantity: str, section: str, **equal: str) -> float:
    rows = values.rows(quantity, section, **equal)
    _need(rows)
    return float(rows[0]["value"])


def _ratio(peaks: Mapping[Cell, tuple[int, float]], model: str, precision: str) -> float:
    return peaks["L4", model, precision][1] / peaks["T4", model, precision][1]


def _closest(rows: Sequence[Row]) -> Row:
    """The statement that is not a bound, or else the first."""
    return next((row for row in rows if row["approx"] not in BOUNDS), rows[0])


def _agree(one: float, other: float) -> bool:
    return abs(one - other) <= ROUGH * other


def _cell(cell: Sequence[str]) -> str:
    return f"{model_label(cell[0])} {cell[1].upper()}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _list(values: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(values))))


def _span(values: Iterable[float], digits: int) -> str:
    """`1.4 to 1.8`, with this many significant digits."""
    known = list(values)
    ends = [significant(end, digits).replace("-", MINUS) for end in (min(known), max(known))] if known else []
    return " to ".join(dict.fromkeys(ends)) or "none"
