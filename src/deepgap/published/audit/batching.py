"""What the published study says of latency and throughput over batch sizes."""

from __future__ import annotations

from deepgap.published.audit.evidence import (
    FAILS,
    HOLDS,
    ROUGH,
    Cell,
    Finding,
    NotPrintedError,
    Values,
    cell_label,
    closest,
    need,
    span,
)
from deepgap.published.audit.ratios import matched_ratios
from deepgap.published.values import CPU


def latency_at_batch_one(values: Values) -> Finding:
    """The stated latencies at batch size 1 agree with the throughputs of the same mode."""
    peaks, parts, wrong = values.table1(), [], 0
    singles = values.cells("median_latency", batch="1")
    speeds, latencies = values.rows("pareto_throughput"), values.rows("pareto_latency")
    if len(speeds) != len(latencies):
        raise NotPrintedError
    for cell, rows in singles.items():
        if cell not in peaks:
            continue
        single_ms = closest(rows)["value"]
        batch, speed = peaks[cell]
        at_peak_ms = 1000 * batch / speed
        if batch > 1 and at_peak_ms < single_ms:
            wrong += 1
            parts.append(
                f"{cell_label(cell[1:])} on the {cell[0]}: {single_ms:g} ms at 1, but {at_peak_ms:.2f} ms at {batch} "
                "by Table I"
            )
        for one, other in zip(speeds, latencies, strict=True):
            stated = (one["gpu"], one["model"], one["precision"])
            if stated == cell and other["value"] == single_ms and one["value"] > (1 + ROUGH) * 1000 / single_ms:
                wrong += 1
                parts.append(
                    f"{cell_label(cell[1:])} on the {cell[0]}: {single_ms:g} ms at 1 is {1000 / single_ms:.0f} "
                    "img/s, "
                    f"but {one['value']:g} img/s is stated at {other['value']:g} ms, which is batch "
                    f"{one['value'] * other['value'] / 1000:.1f}"
                )
    need(singles)
    return values.finding(
        "The stated latencies at batch size 1 agree with the throughputs of the same mode",
        f"{'; '.join(parts) or 'They do'}.",
        FAILS if wrong else HOLDS,
    )


def latency_is_linear(values: Values) -> Finding:
    """Latency is about linear in the batch size."""
    growth = []
    medians = values.cells("median_latency")
    largest = max(values.sweep())
    for rows in medians.values():
        by_batch = {row["batch"]: row["value"] for row in rows}
        if "1" in by_batch and str(largest) in by_batch:
            growth.append(by_batch[str(largest)] / by_batch["1"])
    at_one = _lines_at_one(values, "L4", ("fp32", "fp16"))
    need(growth)
    return values.finding(
        "Latency grows about linearly with the batch size in all models",
        f"From 1 to {largest} it grows {span(growth, 2)} times where both are printed, so it is not proportional. On "
        f"the L4 in FP32 and FP16 the line through the peak's call and the median at {largest} would be at "
        f"{span(at_one, 2)} ms at batch size 1.",
        FAILS if max(at_one) < 0 else HOLDS,
    )


def _lines_at_one(values: Values, gpu: str, precisions: tuple[str, ...]) -> list[float]:
    """Milliseconds at batch size 1 on the line through a call at the peak and the median at the largest batch."""
    peaks, largest = values.table1(), max(values.sweep())
    found = []
    for cell, rows in values.cells("median_latency", batch=str(largest)).items():
        if cell[0] == gpu and cell[2] in precisions and cell in peaks and peaks[cell][0] < largest:
            batch, speed = peaks[cell]
            call_ms = 1000 * batch / speed
            slope = (closest(rows)["value"] - call_ms) / (largest - batch)
            found.append(call_ms - (batch - 1) * slope)
    need(found)
    return found


def _losses(values: Values, gpu: str, precisions: tuple[str, ...]) -> dict[Cell, float]:
    """What the throughput by the median at the largest batch size lacks of Table I's peak, in percent."""
    peaks, largest = values.table1(), max(values.sweep())
    found = {}
    for cell, rows in values.cells("median_latency", batch=str(largest)).items():
        row = closest(rows)
        if cell[0] == gpu and cell[2] in precisions and cell in peaks and row["approx"] != "under":
            found[cell] = 100 * (1 - 1000 * largest / row["value"] / peaks[cell][1])
    need(found)
    return found


