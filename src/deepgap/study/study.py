"""The study: from config to cells, and the recipe that names a cell."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from deepgap.build.images.imagesets import describe_calibration
from deepgap.errors import ConfigError
from deepgap.files import is_litter
from deepgap.runtimes import load_runtime, runtime_names
from deepgap.sources.models import GMAC_PER_IMAGE
from deepgap.study.gpus import Gpu, split_site, with_sites
from deepgap.study.method import METHOD_VERSION
from deepgap.study.schema import check_schema, expand_home, nearest, read_scalars, unknown

IMAGE_SIZE = 224
AXES = ("models", "modes", "batch_sizes", "protocol", "energy", "thread_counts")
ALL_THREADS = 0
"""The number of threads that stands for all cores of the process; `all` in the config."""


@dataclass(frozen=True)
class Mode:
    """A runtime and a precision, written `eager-fp16`."""

    runtime: str
    precision: str

    def __str__(self) -> str:
        return f"{self.runtime}-{self.precision}"


@dataclass(frozen=True)
class Protocol:
    """How often a cell is called, and on how many images its answers are checked.

    cold_iterations: calls a repeat with a cold L2 cache; 0 leaves the arm out.
    stop: when a repeat may end before its `timed_iterations` (`half_width`, `minimum_iterations`, `minimum_ms`);
        null never.
    """

    name: str
    warmup_iterations: int
    timed_iterations: int
    repeats: int
    sweeps: int
    fidelity_images: int
    cold_iterations: int = 0
    stop: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Cell:
    """One process, one file: a model in a mode at a batch size on a GPU, in one sweep.

    The site of a GPU is in the folder of its results and not in the recipe: the same cell of two sites has one name.
    """

    gpu: str
    model: str
    mode: Mode
    batch_size: int
    threads: int
    sweep: int
    settings: str
    """JSON of all else that gives the cell its meaning: weights, options, protocol, energy."""

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """Everything that defines what the cell means, and nothing about where or when it was measured."""
        return {
            "method_version": METHOD_VERSION,
            "gpu": split_site(self.gpu)[0],
            "model": self.model,
            "runtime": self.mode.runtime,
            "precision": self.mode.precision,
            "batch_size": self.batch_size,
            "threads": self.threads,
            "sweep": self.sweep,
            "image_size": IMAGE_SIZE,
            **json.loads(self.settings),
        }

    @cached_property
    def stem(self) -> str:
        """The file name without its ending: `<cell-id>.<recipe>`."""
        return f"{cell_id(self.recipe)}.{recipe_digest(self.recipe)}"

    @cached_property
    def path(self) -> str:
        """The cell's file below the project's root."""
        return f"results/{self.gpu}/cells/{self.stem}.parquet"


def cell_id(recipe: Mapping[str, Any]) -> str:
    """What a cell is called: `resnet18_eager-fp16_b8_s1`, with `_t4` before the sweep where it has four threads."""
    threads = f"_t{recipe['threads']}" if recipe["threads"] != ALL_THREADS else ""
    mode = f"{recipe['runtime']}-{recipe['precision']}"
    return f"{recipe['model']}_{mode}_b{recipe['batch_size']}{threads}_s{recipe['sweep']}"


def recipe_digest(recipe: Mapping[str, Any]) -> str:
    """First 12 hex digits of the SHA-256 of the sorted, compact JSON of `recipe`."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Study:
    """A checked configuration."""

    config: Mapping[str, Any]
    gpus: Mapping[str, Gpu]

    @property
    def gpu(self) -> str | None:
        """The GPU to measure, with its site, or None to render only."""
        gpu, site = self.config["gpu"], self.config["site"]
        return f"{gpu}@{site}" if site else gpu

    def axes(self, gpu: str) -> dict[str, Any]:
        """The models, modes, batch sizes and protocol name of one GPU, overrides applied."""
        override: dict[str, Any] = self.config["overrides"].get(split_site(gpu)[0], {})
        return {key: self.config[key] for key in AXES} | override

    def protocol(self, gpu: str) -> Protocol:
        name = self.axes(gpu)["protocol"]
        return Protocol(name=name, **self.config["protocols"][name])

    @cached_property
    def calibration(self) -> dict[str, Any]:
        """The recipe of INT8 calibration.

        Raises:
            ImageError: the folder of images is missing, empty or unreadable.
        """
        return describe_calibration(self.config["calibration"])

    def mode_settings(self, mode: Mode) -> dict[str, Any]:
        """What defines how a model runs in a mode: its weights, its calibration, the runtime's options."""
        options = dict(self.config["runtime_options"].get(mode.runtime, {}))
        if load_runtime(mode.runtime).source == "module":
            options["memory_format"] = self.config["memory_format"].get(mode.precision, "contiguous")
        settings = {"weights": self.config["weights"], "options": options}
        return settings | ({"calibration": self.calibration} if mode.precision == "int8" else {})

    def cells(self, gpu: str) -> Sequence[Cell]:
        """All cells of one GPU, sweep by sweep, in the order of the config."""
        if gpu not in self._cells:
            self._cells[gpu] = tuple(self._make_cells(gpu))
        return self._cells[gpu]

    @cached_property
    def _cells(self) -> dict[str, Sequence[Cell]]:
        """Those asked for so far: naming a cell takes a digest, and there can be many."""
        return {}

    def _make_cells(self, gpu: str) -> Iterator[Cell]:
        axes, protocol = self.axes(gpu), self.protocol(gpu)
        energy = axes["energy"]
        modes = [parse_mode(mode) for mode in axes["modes"]]
        settings = {(mode, s): self._settings(mode, protocol, s) for mode in modes for s in (0, energy["seconds"])}
        for sweep in range(1, protocol.sweeps + 1):
            for model in axes["models"]:
                for mode, batch_size in product(modes, axes["batch_sizes"]):
                    counted = sweep <= energy["sweeps"] and batch_size in energy["batch_sizes"]
                    seconds = energy["seconds"] if counted and self.gpus[gpu].device == "cuda" else 0
                    for threads in self._thread_counts(axes, mode):
                        yield Cell(gpu, model, mode, batch_size, threads, sweep, settings[mode, seconds])

    def run_order(self, gpu: str) -> list[Cell]:
        """The cells of one GPU in the order in which they are measured.

        Sweeps are outermost and the order within a sweep is random (seeded), so that time and temperature
        are not aliased with model, precision or batch size.
        """
        shuffled = list(self.cells(gpu))
        random.Random(0).shuffle(shuffled)
        return sorted(shuffled, key=lambda cell: cell.sweep)

    def expected_counts(self) -> list[dict[str, Any]]:
        """How many cells the study asks for, a row for each gpu, model and mode."""
        rows = []
        for gpu in self.gpus:
            axes, sweeps = self.axes(gpu), self.protocol(gpu).sweeps
            for model in axes["models"]:
                for mode in map(parse_mode, axes["modes"]):
                    row = {"gpu": gpu, "model": model, "runtime": mode.runtime, "precision": mode.precision}
                    threads = len(self._thread_counts(axes, mode))
                    rows.append(row | {"expected": len(axes["batch_sizes"]) * threads * sweeps})
        return rows

    def unlisted_counts(self, results: Path) -> dict[str, int]:
        """How many cell files below `results` the study does not name, by gpu."""
        listed = {Path(cell.path).name for gpu in self.gpus for cell in self.cells(gpu)}
        counts = {
            gpu: sum(
                file.name not in listed and not is_litter(file)
                for file in (results / gpu / "cells").glob("*.parquet")
            )
            for gpu in self.gpus
        }
        return {gpu: count for gpu, count in counts.items() if count}

    @staticmethod
    def _thread_counts(axes: Mapping[str, Any], mode: Mode) -> list[int]:
        counts = axes["thread_counts"].get(str(mode), ["all"])
        return [ALL_THREADS if count == "all" else count for count in counts]

    def _settings(self, mode: Mode, protocol: Protocol, energy_s: float) -> str:
        counts = {key: value for key, value in asdict(protocol).items() if key not in ("name", "sweeps")}
        settings = {**self.mode_settings(mode), "protocol": counts, "energy_s": energy_s}
        return json.dumps(settings, sort_keys=True)


