"""What the cells were measured with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from deepgap.analyse.summary import Summary
from deepgap.published.values import CPU_LABEL
from deepgap.study.words import model_label

FIELDS = {
    "session": "Session",
    "device": "Device",
    "cards": "Cards",
    "host": "Host",
    "cells": "Cells",
    "sweeps": "Sweeps",
    "cpu": "Processor",
    "logical_cores": "Logical cores",
    "usable_cores": "Usable cores",
    "cpu_quota_cores": "Quota of cores",
    "pinned_cores": "Cores a cell may use",
    "intraop_threads": "CPU threads used",
    "load": "Load of the host before a cell",
    "memory_gib": "Memory (GiB)",
    "os": "Operating system",
    "kernel": "Kernel",
    "driver": "GPU driver",
    "max_sm_clock_mhz": "Max. SM clock (MHz)",
    "l2_cache_bytes": "L2 cache (MiB)",
    "power_limit_w": "Power limit (W)",
    "ecc": "ECC memory",
    "pcie": "PCIe",
    "launch_enqueue_us": "Queueing an empty kernel (us)",
    "versions": "Software",
    "first_measured_at": "First cell",
    "last_measured_at": "Last cell",
}

HASHES = ("session", "host", "cards")
HASH_DIGITS = 8


def context(summary: Summary) -> dict[str, Any]:
    """One column a session, and the published host's.

    Returns:
        titles: the heading of each column.
        lines: rows with a label and a value a column; None where it was not recorded. A row without any is left out.
    """
    gpus = summary.order_gpus(set(summary.sessions["gpu"]))
    sessions = sorted(summary.sessions.to_dicts(), key=lambda row: (gpus.index(row["gpu"]), row["first_measured_at"]))
    models = summary.order_models(text.rpartition(" ")[0] for row in sessions for text in row["weights"] or ())
    labels = FIELDS | {model: f"Weights of {model_label(model)}" for model in models}
    columns = [
        {name: _text(name, row) for name in FIELDS} | {model: _weights(row, model) for model in models}
        for row in sessions
    ]
    titles = [f"{row['gpu']}, measured" for row in sessions]
    published = _published_host(summary.published)
    if published:
        columns.append(published)
        titles.append("T4 and L4, published")
    lines = [{"label": label, "values": [column.get(name) for column in columns]} for name, label in labels.items()]
    return {"titles": titles, "lines": [line for line in lines if any(v is not None for v in line["values"])]}


def _text(name: str, row: Mapping[str, Any]) -> str | None:
    if name == "load":
        return _range(row["load_least"], row["load_most"])
    if name == "launch_enqueue_us":
        ends = (row["launch_enqueue_least_ns"], row["launch_enqueue_most_ns"])
        return _range(*(None if ns is None else ns / 1000 for ns in ends))
    value = row[name]
    if value is None or value == []:
        return None
    if name in HASHES:
        words = value if isinstance(value, list) else [value]
        return ", ".join(word[:HASH_DIGITS] for word in words)
    if name == "ecc":
        return "on" if value else "off"
    if name.endswith("_measured_at"):
        return str(value)[:16].replace("T", " ")
    if name == "l2_cache_bytes":
        return f"{value / 2**20:g}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _range(least: float | None, most: float | None) -> str | None:
    """`4.1 to 13.3`; None where it was not recorded."""
    if least is None or most is None:
        return None
    return " to ".join(dict.fromkeys(f"{value:.1f}" for value in (least, most)))


def _weights(row: Mapping[str, Any], model: str) -> str | None:
    """The first digits of the hashes of a model's weights."""
    found = [text.removeprefix(f"{model} ") for text in row["weights"] or () if text.startswith(f"{model} ")]
    return ", ".join(weights[:HASH_DIGITS] for weights in found) or None


def _published_host(values: pl.DataFrame) -> dict[str, str | None]:
    """The host as the study prints it; it names two versions of its operating system in two places."""
    host = values.filter(pl.col("gpu") == "host")
    if host.is_empty():
        return {}

    def stated(quantity: str) -> list[str]:
        return [f"{value:g}" for value in host.filter(pl.col("quantity") == quantity)["value"]]

    versions = " and ".join(f"{float(version):.2f}" for version in stated("os_ubuntu_version"))
    return {
        "device": "T4, L4",
        "cpu": CPU_LABEL.split(",", maxsplit=1)[0],
        "logical_cores": stated("cpu_threads")[0],
        "memory_gib": f"{stated('memory')[0]} (as GB)",
        "os": f"Ubuntu {versions} (two statements)",
    }
