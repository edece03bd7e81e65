"""What the study asks for, and what the published one printed: the tables of the summary that no cell changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from deepgap.analyse.schemas import COVERAGE_KEY, DESIGN, EXPECTED
from deepgap.published.anchors import read_anchors
from deepgap.published.values import read_published
from deepgap.study.gpus import in_config


def describe_study(
    published: Path,
    anchors: Path,
    expected: Sequence[Mapping[str, Any]],
    unlisted: Mapping[str, int],
    axes: Mapping[str, Mapping[str, Any]],
) -> dict[str, pl.DataFrame]:
    """The tables of `schemas.STUDY_TABLES`, by name.

    Args:
        published: the transcribed numbers of the published study.
        anchors: the transcribed records of MLPerf Inference.
        expected, unlisted: see `describe_expected`.
        axes: see `describe_design`.

    Raises:
        DeepGapError: the published numbers or the records cannot be read.
    """
    return {
        "published": read_published(published),
        "anchors": read_anchors(anchors),
        "expected": describe_expected(expected, unlisted),
        "design": describe_design(axes),
    }


def describe_expected(expected: Sequence[Mapping[str, Any]], unlisted: Mapping[str, int]) -> pl.DataFrame:
    """The cells that the study asks for; see `schemas.EXPECTED`.

    Args:
        expected: a row a mode of the study, `Study.expected_counts`.
        unlisted: the number of cell files that the study does not name, by gpu.
    """
    others = [{"gpu": gpu, "unlisted": count} for gpu, count in unlisted.items() if count]
    return (
        pl.DataFrame([*expected, *others], schema=EXPECTED)
        .with_columns(pl.col("expected", "unlisted").fill_null(0))
        .sort(list(COVERAGE_KEY), nulls_last=True)
    )


def describe_design(axes: Mapping[str, Mapping[str, Any]]) -> pl.DataFrame:
    """What the study asks for; see `schemas.DESIGN`.

    Args:
        axes: by gpu its models, modes, batch sizes, protocol and thread counts, and `counts`, the fields of its
            `study.Protocol`.
    """
    rows = []
    for gpu, asked in axes.items():
        counts = asked["counts"]
        stop = counts["stop"] or {}
        threads = [", ".join(map(str, asked["thread_counts"].get(mode, ["all"]))) for mode in asked["modes"]]
        rows.append(
            {
                "gpu": gpu,
                **{name: list(asked[name]) for name in ("models", "modes", "batch_sizes")},
                "threads": threads,
                "protocol": asked["protocol"],
                **{name: counts[name] for name in DESIGN if name in counts},
                "arms": list(counts["arms"]),
                **{name: stop.get(name) for name in ("minimum_iterations", "minimum_ms", "maximum_s", "half_width")},
            }
        )
    return pl.DataFrame(rows, schema=DESIGN)


def describe_coverage(coverage: pl.DataFrame) -> str:
    """One line a GPU: cells found of those expected, and how to get the rest."""
    lines = []
    totals = coverage.group_by("gpu", maintain_order=True).agg(pl.col("expected", "found", "unlisted").sum())
    for gpu, expected, found, unlisted in totals.iter_rows():
        line = f"{gpu}: {found} of {expected} cells"
        if found < expected:
            line += f"; measure the rest with 'snakemake --cores 1 --config {in_config(gpu)}'"
        if unlisted:
            line += f"; {unlisted} files of other settings are left out"
        lines.append(line)
    return "\n".join(lines)
