"""How many families have a flag, and from which batch size on."""

from __future__ import annotations

import polars as pl

from deepgap.analyse.summary import Summary


def families_with(summary: Summary, gpu: str, *flags: str) -> int:
    """The number of timed families of a GPU, of all numbers of threads, that have all of these flags."""
    here = _timed(summary).filter(gpu=gpu)
    return here.filter(pl.all_horizontal(pl.lit(True), *(_has(flag) for flag in flags))).height


def flagged_families(summary: Summary, gpu: str) -> int:
    """The number of timed families of a GPU that have any flag."""
    return _timed(summary).filter(pl.col("flags").list.len() > 0, gpu=gpu).height


def flags_seen(summary: Summary) -> list[str]:
    """The flags that a timed family of any GPU has, sorted."""
    return sorted(set(_timed(summary).explode("flags")["flags"].drop_nulls()))


def first_flagged(summary: Summary, gpu: str, flag: str) -> dict[str, dict[str, int]]:
    """For each mode of a GPU that ever has a flag, by model: the smallest batch size that has it."""
    found: dict[str, dict[str, int]] = {}
    here = summary.measured.filter(_has(flag), gpu=gpu).sort("batch_size", descending=True)
    for row in here.iter_rows(named=True):
        found.setdefault(row["mode"], {})[row["model"]] = row["batch_size"]
    return found


def _timed(summary: Summary) -> pl.DataFrame:
    return summary.families.filter(pl.col("status") == "ok")


def _has(flag: str) -> pl.Expr:
    return pl.col("flags").list.contains(flag)
