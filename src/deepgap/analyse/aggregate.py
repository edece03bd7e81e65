"""From the cells of a GPU and model to the tidy tables of `deepgap.analyse.schemas`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from deepgap.analyse.answers import CELL_FIDELITY, fidelity_row, summarise_fidelity
from deepgap.analyse.devices import Devices
from deepgap.analyse.families import FAMILY_ROWS, family_row, host_rows
from deepgap.analyse.flags import falling_memory, is_primary
from deepgap.analyse.ratios import Key, best_batches, family_key, speedups, summarise_ratios
from deepgap.analyse.reading import (
    CELL_KEY,
    CELLS,
    RUN_STATISTICS,
    ReadCell,
    by_family,
    read_one,
)
from deepgap.analyse.rows import Rows
from deepgap.analyse.schemas import (
    BY_HOST,
    COST,
    COVERAGE_KEY,
    FACTS,
    FAMILIES,
    FOUND,
    KEY,
    OF_CELL,
    RUNS,
    SESSIONS,
)
from deepgap.analyse.sessions import cost_rows, merge_sessions, session_row, summarise_cost
from deepgap.analyse.sweeps import sweep_values
from deepgap.analyse.telemetry import summarise_telemetry
from deepgap.analyse.variance import summarise_variance
from deepgap.cells.bounds import peak_share
from deepgap.cells.cell_file import OK, REFUSED
from deepgap.errors import CellError
from deepgap.study.gpus import Gpu


class Measurements:
    """What was read of cells, with the calls of one family in memory at a time; the gpu of each is with its site."""

    def __init__(self, gpus: Mapping[str, Gpu], floors: Mapping[str, float]) -> None:
        self._gpus, self._floors, self._devices = gpus, floors, Devices(gpus)
        self._places: dict[tuple[Any, ...], Path] = {}
        self.cells, self.runs = Rows(CELLS), Rows(RUN_STATISTICS)
        self.families, self.hosts = Rows(FAMILY_ROWS), Rows(BY_HOST)
        self.sessions, self.fidelity, self.cost = Rows(SESSIONS), Rows(CELL_FIDELITY), Rows(COST)
        self.facts: dict[tuple[str, str], dict[str, Any]] = {}

    def add_family(self, files: Iterable[Path]) -> None:
        """Read all cells of one family, in the order of their sweeps.

        Raises:
            CellError: a file is not what its name and footer say, holds what cannot be, is of the same sweep of one
                cell as another, or of another device.
        """
        cells = []
        for file in files:
            cell = read_one(file, self._gpus, self._floors)
            place = tuple(cell.facts[name] for name in CELL_KEY)
            if place in self._places:
                raise CellError(
                    f"{file} and {self._places[place]} are of the same sweep of one cell; remove one of them."
                )
            self._places[place] = file
            self._devices.check(file, cell.footer)
            cells.append(cell)
        cells.sort(key=lambda cell: cell.facts["sweep"])
        for cell in cells:
            self._add_cell(cell)
        self.families.add(family_row(cells))
        self.hosts.extend(host_rows(cells))

    def _add_cell(self, cell: ReadCell) -> None:
        self.cells.add(cell.facts)
        self.runs.extend(cell.runs)
        self.sessions.add(session_row(cell.footer))
        self.fidelity.add(fidelity_row(cell.footer))
        self.cost.extend(cost_rows(cell.footer))
        facts, recipe = cell.footer.observed.get("facts"), cell.footer.recipe
        if facts:
            known = {name: facts.get(name) for name in FACTS if name in facts}
            place = (recipe["gpu"], recipe["model"])
            self.facts.setdefault(place, known | {"image_size": recipe.get("image_size")})


def read_measurements(files: Iterable[Path], gpus: Mapping[str, Gpu], floors: Mapping[str, float]) -> Measurements:
    """Read cells, check that they can be true, flag what is odd, and summarise them family by family.

    Args:
        files: `<cell-id>.<recipe>.parquet`, in any order.
        gpus: the hardware facts, by key.
        floors: see `flags.cell_flags`.

    Raises:
        CellError: see `Measurements.add_family`.
    """
    found = Measurements(gpus, floors)
    for of_family in by_family(files):
        found.add_family(of_family)
    return found


def summarise_runs(cells: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """One row a run of every timed cell; see `schemas.RUNS`."""
    return runs.join(cells.select(*CELL_KEY, *OF_CELL), on=CELL_KEY).select(RUNS.names()).sort(*CELL_KEY, "run")


def summarise_families(measurements: Measurements, values: pl.DataFrame, gpus: Mapping[str, Gpu]) -> pl.DataFrame:
    """One row a cell family; see `schemas.FAMILIES`.

    Args:
        values: of `sweeps.sweep_values`.
    """
    rows = [row | {"flags": set(row["flags"])} for row in measurements.families.frame().iter_rows(named=True)]
    families = {family_key(row): row for row in rows}
    timed = [row for row in rows if row["status"] == OK]
    for key, flag in _flags_between(timed, gpus):
        families[key]["flags"].add(flag)
    for key, columns in best_batches(values):
        families[key] |= columns
    for key, ratio in speedups(values).items():
        families[key] |= {"speedup_fp32": ratio.ratio, "speedup_fp32_low": ratio.low, "speedup_fp32_high": ratio.high}
    for row in timed:
        multiply_adds = measurements.facts.get((row["gpu"], row["model"]), {}).get("multiply_adds")
        row["share_of_peak"] = peak_share(multiply_adds, row["precision"], row["throughput_img_s"], gpus[row["gpu"]])
    for row in rows:
        row |= {"flags": sorted(row["flags"]), "primary": row["status"] == OK and is_primary(row["flags"])}
    return pl.DataFrame([{name: row.get(name) for name in FAMILIES} for row in rows], schema=FAMILIES).sort(list(KEY))


def _flags_between(rows: Sequence[Mapping[str, Any]], gpus: Mapping[str, Gpu]) -> Iterator[tuple[Key, str]]:
    """The flags that only several timed families together show, each with the family that has it."""
    curves: dict[Key, dict[int, int | None]] = {}
    for row in rows:
        if gpus[row["gpu"]].device == "cuda":
            curves.setdefault(_curve_key(row), {})[row["batch_size"]] = row["memory_bytes"]
    falling = {key: falling_memory(memory_bytes) for key, memory_bytes in curves.items()}
    weights: dict[Key, set[str]] = {}
    for row in rows:
        weights.setdefault((row["gpu"], row["model"]), set()).update(row["weights"])
    for row in rows:
        key = family_key(row)
        if row["batch_size"] in falling.get(_curve_key(row), ()):
            yield key, "memory_falls"
        if len(weights[row["gpu"], row["model"]]) > 1:
            yield key, "weights_differ"


def _curve_key(row: Mapping[str, Any]) -> Key:
    return tuple(row[name] for name in KEY if name != "batch_size")


def count_cells(cells: pl.DataFrame) -> pl.DataFrame:
    """How many of these cells, in `reading.CELLS`, there are a mode; see `schemas.FOUND`."""
    key = list(COVERAGE_KEY)
    counts = {
        "found": pl.len(),
        "failed": (pl.col("status") != OK).sum(),
        "refused": (pl.col("status") == REFUSED).sum(),
    }
    found = cells.group_by(key).agg(count.cast(pl.Int64).alias(name) for name, count in counts.items())
    return found.select(FOUND.names()).sort(key)


def aggregate(
    cells: Sequence[Path], samples: Iterable[Path], gpus: Mapping[str, Gpu], floors: Mapping[str, float]
) -> dict[str, pl.DataFrame]:
    """The tables of `schemas.CELL_TABLES` of these cells, by name. Neither the order of the files nor their times
    matter.

    Args:
        cells: all of a GPU and model that the study lists: `results/<gpu>/cells/<cell-id>.<recipe>.parquet`.
        samples: see `summarise_telemetry`.
        gpus: the hardware facts, by key, sites included.
        floors: see `flags.cell_flags`.

    Raises:
        CellError: see `Measurements.add_family`.
        TelemetryError: samples are not of the cell in their file's name.
    """
    found = read_measurements(cells, gpus, floors)
    facts = found.cells.frame().sort(CELL_KEY)
    runs = summarise_runs(facts, found.runs.frame())
    values = sweep_values(runs, found.families.frame())
    families = summarise_families(found, values, gpus)
    primary = set(families.filter("primary").select(list(KEY)).iter_rows())
    bound = {family_key(row): row["launch_bound"] for row in families.iter_rows(named=True)}
    of_model = [{"gpu": gpu, "model": model} | known for (gpu, model), known in found.facts.items()]
    return {
        "runs": runs,
        "families": families,
        "by_host": found.hosts.frame().sort(*KEY, "host"),
        "ratios": summarise_ratios(values, primary),
        "variance": summarise_variance(runs, bound),
        "facts": pl.DataFrame(of_model, schema=FACTS).sort("gpu", "model"),
        "fidelity": summarise_fidelity(found.fidelity.frame()),
        "telemetry": summarise_telemetry(samples, facts),
        "sessions": merge_sessions(found.sessions.frame()),
        "found": count_cells(facts),
        "cost": summarise_cost(found.cost.frame()),
    }
