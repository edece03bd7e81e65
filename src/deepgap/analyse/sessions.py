"""The sessions in which cells were measured, and what their cells cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from deepgap.analyse.schemas import COST, SESSION_KEY, SESSIONS
from deepgap.cells.footer import Footer

LEAST = ("load_least", "launch_enqueue_least_ns", "launch_device_least_ns", "first_measured_at")
MOST = ("load_most", "launch_enqueue_most_ns", "launch_device_most_ns", "last_measured_at")
LISTS = tuple(name for name, kind in SESSIONS.items() if kind.is_nested())

WHOLE, OTHER = "cell", "other"


def session_row(footer: Footer) -> dict[str, Any]:
    """A row of `schemas.SESSIONS` of one cell."""
    provenance, observed, recipe = footer.provenance, footer.observed, footer.recipe
    host, device, versions = provenance["host"], provenance["device"], provenance["versions"]
    load, launch = observed.get("host_load"), observed.get("launch") or {}
    software = {name: version for name, version in versions.items() if version is not None}
    software |= {name: version for name, version in provenance.get("libraries", {}).items() if version is not None}
    row = {
        "gpu": recipe["gpu"],
        "session": provenance.get("session", {}).get("id"),
        "host": host.get("host_sha256"),
        **{name: host.get(name) for name in ("cpu", "logical_cores", "memory_gib", "os", "kernel")},
        **{name: (host.get("limits") or {}).get(name) for name in ("usable_cores", "cpu_quota_cores")},
        "device": device["name"],
        "device_memory_bytes": device.get("memory_bytes"),
        "pcie": _pcie(device),
        **{name: device.get(name) for name in ("driver", "max_sm_clock_mhz", "power_limit_w", "ecc")},
        "l2_cache_bytes": device.get("l2_cache_bytes"),
        **{name: versions.get(name) for name in ("python", "torch", "cuda_runtime", "cudnn")},
        "cells": 1,
    }
    row |= {"load_least": load, "load_most": load}
    row |= {f"launch_{name}_{end}_ns": launch.get(f"{name}_ns") for name in _LAUNCH for end in ("least", "most")}
    row |= {f"{end}_measured_at": provenance["measured_at"] for end in ("first", "last")}
    pinned = observed.get("pinned_cores")
    return row | {
        "cards": _listed(device.get("uuid_sha256")),
        "sweeps": [recipe["sweep"]],
        "models": [recipe["model"]],
        "modes": [recipe["mode"]],
        "intraop_threads": _listed(observed.get("intraop_threads")),
        "pinned_cores": _listed(len(pinned) if pinned else None),
        "versions": [f"{name} {version}" for name, version in software.items()],
        "weights": [f"{recipe['model']} {footer.weights_sha256}"],
    }


_LAUNCH = ("enqueue", "device")


def _listed(value: Any) -> list[Any]:
    return [] if value is None else [value]


def _pcie(device: Mapping[str, Any]) -> str | None:
    generation, lanes = device.get("pcie_generation"), device.get("pcie_lanes")
    return None if generation is None or lanes is None else f"{generation}.0 x{lanes}"


def merge_sessions(sessions: pl.DataFrame) -> pl.DataFrame:
    """The rows of `SESSIONS` of each session, software and kind of device as one."""
    return (
        sessions.group_by(SESSION_KEY)
        .agg(
            pl.col("cells").sum(),
            pl.col(LEAST).min(),
            pl.col(MOST).max(),
            pl.col(LISTS).explode(empty_as_null=False).drop_nulls().unique().sort(),
        )
        .select(SESSIONS.names())
        .sort("gpu", "first_measured_at", *SESSION_KEY[1:], nulls_last=True)
    )


def cost_rows(footer: Footer) -> Iterable[dict[str, Any]]:
    """Rows of `schemas.COST` of one cell; none of a cell that does not say how long it took."""
    whole = footer.observed.get("cell_s")
    if whole is None:
        return
    phases = footer.observed.get("phases_s", {})
    seconds = {WHOLE: whole, **phases, OTHER: whole - sum(phases.values())}
    for phase, value in seconds.items():
        yield {name: footer.recipe[name] for name in ("gpu", "model", "mode")} | {
            "phase": phase,
            "cells": 1,
            "seconds": value,
        }


def summarise_cost(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of `COST` of each mode and phase as one."""
    place = ["gpu", "model", "mode"]
    cells = rows.filter(phase=WHOLE).group_by(place).agg(pl.col("cells").sum())
    return (
        rows.group_by(*place, "phase")
        .agg(pl.col("seconds").sum())
        .join(cells, on=place)
        .select(COST.names())
        .sort(*place, "phase")
    )
