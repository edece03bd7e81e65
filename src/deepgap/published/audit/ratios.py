"""Ratios of devices and precisions: what the published headlines compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deepgap.published.audit.evidence import (
    FAILS,
    HOLDS,
    OPEN,
    PARTLY,
    ROUGH,
    Cell,
    Finding,
    Values,
    cell_label,
    closest,
    listed_once,
    need,
    span,
)
from deepgap.published.values import CPU
from deepgap.text import significant


def speedups_over_the_cpu(values: Values) -> Finding:
    """Table I's speedups over the CPU follow from its throughputs."""
    peaks, differences = values.table1(), []
    for cell, rows in values.cells("speedup_vs_cpu", "Table I").items():
        base = peaks.get((CPU, cell[1], "fp32"))
        if base is not None and rows[0]["value"] is not None:
            differences.append(abs(peaks[cell][1] / base[1] - rows[0]["value"]))
    need(differences)
    return values.finding(
        "Table I's speedups over the CPU follow from its throughputs",
        f"{len(differences)} recomputed; the largest difference is {max(differences):.3f}.",
        HOLDS if max(differences) < 0.011 else FAILS,
    )


def stated_ratios_of_peaks(values: Values) -> Finding:
    """The two stated ratios of L4's peak to T4's follow from Table I."""
    peaks, said = values.table1(), values.rows("peak_throughput_ratio", gpu="L4/T4")
    need(said)
    found = [_ratio(peaks, row["model"], row["precision"]) for row in said]
    pairs = ", ".join(f"{ratio:.2f} for the stated {row['value']:g}" for ratio, row in zip(found, said, strict=True))
    agree = all(round(ratio, 1) == row["value"] for ratio, row in zip(found, said, strict=True))
    claim = "The two stated ratios of L4's peak to T4's follow from Table I"
    return values.finding(claim, f"{pairs}.", HOLDS if agree else FAILS)