def throughput_rises_to_32(values: Values) -> Finding:
    """Throughput rises from batch size 1 to 32 in all models on all devices."""
    limits = [row["value"] for row in values.rows("batch_range_of_rapid_growth")]
    need(limits)
    end = int(max(limits))
    peaks = {cell: batch for cell, (batch, _) in values.table1().items() if cell[0] != CPU}
    need(peaks)
    early = {cell: batch for cell, batch in peaks.items() if batch < end}
    losses = _losses(values, "L4", ("fp32", "fp16"))
    told = ", ".join(sorted({f"the {gpu} in {precision.upper()}" for gpu, _, precision in early}))
    return values.finding(
        f"Throughput rises from batch size 1 to {end} on all devices, and larger batches improve it",
        f"{len(early)} of {len(peaks)} printed peaks lie below {end}{f' ({told})' if told else ''}; by the medians "
        "the "
        f"L4 loses {span(losses.values(), 2)} % from its peak to the largest batch size in FP32 and FP16.",
        FAILS if early else HOLDS,
    )


def gains_at_higher_batches(values: Values) -> Finding:
    """The hypothesis that the L4 gains most at higher batch sizes."""
    peaks = values.table1()
    own = [
        speed / peaks["T4", cell[1], cell[2]][1]
        for cell, (_, speed) in peaks.items()
        if cell[0] == "L4" and ("T4", cell[1], cell[2]) in peaks
    ]
    found = matched_ratios(values)
    need(own)
    bounds = f" ({found.bounds})" if found.lower else ""
    return values.finding(
        "Hypothesis of II-A2: the L4 gains most at higher batch sizes",
        f"At {found.batch_size} the L4 is {span(found.known.values(), 2)} times as fast by the medians{bounds}, at "
        "the "
        f"cards' own best {span(own, 2)} times, with the L4 at its best between 8 and 32. The study does not come "
        "back "
        "to its hypothesis.",
        FAILS if max(found.known.values(), default=0) < min(own) else HOLDS,
    )


def fp16_latency_against_throughput(values: Values) -> Finding:
    """FP16 divides latency by one range and multiplies throughput by another."""
    latency, throughput = values.limits("latency_reduction"), values.limits("throughput_gain")
    medians, largest = values.cells("median_latency", batch=str(max(values.sweep()))), max(values.sweep())
    ratios = []
    for (gpu, model, precision), rows in medians.items():
        if precision == "fp16" and (gpu, model, "fp32") in medians:
            base = closest(medians[gpu, model, "fp32"])
            ratios.append(base["value"] / closest(rows)["value"])
    need(ratios)
    same = latency == throughput
    return values.finding(
        f"FP16 divides latency by {latency[0]:g} to {latency[1]:g} and multiplies throughput by {throughput[0]:g} to "
        f"{throughput[1]:g}",
        "At one batch size the two are one ratio, so the ranges can share their common end alone. By the medians at "
        f"{largest} it is {span(ratios, 2)}.",
        HOLDS if same else FAILS,
    )


def fp16_on_the_t4_twice(values: Values) -> Finding:
    """Two ranges of FP16's gain on the T4 in one paragraph."""
    rows = [row for row in values.rows("speedup_vs_fp32", "V-G", gpu="T4") if row["precision"].startswith("fp16")]
    every = [row["value"] for row in rows if row["model"] == "any"]
    some = [row["value"] for row in rows if row["model"] in ("resnet50", "resnet101")]
    need(every)
    need(some)
    peaks = values.table1()
    own = [
        peaks["T4", model, "fp16"][1] / peaks["T4", model, "fp32"][1]
        for model in ("resnet18", "resnet50", "resnet101")
    ]
    inside = max(some) <= max(every)
    return values.finding(
        f"FP16 gains {min(every):g} to {max(every):g} on the T4 at most batch sizes",
        f"The same paragraph has {min(some):g} to {max(some):g} for two of the three models; by Table I's peaks it "
        "is "
        f"{span(own, 3)}.",
        HOLDS if inside else FAILS,
    )
