"""Two states of results against each other: two kinds of GPU, two sites, before and after a change."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from deepgap.analyse.ratios import ratio_columns
from deepgap.analyse.reading import read_one
from deepgap.analyse.rows import Rows
from deepgap.analyse.sweeps import LATENCY, THROUGHPUT, Sweeps
from deepgap.analyse.sweeps import compare as compare_sweeps
from deepgap.errors import CellError, DiskError
from deepgap.files import is_litter
from deepgap.stats import Ratio
from deepgap.study.gpus import Gpu, with_sites

QUANTITIES = (THROUGHPUT, LATENCY)
LESS_IS_FASTER = frozenset({LATENCY})
PLACE = ["model", "mode", "batch_size", "threads"]

FASTER, SLOWER, SAME, UNCLEAR = VERDICTS = ("faster", "slower", "same", "unclear")

CELLS = pl.Schema(
    {
        "model": pl.String,
        "mode": pl.String,
        "batch_size": pl.Int64,
        "threads": pl.Int64,
        "sweep": pl.Int64,
        "place": pl.String,
        THROUGHPUT: pl.Float64,
        LATENCY: pl.Float64,
        "launch_bound": pl.Boolean,
        "setting": pl.String,
        "stack": pl.String,
        "measured": pl.String,
        "stem": pl.String,
    }
)
"""One row a timed cell of a state. place: the card, of a processor the started host; null where it is not known.
setting: JSON of the recipe but for the gpu and the sweep. stack: JSON of the software. measured: the same for one
measurement in two files."""

COMPARISON = pl.Schema(
    {
        "model": pl.String,
        "mode": pl.String,
        "batch_size": pl.Int64,
        "threads": pl.Int64,
        "quantity": pl.String,
        "base": pl.Float64,
        "other": pl.Float64,
        "base_sweeps": pl.Int64,
        "other_sweeps": pl.Int64,
        "ratio": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "values": pl.Int64,
        "paired": pl.Boolean,
        "verdict": pl.String,
        "launch_bound": pl.Boolean,
        "differs": pl.String,
    }
)
"""One row a family and quantity. base, other: medians over sweeps. ratio: other over base, see `stats.Ratio` for its
interval. differs: the parts of the recipes that are not the same, with blanks between; empty where they are."""


@dataclass(frozen=True)
class State:
    """The cells of one folder. refused: a sentence a file that is left out. lost: cells that could not be timed."""

    cells: pl.DataFrame
    refused: tuple[str, ...] = ()
    lost: int = 0


@dataclass(frozen=True)
class Comparison:
    """rows: in `COMPARISON`. left_out: why families are not among them, and how many for each reason."""

    rows: pl.DataFrame
    left_out: dict[str, int]


def read_state(folder: Path, gpus: Mapping[str, Gpu]) -> State:
    """The cells of a folder of one GPU's results; what is no cell that is in order is left out and told.

    Args:
        folder: as `results/H100`, wherever it is.
        gpus: the facts in config/gpus.yaml.
    """
    known = with_sites(gpus, [folder.name])
    cells, refused, lost = Rows(CELLS), [], 0
    for file in sorted((folder / "cells").glob("*.parquet")):
        if is_litter(file):
            continue
        try:
            row = _row(file, known)
        except (CellError, DiskError) as error:
            refused.append(str(error))
            continue
        cells.add(row)
        lost += row is None
    return State(cells.frame(), tuple(refused), lost)


def _row(file: Path, gpus: Mapping[str, Gpu]) -> dict[str, Any] | None:
    """The cell as a row of `CELLS`; none where it could not be timed."""
    cell = read_one(file, gpus, {})
    if not cell.runs:
        return None
    runs, facts, recipe = pl.DataFrame(cell.runs), cell.facts, cell.footer.recipe
    values = {name: runs[name].median() for name in QUANTITIES}
    setting = {name: value for name, value in recipe.items() if name not in ("gpu", "sweep")}
    return {
        **{name: facts[name] for name in (*PLACE, "sweep", "launch_bound", "stack")},
        **values,
        "place": facts["card"] or facts["host"],
        "setting": json.dumps(setting, sort_keys=True),
        "measured": f"{facts['sweep']} {cell.footer.observed['clock_zero_unix_s']!r} {values}",
        "stem": file.stem,
    }


def compare_states(base: pl.DataFrame, other: pl.DataFrame, margin: float) -> Comparison:
    """Compare the families that both states have.

    Families of one place are compared where their settings are the same; where each state has one setting there, also
    if these differ, and `differs` says in what. A ratio is paired over the sweeps that both measured on the same
    card (of a processor: the same started host), and of medians otherwise; see `sweeps.compare`.

    Args:
        base, other: in `CELLS`.
        margin: ratios whose interval lies within 1 / (1 + margin) and 1 + margin are the same.
    """
    rows, left_out = Rows(COMPARISON), dict[str, int]()
    bases, others = (_families(cells) for cells in (base, other))
    for place in sorted({*bases, *others}):
        reason = _why_not(bases.get(place, {}), others.get(place, {}))
        if reason is not None:
            left_out[reason] = left_out.get(reason, 0) + 1
            continue
        for one, two in _partners(bases[place], others[place]):
            if set(one["measured"]) & set(two["measured"]):
                reason = "hold the same measurements in both"
                left_out[reason] = left_out.get(reason, 0) + 1
                continue
            rows.extend(_compare(one, two, quantity, margin) for quantity in QUANTITIES)
    return Comparison(rows.frame(), left_out)


Families = Mapping[str, pl.DataFrame]
"""The cells of one place by their setting."""


def _families(cells: pl.DataFrame) -> dict[tuple[Any, ...], dict[str, pl.DataFrame]]:
    found: dict[tuple[Any, ...], dict[str, pl.DataFrame]] = {}
    for frame in cells.sort(*PLACE, "setting", "sweep").partition_by(*PLACE, "setting", maintain_order=True):
        found.setdefault(frame.select(PLACE).row(0), {})[frame["setting"][0]] = frame
    return found


def _why_not(base: Families, other: Families) -> str | None:
    if not other:
        return "are in base alone"
    if not base:
        return "are in other alone"
    if not _partners(base, other):
        return "have several settings and none in common"
    return None


def _partners(base: Families, other: Families) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
    shared = [setting for setting in base if setting in other]
    if shared or max(len(base), len(other)) > 1:
        return [(base[setting], other[setting]) for setting in shared]
    return list(zip(base.values(), other.values(), strict=True))


def _compare(base: pl.DataFrame, other: pl.DataFrame, quantity: str, margin: float) -> dict[str, Any]:
    ratio = compare_sweeps(_sweeps(other, quantity, "other"), _sweeps(base, quantity, "base")).ratio
    settings = [json.loads(frame["setting"][0]) for frame in (base, other)]
    names = sorted({*settings[0], *settings[1]})
    return {
        **{name: base[name][0] for name in PLACE},
        "quantity": quantity,
        "base": base[quantity].median(),
        "other": other[quantity].median(),
        "base_sweeps": base.height,
        "other_sweeps": other.height,
        **ratio_columns(ratio),
        "verdict": judge(ratio, margin, less_is_faster=quantity in LESS_IS_FASTER),
        "launch_bound": bool(base["launch_bound"].any() or other["launch_bound"].any()),
        "differs": " ".join(name for name in names if settings[0].get(name) != settings[1].get(name)),
    }


def _sweeps(cells: pl.DataFrame, quantity: str, state: str) -> Sweeps:
    """Where the place is not known, a sweep has no partner in the other state."""
    blocks = tuple((sweep, place or state) for sweep, place in cells.select("sweep", "place").iter_rows())
    return Sweeps(cells[quantity].to_numpy(), blocks, tuple(cells["stem"]))


def judge(ratio: Ratio, margin: float, less_is_faster: bool) -> str:
    """One of `VERDICTS` on a ratio of other over base.

    `same` where the whole interval lies within the margin, even if it excludes 1; `faster` and `slower` where it
    excludes 1 and reaches beyond the margin; else, and without an interval, `unclear`.
    """
    if ratio.low is None or ratio.high is None:
        return UNCLEAR
    if 1 / (1 + margin) <= ratio.low and ratio.high <= 1 + margin:
        return SAME
    if ratio.touches_one:
        return UNCLEAR
    return FASTER if (ratio.low > 1) != less_is_faster else SLOWER


def describe(names: Sequence[str], states: Sequence[State], found: Comparison, margin: float) -> str:
    """The comparison as text. names, states: base's and other's."""
    base, other = names
    lines = [
        f"{other} over {base}: {found.rows.height // len(QUANTITIES)} families in both. Intervals of at least 95 % "
        f"each, not all together. same: the whole interval is within a factor of {1 + margin:g}."
    ]
    for quantity in QUANTITIES:
        here = found.rows.filter(quantity=quantity)
        counts = ", ".join(f"{here.filter(verdict=verdict).height} {verdict}" for verdict in VERDICTS)
        paired, short = here.filter("paired").height, here["low"].null_count()
        lines.append(
            f"  {quantity}: {counts}; {paired} paired by sweep and card, {here.height - paired} unpaired"
            + (f"; {short} with too few sweeps for an interval" if short else "")
        )
    for verdict in (SLOWER, FASTER):
        rows = found.rows.filter(verdict=verdict).to_dicts()
        lines += [f"{verdict}:", *(f"  {_told(row)}" for row in rows)] if rows else []
    lines += [f"Not compared: {count} families {reason}." for reason, count in found.left_out.items()]
    for name, state in zip(names, states, strict=True):
        lines += [f"Left out of {name}: {sentence}" for sentence in state.refused]
        lines += [f"Left out of {name}: {state.lost} cells that could not be timed."] if state.lost else []
    other_work = found.rows.filter(pl.col("differs") != "")
    for differs in other_work["differs"].unique().sort():
        count = other_work.filter(differs=differs).height // len(QUANTITIES)
        lines.append(f"Not the same work: the recipes of {count} families differ in {differs}.")
    software = "; ".join(_software(states))
    return "\n".join([*lines, f"Software that differs: {software or 'none'}."])


def _told(row: Mapping[str, Any]) -> str:
    why = ", ".join(
        (["paired"] if row["paired"] else ["unpaired"])
        + (["launch-bound: the host's speed"] if row["launch_bound"] else [])
        + ([f"recipes differ in {row['differs']}"] if row["differs"] else [])
    )
    return (
        f"{row['model']} {row['mode']} at batch {row['batch_size']}, {row['quantity']}: {row['ratio']:.3f} "
        f"[{row['low']:.3f}, {row['high']:.3f}] ({why})"
    )


def _software(states: Iterable[State]) -> list[str]:
    """What is not of one and the same version in both states."""
    versions = [[json.loads(stack) for stack in state.cells["stack"].unique().sort()] for state in states]
    sentences = []
    for name in sorted({name for stacks in versions for stack in stacks for name in stack}):
        base, other = (sorted({str(stack.get(name) or "absent") for stack in stacks}) for stacks in versions)
        if base != other:
            sentences.append(f"{name} {' and '.join(base)} in base, {' and '.join(other)} in other")
    return sentences
