"""Variance components against simulated effects and against the formulas of balanced data."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from deepgap.analyse.schemas import RUNS, VARIANCE
from deepgap.analyse.variance import LEVELS, Squares, family_squares, pool_variance, summarise_variance

SPREADS = {"host": 0.05, "card": 0.02, "process": 0.01, "run": 0.004}


def simulate(generator: np.random.Generator, counts: list[tuple[int, int, int]]) -> Squares:
    """One family: for each card of a host, (host, card, processes), with one to three runs a process."""
    places, values = [], []
    hosts: dict[int, float] = {}
    sweep = 0
    for host, card, processes in counts:
        of_host = hosts.setdefault(host, SPREADS["host"] * generator.normal())
        of_card = SPREADS["card"] * generator.normal()
        for _ in range(processes):
            sweep += 1
            of_process = SPREADS["process"] * generator.normal()
            for run in range(1 + sweep % 3):
                places.append((host, card, sweep, run))
                values.append(of_host + of_card + of_process + SPREADS["run"] * generator.normal())
    return family_squares(np.array(values), places)


def test_the_components_of_unbalanced_families_are_found() -> None:
    generator = np.random.default_rng(0)
    counts = [(1, 1, 3), (1, 2, 2), (2, 3, 4), (3, 4, 1), (3, 5, 3)]
    squares = [simulate(generator, counts) for _ in range(1500)]
    total = squares[0]
    for other in squares[1:]:
        total = total + other
    assert dict(zip(LEVELS, total.spreads, strict=True)) == pytest.approx(SPREADS, rel=0.06)


def test_a_balanced_family_has_the_mean_squares_of_the_textbook() -> None:
    """Two levels with equal counts: process and run (Searle, Casella and McCulloch, section 3.5)."""
    values = np.random.default_rng(1).normal(size=(6, 4))
    places = [(0, 0, sweep, run) for sweep in range(6) for run in range(4)]
    host, card, process, run = family_squares(values.ravel(), places).spreads
    within = values.var(axis=1, ddof=1).mean()
    between = 4 * values.mean(axis=1).var(ddof=1)
    assert host is card is None
    assert run == pytest.approx(np.sqrt(within))
    assert process == pytest.approx(np.sqrt(max((between - within) / 4, 0)))


def test_a_level_that_was_not_repeated_is_not_told() -> None:
    values = np.array([0.0, 0.1, -0.1, 0.05])
    host, card, process, run = family_squares(values, [("h", "c", sweep, 1) for sweep in range(4)]).spreads
    assert host is card is run is None
    assert process == pytest.approx(values.std(ddof=1))


def test_groups_can_be_pooled_from_the_table() -> None:
    generator = np.random.default_rng(2)
    rows = []
    for batch_size in (1, 8):
        for sweep in range(1, 9):
            row = dict.fromkeys(RUNS.names()) | {"gpu": "H200", "model": "resnet18", "threads": 0, "run": 1}
            row |= {"mode": "eager-fp16", "batch_size": batch_size, "sweep": sweep, "host": "h", "card": "c"}
            value = float(np.exp(0.01 * generator.normal()))
            rows.append(row | {"throughput_img_s": 100 * value, "median_ms": 80 / value})
    runs = pl.DataFrame(rows, schema=RUNS)
    bound = {("H200", "resnet18", "eager-fp16", size, 0): size == 1 for size in (1, 8)}
    table = summarise_variance(runs, bound)
    assert table.schema == VARIANCE and table.height == 2 * 2 * len(LEVELS)
    found = pool_variance(table.filter(quantity="throughput"))
    squares = [runs.filter(batch_size=size)["throughput_img_s"].log().var() for size in (1, 8)]
    assert found["process"] == pytest.approx(np.sqrt(np.mean(squares)))
    assert found["host"] is None and pool_variance(table.clear()) == dict.fromkeys(LEVELS)
