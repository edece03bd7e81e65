"""What the cells were measured with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from deepgap.analyse.summary import Summary
from deepgap.paper.latex import Latex
from deepgap.published.values import CPU_LABEL
from deepgap.study.words import model_label

OWN = {
    "session": "Session",
    "cards": "Cards",
    "host": "Host",
    "cells": "Cells",
    "sweeps": "Sweeps",
    "load": "Load",
    "launch_enqueue_us": r"Launch ($\mu$s)",
    "first_measured_at": "First cell",
    "last_measured_at": "Last cell",
}
"""What differs from session to session, a column each. launch: an empty kernel's time to be queued."""

SHARED = {
    "device": "device",
    "cpu": "processor",
    "logical_cores": "logical cores",
    "usable_cores": "usable cores",
    "cpu_quota_cores": "quota of cores",
    "pinned_cores": "cores a cell may use",
    "intraop_threads": "CPU threads used",
    "memory_gib": "memory (GiB)",
    "os": "operating system",
    "kernel": "kernel",
    "driver": "GPU driver",
    "max_sm_clock_mhz": "max. SM clock (MHz)",
    "l2_cache_bytes": "L2 cache (MiB)",
    "power_limit_w": "power limit (W)",
    "ecc": "ECC memory",
    "pcie": "PCIe",
    "versions": "software",
}
"""What sessions of a device mostly share; told once where they do."""

HASHES = ("session", "host", "cards")
HASH_DIGITS = 8


def context(summary: Summary) -> dict[str, Any]:
    """A row a session, and what is the same in all sessions of a device.

    Returns:
        titles: the headings of the columns. rows: with platform and values, None where it was not recorded.
        shared: rows with platform and text: what its sessions share, and what differs by session.
        published: the published host in words; None without one.
    """
    gpus = summary.order_gpus(set(summary.sessions["gpu"]))
    sessions = sorted(summary.sessions.to_dicts(), key=lambda row: (gpus.index(row["gpu"]), row["first_measured_at"]))
    rows = [{"platform": row["gpu"], "values": [_text(name, row) for name in OWN]} for row in sessions]
    shared = [
        {"platform": gpu, "text": _shared(summary, [row for row in sessions if row["gpu"] == gpu])} for gpu in gpus
    ]
    return {
        "titles": [Latex(title) for title in OWN.values()],
        "rows": rows,
        "shared": shared,
        "published": _published_host(summary.published),
    }


def _shared(summary: Summary, sessions: Sequence[Mapping[str, Any]]) -> str:
    """`driver 580; software torch 2.11`, with the session where they differ."""
    models = summary.order_models(text.rpartition(" ")[0] for row in sessions for text in row["weights"] or ())
    labels = SHARED | {model: f"weights of {model_label(model)}" for model in models}
    clauses = []
    for name, label in labels.items():
        found: dict[str, list[str]] = {}
        for row in sessions:
            text = _text(name, row) if name in SHARED else _weights(row, model=name)
            if text is not None:
                found.setdefault(text, []).append(row["session"][:HASH_DIGITS])
        if len(found) == 1:
            clauses.append(f"{label} {next(iter(found))}")
        elif found:
            clauses.append(f"{label} " + " or ".join(f"{text} ({', '.join(of)})" for text, of in found.items()))
    return "; ".join(clauses)


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


def _published_host(values: pl.DataFrame) -> str | None:
    """The host as the study prints it; it names two versions of its operating system in two places."""
    host = values.filter(pl.col("gpu") == "host")
    if host.is_empty():
        return None

    def stated(quantity: str) -> str:
        return " and ".join(f"{value:g}" for value in host.filter(pl.col("quantity") == quantity)["value"])

    versions = " and ".join(
        f"{float(version):.2f}" for version in stated("os_ubuntu_version").split(" and ") if version
    )
    return (
        f"processor {CPU_LABEL.split(',', maxsplit=1)[0]}; logical cores {stated('cpu_threads')}; memory "
        f"{stated('memory')} GB; operating system Ubuntu {versions} (two statements)"
    )
