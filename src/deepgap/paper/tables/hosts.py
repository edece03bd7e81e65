"""What the cells were measured with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from deepgap.analyse.summary import Summary
from deepgap.published.values import CPU_LABEL
from deepgap.study.words import model_label

FIELDS = {
    "device": "Device",
    "device_sha256": "Devices of this kind",
    "cells": "Cells",
    "cpu": "Processor",
    "logical_cores": "Logical cores",
    "intraop_threads": "CPU threads used",
    "memory_gib": "Memory (GiB)",
    "os": "Operating system",
    "kernel": "Kernel",
    "driver": "GPU driver",
    "python": "Python",
    "torch": "PyTorch",
    "torchvision": "torchvision",
    "cuda_runtime": "CUDA runtime",
    "cudnn": "cuDNN",
    "cudnn_frontend": "cuDNN frontend",
    "triton": "Triton",
    "onnx": "onnx",
    "onnxruntime": "ONNX Runtime",
    "tensorrt": "TensorRT",
    "max_sm_clock_mhz": "Max. SM clock (MHz)",
    "l2_cache_bytes": "L2 cache (MiB)",
    "power_limit_w": "Power limit (W)",
    "ecc": "ECC memory",
    "last_measured_at": "Last measured",
}

USERS = {
    "cudnn_frontend": ("cudnn-",),
    "triton": ("compile-", "cudnn-"),
    "onnx": ("ort-", "tensorrt-", "cudnn-"),
    "onnxruntime": ("ort-", "tensorrt-int8", "cudnn-"),
    "tensorrt": ("tensorrt-",),
}
"""How the modes begin that use a library. ONNX Runtime also calibrates every graph in INT8."""

HASH_DIGITS = 8


def context(summary: Summary) -> dict[str, Any]:
    """One column a stack, and the published host's.

    Returns:
        titles: the heading of each column.
        lines: rows with a label and a value a column; None where it was not recorded, or where no cell of the stack
            uses the library. A row without any is left out.
    """
    gpus = summary.order_gpus(set(summary.hosts["gpu"]))
    hosts = sorted(summary.hosts.to_dicts(), key=lambda row: gpus.index(row["gpu"]))
    models = summary.order_models(text.rpartition(" ")[0] for host in hosts for text in host["weights"] or ())
    labels = FIELDS | {model: f"Weights of {model_label(model)}" for model in models}
    columns = [
        {name: _text(name, host) for name in FIELDS} | {model: _weights(host, model) for model in models}
        for host in hosts
    ]
    titles = [_title(host, [other for other in hosts if other["gpu"] == host["gpu"]]) for host in hosts]
    published = _published_host(summary.published)
    if published:
        columns.append(published)
        titles.append("T4 and L4, published")
    lines = [{"label": label, "values": [column.get(name) for column in columns]} for name, label in labels.items()]
    return {"titles": titles, "lines": [line for line in lines if any(v is not None for v in line["values"])]}


def _title(host: Mapping[str, Any], stacks: Sequence[Mapping[str, Any]]) -> str:
    """The GPU, and where it has several stacks what tells this one: its cores, or when it first measured."""
    if len(stacks) == 1:
        return f"{host['gpu']}, measured"
    if len({stack["logical_cores"] for stack in stacks}) == len(stacks):
        return f"{host['gpu']}, measured, {host['logical_cores']} cores"
    return f"{host['gpu']}, measured from {host['first_measured_at'][:16].replace('T', ' ')}"


def _text(name: str, host: Mapping[str, Any]) -> str | None:
    value = host[name]
    if value is None or (name in USERS and not any(mode.startswith(USERS[name]) for mode in host["modes"] or ())):
        return None
    # PyTorch is built for a CUDA runtime on a machine without a GPU, too.
    if name == "cuda_runtime" and host["driver"] is None:
        return None
    if name == "ecc":
        return "on" if value else "off"
    if name == "last_measured_at":
        return str(value)[:10]
    if name == "l2_cache_bytes":
        return f"{value / 2**20:g}"
    if name == "device_sha256":
        return str(len(value)) if value else None
    if name == "intraop_threads":
        return ", ".join(map(str, value)) or None
    return f"{value:g}" if isinstance(value, float) else str(value)


def _weights(host: Mapping[str, Any], model: str) -> str | None:
    """The first digits of the hashes of a model's weights."""
    found = [text.removeprefix(f"{model} ") for text in host["weights"] or () if text.startswith(f"{model} ")]
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
