"""Rates, power and memory that the published study draws conclusions from."""

from __future__ import annotations

from deepgap.published.audit.evidence import (
    FAILS,
    HOLDS,
    OPEN,
    Finding,
    Values,
    need,
    span,
)


def ratios_follow_the_peaks(values: Values) -> Finding:
    """The cards' ratio follows that of their theoretical rates."""
    peaks, theory = values.table1(), values.theoretical_peaks()
    parts, above = [], False
    for precision in ("fp32", "fp16", "int8"):
        limit = theory["L4"][precision] / theory["T4"][precision]
        ratios = [
            speed / peaks["T4", cell[1], precision][1]
            for cell, (_, speed) in peaks.items()
            if cell[0] == "L4" and cell[2] == precision
        ]
        need(ratios)
        above |= min(ratios) > limit
        parts.append(f"{precision.upper()} {span(ratios, 3)} against {limit:.2f}")
    return values.finding(
        "L4 over T4 follows their theoretical compute capability",
        f"At their own best, against the ratio of peak rates: {'; '.join(parts)}. Where the ratio is higher than "
        "that "
        "of the rates, operations cannot explain it; and on the L4 the FP32 mode ran TF32, at twice the rate.",
        FAILS if above else HOLDS,
    )


def t4_is_power_efficient(values: Values) -> Finding:
    """The T4 is competitive where cost or power matter."""
    peaks = values.table1()
    ratios = [
        speed / peaks["T4", cell[1], cell[2]][1]
        for cell, (_, speed) in peaks.items()
        if cell[0] == "L4" and ("T4", cell[1], cell[2]) in peaks
    ]
    need(ratios)
    envelope = {gpu: values.gpus[gpu].tdp_w for gpu in ("T4", "L4") if gpu in values.gpus}
    t4, l4 = envelope.get("T4"), envelope.get("L4")
    if t4 is None or l4 is None:
        verdict, told = OPEN, ""
    else:
        by_envelope = [ratio * t4 / l4 for ratio in ratios]
        verdict = FAILS if min(by_envelope) > 1 else HOLDS
        told = f" By the power limits ({t4:g} and {l4:g} W) the L4 does {span(by_envelope, 2)} times as much a watt."
    return values.finding(
        "The T4 is competitive where cost or power efficiency matters",
        "IV-C says the L4 does significantly more a watt in all workloads. Neither a price nor one value of "
        "performance "
        f"a watt is printed.{told}",
        verdict,
        "data sheets",
    )


def memory_allows_batches(values: Values) -> Finding:
    """Lower precision allows larger batches."""
    largest = max(values.sweep())
    reached = values.cells("median_latency", batch=str(largest))
    fp32 = [cell for cell in reached if cell[2] == "fp32"]
    used = [row["value"] for rows in values.cells("nvml_memory").values() for row in rows]
    need(used)
    need(fp32)
    sizes = [gpu.memory_gb for key, gpu in values.gpus.items() if key in ("T4", "L4") and gpu.memory_gb is not None]
    need(sizes)
    late = [batch for cell, (batch, _) in values.table1().items() if cell[0] == "L4"]
    return values.finding(
        "Lower precision allows larger batches within the memory, which raises throughput",
        f"FP32 ran at {largest}, the largest batch size, on both cards; the most memory printed is {max(used):g} GB, "
        f"of {span(sizes, 2)} GB. Nothing ran out of memory, and the L4 peaks at batches of {span(late, 2)}.",
        FAILS if max(used) < min(sizes) else HOLDS,
        "data sheets",
    )
