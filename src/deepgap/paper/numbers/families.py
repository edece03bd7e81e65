"""How many sessions, families and calls there are, by which protocol, with which flags and answers."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from deepgap.analyse.flag_counts import families_with, flagged_families
from deepgap.analyse.flags import FLAGS
from deepgap.analyse.summary import Summary
from deepgap.paper.latex import Latex, escape, number
from deepgap.paper.numbers.macro import NOT_AVAILABLE, Number, exact, low_and_high, macro_name, span
from deepgap.paper.wording import calibration_label, gpu_label, measured_modes, prose_gpus
from deepgap.study.words import model_label

PROSE_PRECISIONS = ("fp32", "tf32", "fp16", "int8")
"""Those of whose answers the prose tells."""


def family_sizes(summary: Summary) -> Iterator[Number]:
    """Sweeps and latency calls of a family in words, by GPU, over its families of all numbers of threads."""
    timed = summary.families.filter(pl.col("status") == "ok")
    gpus = summary.order_gpus(set(timed["gpu"]))
    for name, column in (("SweepsOfAFamily", "sweeps"), ("CallsOfAFamily", "samples")):
        spans = [
            span(timed.filter(gpu=gpu)[column].to_list(), number) + rf" ({escape(gpu_label(gpu))})" for gpu in gpus
        ]
        text = Latex(", ".join(spans)) if spans else NOT_AVAILABLE
        yield Number(name, text, f"families: {column}, least and most by gpu")


def session_numbers(summary: Summary) -> Iterator[Number]:
    """For each GPU of the prose: its sessions, hosts and cards, the load of its hosts, the time to queue an empty
    kernel, what was measured, and what the study asks for."""
    for gpu in prose_gpus(summary):
        here, measured = summary.sessions.filter(gpu=gpu), summary.measured.filter(gpu=gpu)
        rows = f"sessions: gpu={gpu}"
        cards = {card for held in here["cards"] for card in held}
        for name, count in (("Sessions", here.height), ("Hosts", here["host"].n_unique()), ("Cards", len(cards))):
            yield Number(macro_name(name, gpu), number(count), f"{rows}, how many")
        cores = summary.cores(gpu)
        yield Number(macro_name("Cores", gpu), NOT_AVAILABLE if cores is None else escape(cores), f"{rows}, cores")
        for name, columns, unit in (
            ("Load", ("load_least", "load_most"), 1.0),
            ("Launch", ("launch_enqueue_least_ns", "launch_enqueue_most_ns"), 1e-3),
        ):
            ends = [unit * value for column in columns for value in here[column].drop_nulls()]
            yield from low_and_high(macro_name(name, gpu), ends, 2, f"{rows}, {columns[0]} and {columns[1]}")
        sizes = ", ".join(map(str, sorted(set(measured["batch_size"]))))
        yield Number(macro_name("MeasuredBatches", gpu), escape(sizes or "none"), f"families: gpu={gpu}, batch_size")
        models = ", ".join(map(model_label, summary.order_models(measured["model"])))
        yield Number(macro_name("MeasuredModels", gpu), escape(models or "none"), f"families: gpu={gpu}, model")
        modes = len(measured_modes(summary, gpu))
        yield Number(macro_name("MeasuredModes", gpu), number(modes), f"families: gpu={gpu}, modes")
        asked = int(summary.coverage.filter(gpu=gpu)["expected"].sum())
        yield Number(macro_name("CellsAsked", gpu), number(asked), f"coverage: gpu={gpu}, sum of expected")


def design_numbers(summary: Summary) -> Iterator[Number]:
    """The counts of the protocol by which each GPU of the prose is measured."""
    names = (
        "sweeps",
        "runs",
        "warmup_iterations",
        "timed_iterations",
        "throughput_s",
        "minimum_iterations",
        "minimum_ms",
        "maximum_s",
    )
    for gpu in prose_gpus(summary):
        row = next(iter(summary.design.filter(gpu=gpu).to_dicts()), {})
        for name in names:
            yield Number(macro_name("Design", gpu, name), exact(row.get(name)), f"design: gpu={gpu}, {name}")
        half = row.get("half_width")
        percent = None if half is None else 100 * half
        yield Number(macro_name("Design", gpu, "half_width"), exact(percent), f"design: gpu={gpu}, half_width in %")


def flag_numbers(summary: Summary) -> Iterator[Number]:
    """For each GPU of the prose: its families, those with any flag, with each, and with each and launch-bound."""
    for gpu in prose_gpus(summary):
        rows = f"families: gpu={gpu}, timed"
        yield Number(macro_name("Families", gpu), number(families_with(summary, gpu)), rows)
        yield Number(macro_name("Flagged", gpu), number(flagged_families(summary, gpu)), f"{rows}, any flag")
        for flag in FLAGS:
            yield Number(
                macro_name("Flagged", gpu, flag), number(families_with(summary, gpu, flag)), f"{rows}, {flag}"
            )
        for flag in ("not_converged", "unsteady", "variable", "arms_disagree"):
            count = number(families_with(summary, gpu, flag, "launch_bound"))
            yield Number(macro_name("Flagged", gpu, flag, "launch_bound"), count, f"{rows}, {flag} and launch_bound")


def fidelity_numbers(summary: Summary) -> Iterator[Number]:
    """For each GPU of the prose: the held-out images on which its table rests, the calibration of INT8, and
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
