"""What `snakemake check` tells of all cells below results/: which are refused, and what of the others differs between
the sites, software, engines and weights that a comparison would mix."""

from __future__ import annotations

import filecmp
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from deepgap.analyse.devices import Devices
from deepgap.analyse.reading import engine_build, read_checked, software
from deepgap.analyse.rows import Rows
from deepgap.analyse.sites import compare_families, describe_sites
from deepgap.analyse.telemetry import read_samples
from deepgap.cells.cell_file import LATENCY, OK, THROUGHPUT
from deepgap.errors import CellError, DiskError, TelemetryError
from deepgap.files import DIGEST_LIST, is_litter
from deepgap.study.cell import cell_id
from deepgap.study.gpus import Gpu, split_site
from deepgap.study.schema import nearest
from deepgap.text import tell
from deepgap.training.cell import training_cell_id

CHECKED = pl.Schema(
    {
        "kind": pl.String,
        "gpu": pl.String,
        "model": pl.String,
        "mode": pl.String,
        "batch_size": pl.Int64,
        "threads": pl.Int64,
        "stem": pl.String,
        "timed": pl.Boolean,
        "latency_ms": pl.Float64,
        "images_per_s": pl.Float64,
        "stack": pl.String,
        "engine": pl.String,
        "weights": pl.String,
    }
)
"""One row a cell that is in order. kind: the gpu without its site. stem: its file's name without the ending.
latency_ms, images_per_s: medians over the cell. stack, engine: JSON of the software and of the engine's or graph's
build."""

FAMILY = ["gpu", "model", "mode", "batch_size", "threads"]
COPY = re.compile(r"(?P<name>.+?)(?: ?\(\d+\)| - Copy(?: \(\d+\))?| copy(?: \d+)?| - Kopie)")
"""The name that a second file of one name gets, without its ending."""


@dataclass(frozen=True)
class Report:
    """What was found.

    cells: in `CHECKED`. refused: a sentence a file that cannot stay. samples: telemetry files that are in order.
    without_peak: the keys of cards without a peak rate, whose cells no bound by a peak holds.
    """

    cells: pl.DataFrame
    refused: list[str]
    samples: int
    without_peak: Sequence[str] = ()


def check_results(results: Path, gpus: Mapping[str, Gpu]) -> Report:
    """Read every file of cells and telemetry, whether the study lists it or not.

    Args:
        results: the folder of the folders of all GPUs.
        gpus: the hardware facts, by key, sites included.
    """
    cells, refused, samples = Rows(CHECKED), [], 0
    folders = [results / key for key in gpus if (results / key).is_dir()]
    unknown = sorted(
        path.parent for path in results.glob("*/cells") if path.parent not in folders and any(path.iterdir())
    )
    refused += [_unknown_folder(folder, gpus) for folder in unknown]
    files, devices = _listed(folders, "cells"), Devices(gpus)
    for count, file in enumerate(files, 1):
        if count % 1000 == 0:
            tell(f"{count} of {len(files)} cells")
        try:
            cells.add(_check_cell(file, gpus, devices))
        except (CellError, DiskError) as error:
            refused.append(str(error))
    for file in _listed(folders, "telemetry"):
        try:
            _check_samples(file)
            samples += 1
        except (TelemetryError, DiskError) as error:
            refused.append(str(error))
    without_peak = [
        folder.name
        for folder in folders
        if gpus[folder.name].device == "cuda" and not any(gpus[folder.name].peak_tops.values())
    ]
    return Report(cells.frame(), refused, samples, without_peak)


def _listed(folders: Iterable[Path], what: str) -> list[Path]:
    """All files in these folders' folder `what`, but for the list of digests and what file managers leave."""
    files = [file for folder in folders for file in sorted((folder / what).glob("*"))]
    return [file for file in files if file.name != DIGEST_LIST and not is_litter(file)]


def _unknown_folder(folder: Path, gpus: Mapping[str, Gpu]) -> str:
    key, site = split_site(folder.name)
    same = next((gpu for gpu in gpus if gpu.lower() == key.lower()), None)
    if same is not None and same != key:
        name = f"{same}@{site}" if site else same
        return f"{folder} holds cells, but config/gpus.yaml writes {same}; rename the folder to {name}."
    hint = nearest(key, list(gpus))
    return f"{folder} holds cells, but config/gpus.yaml has no {folder.name}{hint}; add it, or rename the folder."


def _refuse_copy(file: Path) -> None:
    """Refuse `NAME (1).parquet` and `NAME - Copy.parquet`, as file managers and browsers name a second file."""
    if (copied := COPY.fullmatch(file.stem)) is None:
        return
    original = file.with_name(f"{copied['name']}{file.suffix}")
    if not original.exists():
        raise CellError(f"{file} has the name of a copy, and no original is beside it; rename it to {original.name}.")
    same = filecmp.cmp(file, original, shallow=False)
    advice = "remove it" if same else "their bytes differ: keep the one that is in order under the original's name"
    raise CellError(f"{file} is a copy of {original.name}; {advice}.")


