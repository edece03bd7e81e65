"""How many families, runs and calls there are, by which protocol, with which flags and answers."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from deepgap.analyse.flag_counts import families_with, first_flagged, flagged_families
from deepgap.analyse.flags import FLAGS
from deepgap.analyse.summary import Summary
from deepgap.paper.latex import Latex, escape, number
from deepgap.paper.numbers.macro import (
    NOT_AVAILABLE,
    Number,
    exact,
    macro_name,
    span,
)
from deepgap.paper.wording import calibration_label, gpu_label, measured_modes, prose_gpus

PROSE_PRECISIONS = ("fp32", "tf32", "fp16", "int8")
"""Those of whose answers the prose tells."""


def family_sizes(summary: Summary) -> Iterator[Number]:
    """Runs and pooled latency calls of a family in words, by GPU, over its families of all numbers of threads."""
    timed = summary.families.filter(pl.col("status") == "ok")
    gpus = summary.order_gpus(set(timed["gpu"]))
    for name, column in (("RunsOfAFamily", "runs"), ("CallsOfAFamily", "samples")):
        spans = [
            span(timed.filter(gpu=gpu)[column].to_list(), number) + rf" ({escape(gpu_label(gpu))})" for gpu in gpus
        ]
        text = Latex(", ".join(spans)) if spans else NOT_AVAILABLE
        yield Number(name, text, f"families: {column}, least and most by gpu")


def design_numbers(summary: Summary) -> Iterator[Number]:
    """The counts of the protocol by which each GPU of the prose is measured."""
    names = (
        "sweeps",
        "repeats",
        "warmup_iterations",
        "timed_iterations",
        "minimum_iterations",
        "minimum_ms",
        "energy_s",
    )
    for gpu in prose_gpus(summary):
        row = next(iter(summary.design.filter(gpu=gpu).to_dicts()), {})
        for name in names:
            yield Number(macro_name("Design", gpu, name), exact(row.get(name)), f"design: gpu={gpu}, {name}")
        sizes = row.get("batch_sizes") or []
        for name, value in (
            ("batch_sizes", len(sizes) or None),
            ("smallest_batch", min(sizes, default=None)),
            ("largest_batch", max(sizes, default=None)),
        ):
            yield Number(macro_name("Design", gpu, name), exact(value), f"design: gpu={gpu}, batch_sizes")
        half = row.get("half_width")
        percent = None if half is None else 100 * half
        yield Number(macro_name("Design", gpu, "half_width"), exact(percent), f"design: gpu={gpu}, half_width in %")


def flag_numbers(summary: Summary) -> Iterator[Number]:
    """For each GPU of the prose: its families, those with any flag and with each, and for each mode the smallest
    batch size that is throttled, over models."""
    for gpu in prose_gpus(summary):
        modes = measured_modes(summary, gpu)
        rows = f"families: gpu={gpu}, timed"
        yield Number(macro_name("Families", gpu), number(families_with(summary, gpu)), rows)
        yield Number(macro_name("Flagged", gpu), number(flagged_families(summary, gpu)), f"{rows}, any flag")
        for flag in FLAGS:
            yield Number(
                macro_name("Flagged", gpu, flag), number(families_with(summary, gpu, flag)), f"{rows}, {flag}"
            )
        for flag in ("unsteady", "variable", "arms_disagree"):
            count = number(families_with(summary, gpu, flag, "launch_bound"))
            yield Number(macro_name("Flagged", gpu, flag, "launch_bound"), count, f"{rows}, {flag} and launch_bound")
        first = first_flagged(summary, gpu, "throttled")
        for mode in modes:
            text = span(list(first.get(mode, {}).values()), number)
            name = macro_name("ThrottledFrom", gpu, mode)
            yield Number(name, text, f"{rows}, mode={mode}, smallest batch_size with throttled, over models")


def fidelity_numbers(summary: Summary) -> Iterator[Number]:
    """For each GPU of the prose: the held-out images on which the rows of Table IV rest, the calibration of INT8, and
    by precision the worst SQNR of its modes in decibels, over modes and models."""
    for gpu in prose_gpus(summary):
        here = summary.fidelity.filter(gpu=gpu)
        images = span(here["images"].drop_nulls().to_list(), number)
        yield Number(macro_name("FidelityImages", gpu), images, f"fidelity: gpu={gpu}, images")
        calibrations = dict.fromkeys(label for row in here.to_dicts() if (label := calibration_label(row)))
        text = escape(" or ".join(calibrations)) if calibrations else NOT_AVAILABLE
        yield Number(macro_name("Calibration", gpu), text, f"fidelity: gpu={gpu}, calibration of int8")
        for precision in PROSE_PRECISIONS:
            decibels = here.filter(precision=precision)["sqnr_db"].drop_nulls().to_list()
            text = span(decibels, lambda value: Latex(rf"\num{{{value:.1f}}}"))
            yield Number(macro_name("Sqnr", gpu, precision), text, f"fidelity: gpu={gpu}, {precision}, sqnr_db")
