"""Peaks, latencies, energies and ratios of the prose's devices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import polars as pl

from deepgap.analyse.peaks import find_peaks
from deepgap.analyse.schemas import CURVE_KEY
from deepgap.analyse.summary import Summary
from deepgap.paper.latex import Latex, interval, rounded
from deepgap.paper.numbers.macro import (
    NOT_AVAILABLE,
    OTHER_DIGITS,
    THROUGHPUT_DIGITS,
    Number,
    exact,
    low_and_high,
    macro_name,
    rounded_or_not,
)
from deepgap.paper.wording import prose_gpus
from deepgap.study.cell import ALL_THREADS


def measured_numbers(summary: Summary) -> Iterator[Number]:
    """For each GPU, model and mode: peak throughput and its batch size, and median latency at batch size 1."""
    peaks = find_peaks(summary.measured)
    singles = {
        (row["gpu"], row["model"], row["mode"]): row["median_ms"]
        for row in summary.measured.filter(pl.col("batch_size") == 1).iter_rows(named=True)
    }
    for key in _prose_keys(summary, peaks):
        rows, peak = "families: gpu={}, model={}, mode={}".format(*key), peaks[key]
        yield Number(
            macro_name("Peak", *key),
            rounded(peak.point.throughput, THROUGHPUT_DIGITS),
            f"{rows}, throughput_img_s of the smallest batch_size that is tied",
        )
        yield Number(macro_name("PeakBatch", *key), exact(peak.point.batch_size), f"{rows}, its batch_size")
        yield Number(
            macro_name("PeakEnds", *key),
            _ends(peak.point.low, peak.point.high, THROUGHPUT_DIGITS),
            f"{rows}, interval",
        )
        latency = rounded_or_not(singles.get(key), OTHER_DIGITS)
        yield Number(macro_name("Latency", *key), latency, f"{rows}, batch_size=1, median_ms")


def ratio_numbers(summary: Summary) -> Iterator[Number]:
    """For each GPU of the prose, model, batch size and pair of modes: the ratio of throughputs and its interval."""
    for gpu in prose_gpus(summary):
        for row in summary.ratios.filter(gpu=gpu, threads=ALL_THREADS).iter_rows(named=True):
            batch = f"b{row['batch_size']}"
            name = macro_name("Ratio", gpu, row["model"], batch, row["numerator"], "over", row["denominator"])
            text = Latex(rf"{rounded(row['ratio'], OTHER_DIGITS)}$\times$")
            ends = interval(row["low"], row["high"], OTHER_DIGITS)
            rows = f"ratios: gpu={gpu}, model={row['model']}, batch_size={row['batch_size']}"
            source = f"{rows}, {row['numerator']} over {row['denominator']}"
            yield Number(name, Latex(f"{text} {ends}" if ends else text), source)


def spread_numbers(summary: Summary) -> Iterator[Number]:
    """For each GPU of the prose: the spread of throughput between processes in percent, least and most over models
    and modes, apart for families that launching bounds."""
    for gpu in prose_gpus(summary):
        known = summary.variance.filter(
            pl.col("spread").is_not_null(), gpu=gpu, quantity="throughput", level="process"
        )
        for name, bound in (("LaunchBound", True), ("Device", False)):
            percent = (100 * known.filter(launch_bound=bound)["spread"]).to_list()
            rows = f"variance: gpu={gpu}, throughput, process, launch_bound={bound}, spread in %"
            yield from low_and_high(macro_name("Spread", gpu, name), percent, 2, rows)


def energies(summary: Summary) -> Iterator[Number]:
    """For each GPU, model and mode: energy of an image in mJ at the largest batch size that has one, and which."""
    known = summary.measured.filter(pl.col("energy_j_per_image").is_not_null()).sort("batch_size")
    last = known.group_by(CURVE_KEY, maintain_order=True).last()
    found = {(row["gpu"], row["model"], row["mode"]): row for row in last.iter_rows(named=True)}
    for key in _prose_keys(summary, found):
        row, rows = found[key], "families: gpu={}, model={}, mode={}".format(*key)
        energy = rounded(1000 * row["energy_j_per_image"], OTHER_DIGITS)
        yield Number(macro_name("Energy", *key), energy, f"{rows}, largest batch_size with energy, in mJ")
        ends = [row[f"energy_{end}_j_per_image"] for end in ("low", "high")]
        low, high = (None if end is None else 1000 * end for end in ends)
        yield Number(macro_name("EnergyEnds", *key), _ends(low, high, OTHER_DIGITS), f"{rows}, interval, in mJ")
        yield Number(macro_name("EnergyBatch", *key), exact(row["batch_size"]), f"{rows}, that batch_size")


def top_ratios(summary: Summary) -> Iterator[Number]:
    """For each GPU of the prose, model and pair of modes: the ratio with an interval of the largest batch size,
    and that batch size."""
    for gpu in prose_gpus(summary):
        known = summary.ratios.filter(pl.col("low").is_not_null(), gpu=gpu, threads=ALL_THREADS).sort("batch_size")
        last = known.group_by("model", "numerator", "denominator", maintain_order=True).last()
        for row in last.iter_rows(named=True):
            key = (gpu, row["model"], row["numerator"], "over", row["denominator"])
            rows = f"ratios: gpu={gpu}, model={row['model']}, {row['numerator']} over {row['denominator']}"
            ends = interval(row["low"], row["high"], OTHER_DIGITS)
            text = Latex(rf"{rounded(row['ratio'], OTHER_DIGITS)}$\times$ {ends}")
            yield Number(macro_name("TopRatio", *key), text, f"{rows}, largest batch_size")
            yield Number(macro_name("TopRatioBatch", *key), exact(row["batch_size"]), f"{rows}, largest batch_size")


def _ends(low: float | None, high: float | None, digits: int) -> Latex:
    return interval(low, high, digits) or NOT_AVAILABLE


def _prose_keys(summary: Summary, keys: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Those of these gpus, models and modes that are of the prose's devices, in order."""
    gpus = prose_gpus(summary)
    wanted = [key for key in keys if key[0] in gpus]
    return sorted(wanted, key=lambda key: (gpus.index(key[0]), summary.place_model(key[1]), key[2]))