def _check_cell(file: Path, gpus: Mapping[str, Gpu], devices: Devices) -> dict[str, Any]:
    if file.suffix != ".parquet":
        raise CellError(f"{file} is not a cell; remove it.")
    _refuse_copy(file)
    rows, footer = read_checked(file, gpus)
    recipe, folder = footer.recipe, file.parent.parent.name
    if recipe["gpu"] != folder:
        raise CellError(
            f"{file} holds a cell of {recipe['gpu']}; move it to {file.parent.parent.parent / recipe['gpu']}."
        )
    name = training_cell_id(recipe) if "study" in recipe else cell_id(recipe)
    if file.stem.rpartition(".")[0] != name:
        raise CellError(f"{file} holds the cell {name}; give it that name before the dot.")
    _refuse_other_card(file, footer.provenance["device"].get("name"), gpus[recipe["gpu"]])
    devices.check(file, footer)
    timed = rows["status"][0] == OK
    period_ms = (rows["host_ms"] / rows["calls"]).filter(rows["arm"] == THROUGHPUT).median()
    return {
        "kind": split_site(recipe["gpu"])[0],
        **{name: recipe[name] for name in ("gpu", "model", "mode", "batch_size", "threads")},
        "stem": file.stem,
        "timed": timed,
        "latency_ms": rows["device_ms"].filter(rows["arm"] == LATENCY).median() if timed else None,
        "images_per_s": 1000 * recipe["batch_size"] / period_ms if timed else None,
        "stack": json.dumps(software(footer), sort_keys=True),
        "engine": engine_build(footer),
        "weights": footer.weights_sha256,
    }


def _refuse_other_card(file: Path, name: str | None, gpu: Gpu) -> None:
    """Refuse a cell of a card that its key does not name."""
    if gpu.device == "cuda" and name and gpu.name_pattern and not re.fullmatch(gpu.name_pattern, name):
        raise CellError(
            f"{file} was measured on {name}, and the name_pattern of {gpu.kind} is '{gpu.name_pattern}'; measure it "
            "again under that card's own key, or correct the pattern."
        )


def _check_samples(file: Path) -> None:
    cell = file.parent.parent / "cells" / file.name
    if not cell.exists():
        raise TelemetryError(f"{file} holds the samples of a cell that is not there; remove it.")
    read_samples(file)


def mixtures(cells: pl.DataFrame) -> list[str]:
    """A sentence for each comparison that mixes software, builds of an engine, or weights.

    Modes of one GPU and model are compared with each other, so their software and weights should be the same; cells
    of one family are pooled, so their engine should be one build.

    Args:
        cells: in `CHECKED`.
    """
    sentences = []
    for (gpu,), here in cells.group_by("gpu", maintain_order=True):
        stacks = here.group_by("stack").len().sort("len", "stack", descending=True)
        if stacks.height > 1:
            listed = "; ".join(
                f"{count} cells with {_differences(stacks['stack'], one)}" for one, count in stacks.rows()
            )
            sentences.append(f"{gpu}: {stacks.height} stacks of software are compared: {listed}.")
    several = cells.filter(pl.col("engine").n_unique().over(FAMILY) > 1)
    for (gpu, model, mode), here in several.group_by("gpu", "model", "mode", maintain_order=True):
        sizes = ", ".join(map(str, sorted(set(here["batch_size"]))))
        sentences.append(f"{gpu}: {model} {mode} ran several builds of its engine or graph at batch {sizes}.")
    for (kind, model), here in cells.group_by("kind", "model", maintain_order=True):
        weights = here["weights"].value_counts()["count"].sort(descending=True).to_list()
        if len(weights) > 1:
            counts = ", ".join(map(str, weights))
            sentences.append(f"{kind}: cells of {model} have {len(weights)} different weights ({counts}).")
    return sentences


def _differences(stacks: Iterable[str], one: str) -> str:
    """The versions of a stack that are not the same in all."""
    parsed, here = [json.loads(stack) for stack in stacks], json.loads(one)
    differing = sorted(name for name in here if len({stack[name] for stack in parsed}) > 1)
    return ", ".join(f"{name} {here[name] or 'absent'}" for name in differing)


def describe(report: Report) -> str:
    """The report as text."""
    lines = []
    for (gpu,), here in report.cells.group_by("gpu", maintain_order=True):
        lost = here.filter(~pl.col("timed")).height
        lines.append(
            f"{gpu}: {here.height} cells in order" + (f", {lost} of them could not be timed" if lost else "")
        )
    lines.append(f"{report.samples} files of telemetry in order")
    if report.without_peak:
        lines.append(f"Not held against a peak rate, as none is known: {', '.join(report.without_peak)}")
    lines += ["", "Between sites (ratio of the second to the first, over the families that both timed):"]
    compared = describe_sites(compare_families(report.cells))
    lines += [f"  {sentence}" for sentence in compared] or ["  no family was timed at two sites"]
    lines += ["", "Mixed in one comparison:"]
    lines += [f"  {sentence}" for sentence in mixtures(report.cells)] or ["  nothing"]
    lines += ["", f"Refused: {len(report.refused) or 'nothing'}", *(f"  {sentence}" for sentence in report.refused)]
    return "\n".join(lines)