def cards_at_their_own_best(values: Values) -> Finding:
    """The headline ratio of L4 to T4, each at its own best batch size."""
    headline, peaks = values.headline(), values.table1()
    ratios = {cell[1:]: _ratio(peaks, *cell[1:]) for cell in peaks if cell[0] == "L4"}
    need(ratios)
    reached = {cell for cell, ratio in ratios.items() if round(ratio, 1) >= headline}
    others = [ratio for cell, ratio in ratios.items() if cell not in reached]
    top = max(ratios, key=lambda cell: ratios[cell])
    return values.finding(
        f"The L4 is up to {headline:g} times as fast as the T4, each at its own best batch size",
        f"{len(reached)} of {len(ratios)} cells {'reaches' if len(reached) == 1 else 'reach'} it; the largest is "
        f"{ratios[top]:.2f} ({cell_label(top)}, batch {peaks['L4', *top][0]} over batch {peaks['T4', *top][0]}), the "
        f"others are {span(others, 2)}.",
        HOLDS if not others else PARTLY if reached else FAILS,
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
        return ", ".join(f"over {significant(ratio, 2)} in {cell_label(cell)}" for cell, ratio in self.lower.items())


def matched_ratios(values: Values) -> MatchedRatios:
    """The ratios of the cards at the largest batch size of the sweep.

    Raises:
        NotPrintedError: there is no sweep, or no pair of medians.
    """
    batch = max(values.sweep())
    known: dict[tuple[str, str], float] = {}
    lower: dict[tuple[str, str], float] = {}
    medians = values.cells("median_latency", batch=str(batch))
    for (gpu, *cell), rows in medians.items():
        if gpu != "L4" or ("T4", *cell) not in medians:
            continue
        ours, theirs = closest(rows), closest(medians["T4", cell[0], cell[1]])
        target = lower if ours["approx"] == "under" or theirs["approx"] == "over" else known
        target[cell[0], cell[1]] = theirs["value"] / ours["value"]
    need(known | lower)
    return MatchedRatios(batch, known, lower)


def cards_at_one_batch(values: Values) -> Finding:
    """The headline ratio of L4 to T4 at one batch size."""
    headline, found = values.headline(), matched_ratios(values)
    ratios = [*found.known.values(), *found.lower.values()]
    reached = any(ratio * (1 + ROUGH) >= headline for ratio in ratios)
    return values.finding(
        f"The L4 is up to {headline:g} times as fast as the T4 at the same batch size",
        f"At {found.batch_size} the ratio of medians is {span(found.known.values(), 2)} in {len(found.known)} cells"
        f"{f', {found.bounds}' if found.lower else ''}.",
        HOLDS if reached else OPEN if found.lower else FAILS,
    )


def over_the_cpu_at_own_best(values: Values) -> Finding:
    """The headline ratio of GPU to CPU, each at its own best batch size."""
    headline, peaks = values.one("speedup_vs_cpu", "Abstract"), values.table1()
    base = {cell[1]: speed for cell, (_, speed) in peaks.items() if cell[0] == CPU}
    ratios = {c: speed / base[c[1]] for c, (_, speed) in peaks.items() if c[1] in base and c[0] != CPU}
    reached = [cell for cell, ratio in ratios.items() if round(ratio) >= headline]
    fp16 = [ratio for cell, ratio in ratios.items() if cell[2] != "int8"]
    need(fp16)
    return values.finding(
        f"The best GPU is up to {headline:g} times as fast as the CPU, each at its own best batch size",
        f"{len(reached)} of {len(ratios)} cells reach it ({span([ratios[cell] for cell in reached], 3)}): "
        f"{', '.join(f'{cell_label(cell[1:])} on the {cell[0]}' for cell in reached) or 'none'}. INT8 ran in "
        f"TensorRT, the CPU's FP32 in eager PyTorch; where both ran in eager PyTorch it is at most {max(fp16):.1f}.",
        PARTLY if reached else FAILS,
    )


def over_the_cpu_at_one_batch(values: Values) -> Finding:
    """The headline ratio of GPU to CPU at one batch size."""
    headline, peaks = values.one("speedup_vs_cpu", "Abstract"), values.table1()
    base = {cell[1]: (batch, speed) for cell, (batch, speed) in peaks.items() if cell[0] == CPU}
    need(base)
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
        f"The CPU's values are of batch {listed_once(batch for batch, _ in base.values())}, the L4's in INT8 of "
        f"{listed_once(fast.values())}. The peaks that share the CPU's batch are {span(ratios, 3)} times it.",
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
        parts.append(f"{span(steps, 2)} on the {gpu}, where the peak rates differ by {limit:.1f}")
    need(parts)
    return values.finding(
        "The gain from FP16 to INT8 is one of precision",
        f"{'; '.join(parts)}. FP16 ran in eager PyTorch, INT8 in TensorRT.",
        FAILS if above else OPEN,
    )


def int8_over_fp32(values: Values) -> Finding:
    """The stated limits of INT8 over FP32, each at its own best batch size."""
    peaks = values.table1()
    said = [row for row in values.rows("speedup_vs_fp32", "V-G", approx="at_most") if row["gpu"] in values.gpus]
    need(said)
    stated = " and ".join(f"{row['value']:g} ({row['gpu']})" for row in said)
    parts, reached = [], []
    for row in said:
        ratios = [
            peaks[cell][1] / peaks[cell[0], cell[1], "fp32"][1]
            for cell in peaks
            if cell[0] == row["gpu"] and cell[2] == "int8"
        ]
        need(ratios)
        reached.append(round(max(ratios)) >= row["value"])
        parts.append(f"{span(ratios, 3)} on the {row['gpu']}, stated up to {row['value']:g}")
    return values.finding(
        f"INT8 is up to {stated} times as fast as FP32, each at its own best batch size",
        f"{'; '.join(parts)}. Above that the FP32 baseline is past its own peak.",
        HOLDS if all(reached) else FAILS,
    )


def _ratio(peaks: Mapping[Cell, tuple[int, float]], model: str, precision: str) -> float:
    return peaks["L4", model, precision][1] / peaks["T4", model, precision][1]
