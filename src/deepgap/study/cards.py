"""Cards that config/gpus.yaml does not have: a key from the name, and an entry of what the driver tells."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import yaml

from deepgap.study.gpus import CARD_FILE
from deepgap.text import write_text

LONGEST_KEY = 40
"""Characters of a key, where workflow/schemas/gpus.schema.yaml has it again."""

TENSOR_CORES_SINCE = {"fp16": (7, 0), "int8": (7, 2), "tf32": (8, 0)}
"""The first compute capability whose tensor cores multiply a precision. Source: CUDA C++ Programming Guide."""

NO_PEAK = "The driver tells no peak rates: there is no roofline, and no bound by a peak is checked."


def make_key(name: str, taken: Container[str]) -> str:
    """A key for a card by the name that its driver gives it: `RTX4080SUPER` for NVIDIA GeForce RTX 4080 SUPER.

    Args:
        taken: keys of other cards; the key has the maker's and the series' names where it would be one of them.
    """
    short = re.sub(r"^(NVIDIA )?((GeForce|Tesla|Quadro|GRID) )?| (Edition|Generation)\b", "", name)
    key = _as_key(short)
    return _as_key(name) if key in taken else key


def _as_key(name: str) -> str:
    words = "".join(re.sub(r"(?<=\d)[^A-Za-z0-9]+(?=\d)", "with", name).split())
    key = re.sub(r"[^A-Za-z0-9]", "", words)
    return (key if key[:1].isalpha() else f"GPU{key}")[:LONGEST_KEY]


def draft_entry(facts: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of gpus.yaml from what a driver told; what it did not tell is null.

    The bandwidth is two transfers a cycle of the memory's clock over the width of its bus (NVIDIA, How to Implement
    Performance Metrics in CUDA C/C++).

    Args:
        facts: `device` of a cell's footer, and where they are known memory_bus_bits, default_power_limit_w and
            architecture.
    """
    capability = tuple(int(number) for number in facts["compute_capability"].split("."))
    precisions = [name for name in ("tf32", "fp16", "int8") if capability >= TENSOR_CORES_SINCE[name]]
    memory_bytes, l2_bytes = facts.get("memory_bytes"), facts.get("l2_cache_bytes")
    clock_mhz, bus_bits = facts.get("max_memory_clock_mhz"), facts.get("memory_bus_bits")
    entry: dict[str, Any] = {
        "name_pattern": re.sub(r"([][\\.^$*+?{}|()])", r"\\\1", facts["name"]),
        "architecture": facts.get("architecture") or "not known",
        "compute_capability": facts["compute_capability"],
        "year": None,
        "inference_card": False,
        "sm_count": facts.get("sm_count"),
        "max_sm_clock_mhz": facts.get("max_sm_clock_mhz"),
        "memory_gb": memory_bytes and round(memory_bytes / 1e9, 1),
        "memory_bandwidth_gb_s": clock_mhz and bus_bits and round(2 * clock_mhz * bus_bits / 8000),
        "l2_cache_mib": l2_bytes and round(l2_bytes / 2**20, 1),
        "tdp_w": facts.get("default_power_limit_w"),
        "peak_tops": dict.fromkeys(["fp32", *precisions]),
    }
    unsourced = ("name_pattern", "inference_card", "peak_tops")
    told = [name for name, value in entry.items() if value not in (None, "not known") and name not in unsourced]
    return entry | {"sources": {f"The driver {facts.get('driver') or 'of the card'}, asked": told}}


def describe_entry(key: str, entry: Mapping[str, Any]) -> str:
    """The entry as YAML, with what a person can add."""
    return (
        f"# {NO_PEAK}\n"
        "# To complete it: copy it into config/gpus.yaml, give in peak_tops the dense rates of NVIDIA's data sheet,\n"
        "# and name the data sheet under sources.\n" + yaml.safe_dump({key: dict(entry)}, sort_keys=False, width=110)
    )


def note_card(results: Path, key: str, entry: Mapping[str, Any]) -> Path:
    """Write a card's entry into its folder below `results`, where every run finds it; one that is there stays."""
    file = results / key / CARD_FILE
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, describe_entry(key, entry))
    return file