def parse_mode(text: str) -> Mode:
    """Split `runtime-precision`.

    Raises:
        ConfigError: the runtime has no file in runtimes/, or it does not run that precision.
    """
    runtime, _, precision = text.rpartition("-")
    if runtime not in runtime_names():
        allowed = ", ".join(sorted(f"{name}-{p}" for name in runtime_names() for p in load_runtime(name).precisions))
        raise ConfigError(f"'{text}' is not a mode{nearest(text, allowed.split(', '))}; allowed: {allowed}.")
    precisions = load_runtime(runtime).precisions
    if precision not in precisions:
        raise ConfigError(f"'{text}' is not a mode: the runtime {runtime} runs {', '.join(sorted(precisions))}.")
    return Mode(runtime, precision)


def load_study(
    config: Mapping[str, Any], schema: Mapping[str, Any], gpus: Mapping[str, Gpu], sites: Iterable[str] = ()
) -> Study:
    """Check a configuration, fill its defaults, and return the study.

    Args:
        config: the parsed config.yaml with the command line's changes.
        schema: its JSON schema.
        gpus: the hardware facts, by key.
        sites: the GPUs at sites that have results (`gpus.find_sites`).

    Raises:
        ConfigError: one sentence that names the key, the value and what is allowed.
    """
    filled = copy.deepcopy(dict(config))
    for key in ("gpu", "site"):
        # The command line makes a number of a name that looks like one.
        if filled.get(key) is not None:
            filled[key] = str(filled[key])
    filled = read_scalars(filled, schema)
    check_schema(filled, schema, "config.yaml")
    for key, rule in schema["properties"].items():
        if "default" in rule:
            filled.setdefault(key, copy.deepcopy(rule["default"]))
            if isinstance(rule["default"], dict) and key not in ("overrides", "runtime_options"):
                filled[key] = rule["default"] | filled[key]
    filled["calibration"]["images"] = expand_home(filled["calibration"]["images"])
    if filled["gpu"] is not None and filled["gpu"] not in gpus:
        raise ConfigError(unknown("gpu", filled["gpu"], list(gpus)))
    if filled["site"] and filled["gpu"] is None:
        raise ConfigError(
            f"config.yaml: site is '{filled['site']}', but there is no gpu to measure there; give both, or "
            "neither to render the results of all sites."
        )
    for name in filled["overrides"]:
        if name not in gpus:
            raise ConfigError(unknown("overrides", name, list(gpus)))
    for name, options in filled["runtime_options"].items():
        if name not in runtime_names():
            raise ConfigError(unknown("runtime_options", name, list(runtime_names())))
        load_runtime(name).check_options(options)
    here = [f"{filled['gpu']}@{filled['site']}"] if filled["site"] else []
    study = Study(filled, with_sites(gpus, [*sites, *here]))
    for gpu in study.gpus:
        _check_gpu(study, gpu)
    return study


