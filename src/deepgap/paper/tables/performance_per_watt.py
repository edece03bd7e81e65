"""Performance per watt."""

from __future__ import annotations

from string import ascii_lowercase
from typing import Any

import polars as pl

from deepgap.analyse.summary import Summary
from deepgap.paper.wording import gpu_label
from deepgap.study.words import by_mode, model_label


def context(summary: Summary) -> dict[str, Any]:
    """The families whose energy was counted, a block a GPU.

    Returns:
        gpus: blocks with platform; batch_sizes; sweeps, the number of cells that a value is the median of; rows with
            model, mode and for each batch size images per joule with low and high, those above idle (throughput over
            power, and over power less that of the idle device) and watts, or None and the letter of the reason;
            reasons by letter; and for a GPU without any window `absent`, why.
    """
    known = set(summary.measured["gpu"]) | set(summary.failed["gpu"])
    return {"gpus": [_block(summary, gpu) for gpu in summary.order_gpus(known)]}


def _block(summary: Summary, gpu: str) -> dict[str, Any]:
    measured = summary.measured.filter(pl.col("gpu") == gpu)
    counted = measured.filter(pl.col("images_per_joule").is_not_null())
    block: dict[str, Any] = {"platform": gpu_label(gpu), "batch_sizes": [], "rows": [], "reasons": {}, "absent": None}
    if counted.is_empty():
        notes = measured["energy_note"].drop_nulls().unique().sort()
        return block | {"sweeps": None, "absent": "; ".join(notes) or "nothing was timed"}
    batch_sizes = sorted(set(counted["batch_size"]))
    everything = [*measured.iter_rows(named=True), *summary.failed.filter(pl.col("gpu") == gpu).iter_rows(named=True)]
    families = {(row["model"], row["mode"], row["batch_size"]): row for row in everything}
    modes = {(model, mode) for model, mode, size in families if size in batch_sizes}
    reasons: dict[str, str] = {}
    rows = [
        {
            "model": model_label(model),
            "mode": mode,
            "values": [_value(families.get((model, mode, size)), reasons) for size in batch_sizes],
        }
        for model, mode in sorted(modes, key=lambda key: (summary.place_model(key[0]), by_mode(key[1])))
    ]
    sweeps = sorted(set(counted["energy_sweeps"]))
    return block | {
        "batch_sizes": batch_sizes,
        "sweeps": " to ".join(map(str, dict.fromkeys((sweeps[0], sweeps[-1])))),
        "rows": rows,
        "reasons": {letter: reason for reason, letter in reasons.items()},
    }


def _value(row: dict[str, Any] | None, reasons: dict[str, str]) -> dict[str, Any]:
    """One family's numbers; `reasons` collects why one is missing, and its letter."""
    names = ("images_per_joule", "low", "high", "above_idle", "power_w", "letter")
    value: dict[str, Any] = dict.fromkeys(names)
    if row is None:
        return value | {"letter": _letter("not measured", reasons)}
    if row["status"] != "ok":
        return value | {"letter": _letter(row["status"].replace("_", " "), reasons)}
    above = row["energy_above_idle_j_per_image"]
    value |= {"images_per_joule": row["images_per_joule"], "power_w": row["power_w"]}
    value |= {"low": row["images_per_joule_low"], "high": row["images_per_joule_high"]}
    value["above_idle"] = None if above is None else 1 / above
    if value["images_per_joule"] is None:
        value["letter"] = _letter(row["energy_note"] or "no reason was recorded", reasons)
    elif above is None:
        value["letter"] = _letter("power under 1.5 times that of the idle device", reasons)
    return value


def _letter(reason: str, reasons: dict[str, str]) -> str:
    return reasons.setdefault(reason, ascii_lowercase[min(len(reasons), 25)])
