"""Table II: what the cells were measured with."""

from __future__ import annotations

from typing import Any

import polars as pl

from deepgap.published import CPU_LABEL
from deepgap.summary import Summary

FIELDS = {
    "device": "Device",
    "devices": "Devices of this kind",
    "cells": "Cells",
    "cpu": "Processor",
    "logical_cores": "Logical cores",
    "memory_gib": "Memory (GiB)",
    "os": "Operating system",
    "kernel": "Kernel",
    "driver": "GPU driver",
    "python": "Python",
    "torch": "PyTorch",
    "torchvision": "torchvision",
    "cuda_runtime": "CUDA runtime",
    "cudnn": "cuDNN",
    "max_sm_clock_mhz": "Max. SM clock (MHz)",
    "power_limit_w": "Power limit (W)",
    "ecc": "ECC memory",
    "intraop_threads": "CPU threads used",
    "last_measured_at": "Last measured",
}


def context(summary: Summary) -> dict[str, Any]:
    """One column a stack, and the published host's.

    Returns:
        titles: the heading of each column.
        lines: rows with a label and a value a column; None where it was not recorded. A row without any is
            left out.
    """
    hosts = sorted(
        summary.hosts.to_dicts(),
        key=lambda row: summary.order_gpus(set(summary.hosts["gpu"])).index(row["gpu"]),
    )
    columns = [{name: _text(name, host[name]) for name in FIELDS} for host in hosts]
    titles = [f"{host['gpu']}, measured" for host in hosts]
    published = _published_host(summary.published)
    if published:
        columns.append(published)
        titles.append("T4 and L4, published")
    lines = [{"label": label, "values": [column.get(name) for column in columns]} for name, label in FIELDS.items()]
    return {"titles": titles, "lines": [line for line in lines if any(v is not None for v in line["values"])]}


def _text(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if name == "ecc":
        return "on" if value else "off"
    if name == "last_measured_at":
        return str(value)[:10]
    return f"{value:g}" if isinstance(value, float) else str(value)


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