def _check_gpu(study: Study, gpu: str) -> None:
    """Refuse what this GPU cannot have, naming the place in the config that asks for it."""
    axes = study.axes(gpu)
    kind = split_site(gpu)[0]
    override = study.config["overrides"].get(kind, {})

    def place(key: str) -> str:
        return f"overrides.{kind}.{key}" if key in override else key

    for index, model in enumerate(axes["models"]):
        if model not in GMAC_PER_IMAGE:
            raise ConfigError(
                f"config.yaml: {place('models')}[{index}] is '{model}', whose multiply-adds are not known; add them "
                "to GMAC_PER_IMAGE in src/deepgap/sources/models.py."
            )
    if axes["protocol"] not in study.config["protocols"]:
        raise ConfigError(unknown(place("protocol"), axes["protocol"], list(study.config["protocols"])))
    profile = study.gpus[gpu]
    protocol = study.protocol(gpu)
    if protocol.stop and protocol.stop["minimum_iterations"] > protocol.timed_iterations:
        raise ConfigError(
            f"config.yaml: protocols.{protocol.name}.stop.minimum_iterations is "
            f"{protocol.stop['minimum_iterations']}, more than its timed_iterations, {protocol.timed_iterations}."
        )
    if protocol.cold_iterations and profile.device == "cpu" and study.gpu == gpu:
        raise ConfigError(
            f"config.yaml: protocols.{protocol.name}.cold_iterations is {protocol.cold_iterations}, but calls with a "
            f"cold L2 cache are for GPUs; give {gpu} a protocol without them."
        )
    for text in axes["thread_counts"]:
        where = f"config.yaml: {place('thread_counts')}"
        if profile.device != "cpu" and (study.gpu == gpu or "thread_counts" in override):
            raise ConfigError(
                f"{where} has '{text}', but thread counts are an axis of the host's processor, not {gpu}."
            )
        if text not in axes["modes"] and "thread_counts" in override:
            raise ConfigError(f"{where} has '{text}', which is not one of the modes of {gpu}.")
    for index, text in enumerate(axes["modes"]):
        where = f"config.yaml: {place('modes')}[{index}]"
        try:
            mode = parse_mode(text)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        # A default mode that only some GPUs have is refused where that GPU is asked for.
        if "modes" not in override and study.gpu != gpu:
            continue
        if mode.precision not in profile.peak_tops:
            raise ConfigError(
                f"{where} is '{text}', but {gpu} has no {mode.precision}; "
                f"its precisions are {', '.join(profile.peak_tops)}."
            )
        if profile.device not in load_runtime(mode.runtime).devices:
            raise ConfigError(f"{where} is '{text}', but the runtime {mode.runtime} does not run on {gpu}.")


def present_and_missing(cells: Sequence[Cell], root: Path) -> tuple[list[Cell], list[Cell]]:
    """Split cells by whether their file exists below `root`."""
    # Strings and one listing a folder: there can be many cells.
    folders = {cell.path.rpartition("/")[0] for cell in cells}
    names = {
        f"{folder}/{name}" for folder in folders if (root / folder).is_dir() for name in os.listdir(root / folder)
    }
    present = [cell for cell in cells if cell.path in names]
    missing = [cell for cell in cells if cell.path not in names]
    return present, missing
