"""The published values of device memory."""

from __future__ import annotations

from deepgap.published.audit.evidence import (
    FAILS,
    HOLDS,
    OPEN,
    Cell,
    Finding,
    Printed,
    Values,
    batch_of,
    cell_label,
    need,
    span,
)
from deepgap.published.networks import IMAGE_CHANNELS, IMAGE_SIDE, find_traffic
from deepgap.study.words import BYTES_PER_ELEMENT


def larger_model_more_memory(values: Values) -> Finding:
    """A larger model needs more memory."""
    memory, pairs = values.cells("nvml_memory"), []
    for (gpu, model, precision), rows in memory.items():
        for row in rows:
            others = memory.get((gpu, "resnet101", precision), []) if model == "resnet50" else []
            same = [other["value"] for other in others if other["batch"] == row["batch"]][:1]
            pairs += [(gpu, precision, row["batch"], row["value"], other) for other in same]
    pairs = list(dict.fromkeys(pairs))
    need(pairs)
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
    need(stated)
    largest = max(values.sweep())
    growth = {}
    for row in stated:
        traffic = find_traffic(row["model"])
        if traffic is not None:
            image = IMAGE_CHANNELS * IMAGE_SIDE**2 + traffic.largest
            growth[row["precision"]] = image * BYTES_PER_ELEMENT[row["precision"]] * (largest - 1) / 1e9
    need(growth)
    told = " and ".join(f"{size:.1f} GB in {precision.upper()}" for precision, size in growth.items())
    return values.finding(
        "Memory in eager PyTorch is independent of the batch size",
        f"{len(stated)} values name no batch size; from 1 to {largest} images the input and the largest activation "
        f"alone grow by {told}. One value for all batch sizes is the high-water mark of a long-lived process.",
        # The study prints tenths of a GB.
        FAILS if min(growth.values()) > 0.05 else OPEN,
        "layers of the networks",
    )


def growth_of_int8(values: Values) -> Finding:
    """The stated growth of one INT8 mode's memory."""
    stated = values.rows("nvml_memory_growth")
    need(stated)
    said, growths = stated[0], Printed[Cell, float]()
    for cell, rows in values.cells("nvml_memory").items():
        by_batch = {batch: row["value"] for row in rows if (batch := batch_of(row)) is not None}
        if len(by_batch) > 1:
            first, last = (by_batch[size] for size in (min(by_batch), max(by_batch)))
            growths[cell] = 1000 * (last - first)
    growth = growths[said["gpu"], said["model"], said["precision"]]
    largest = max(values.sweep())
    image = IMAGE_CHANNELS * IMAGE_SIDE**2 * BYTES_PER_ELEMENT["fp32"] * largest / 1e6
    return values.finding(
        f"Memory of {cell_label((said['model'], said['precision']))} on the {said['gpu']} grows by less than "
        f"{said['value']:g} MB from the smallest batch size to the largest",
        f"{growth:.0f} MB; over all models and GPUs {span(growths.values(), 3)} MB, near the {image:.0f} MB of "
        f"{largest} input images in FP32.",
        HOLDS if growth < said["value"] else FAILS,
    )


def reduction_of_memory(values: Values) -> Finding:
    """The stated ratios of FP32's memory to INT8's."""
    low, high = values.limits("memory_reduction")
    memory = values.cells("nvml_memory")
    ratios = [
        memory[gpu, model, "fp32"][0]["value"] / row["value"]
        for (gpu, model, precision), rows in memory.items()
        if precision == "int8"
        for row in rows
    ]
    need(ratios)
    inside = sum(round(low, 1) <= round(ratio, 1) <= round(high, 1) for ratio in ratios)
    return values.finding(
        f"FP32 needs {low:g} to {high:g} times the memory of INT8",
        f"FP32 over INT8 is {span(ratios, 2)}; {inside} of {len(ratios)} are within {low:g} to {high:g}.",
        HOLDS if inside == len(ratios) else FAILS,
    )


def difference_of_memory(values: Values) -> Finding:
    """The stated differences of memory between L4 and T4."""
    low, high = values.limits("nvml_memory_difference")
    memory = values.cells("nvml_memory")
    differences = []
    for (gpu, model, precision), rows in memory.items():
        for row in rows if gpu == "L4" else []:
            same = [o for o in memory.get(("T4", model, precision), []) if o["batch"] == row["batch"]]
            differences += [1000 * (row["value"] - other["value"]) for other in same[:1]]
    need(differences)
    inside = sum(low <= round(difference) <= high for difference in differences)
    return values.finding(
        f"The L4 uses {low:g} to {high:g} MB more memory than the T4",
        f"{span(differences, 3)} MB; {inside} of {len(differences)} are within {low:g} to {high:g}.",
        HOLDS if inside == len(differences) else FAILS,
    )


def one_value_a_mode(values: Values) -> Finding:
    """Each mode has one value of memory."""
    memory = values.cells("nvml_memory")
    need(memory)
    twice = {}
    for cell, rows in memory.items():
        for batch in {row["batch"] for row in rows}:
            found = sorted({row["value"] for row in rows if row["batch"] == batch})
            if len(found) > 1:
                twice[cell] = found
    told = "; ".join(
        f"{cell_label(cell[1:])} on the {cell[0]}: {' and '.join(f'{v:g}' for v in found)} GB"
        for cell, found in twice.items()
    )
    verb = "has" if len(twice) == 1 else "have"
    return values.finding(
        "Each mode has one value of memory",
        f"{len(twice)} of {len(memory)} modes {verb} more{f' ({told})' if told else ''}.",
        FAILS if twice else HOLDS,
    )
