"""From the parsed configuration of the second study to a study, or one sentence about what it cannot have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from deepgap.errors import ConfigError
from deepgap.study.gpus import Gpu, split_site, with_sites
from deepgap.study.modes import parse_mode
from deepgap.study.schema import fill_config, nearest
from deepgap.training.frameworks import load_frameworks
from deepgap.training.study import TrainingStudy
from deepgap.training.workloads import load_workloads

FILE = "training.yaml"


def load_training_study(
    config: Mapping[str, Any], schema: Mapping[str, Any], gpus: Mapping[str, Gpu], found: Iterable[str] = ()
) -> TrainingStudy:
    """Check a configuration, fill its defaults, and return the study.

    Args:
        config: the parsed config/training.yaml with the command line's changes.
        schema: its JSON schema.
        gpus: the hardware facts, by key.
        found: the GPUs that have results, sites included (`gpus.find_platforms`).

    Raises:
        ConfigError: one sentence that names the key, the value and what is allowed.
    """
    filled, found = fill_config(config, schema, FILE), list(found)
    here = [f"{filled['gpu']}@{filled['site']}"] if filled["site"] else []
    study = TrainingStudy(filled, with_sites(gpus, [*found, *here]), load_frameworks(), load_workloads(), found)
    _check_names(study, gpus)
    for gpu in study.gpus:
        _check_gpu(study, gpu)
    return study


def _check_names(study: TrainingStudy, gpus: Mapping[str, Gpu]) -> None:
    config = study.config
    asked = [("gpu", config["gpu"])] if config["gpu"] else []
    for place, name in [*asked, *(("overrides", name) for name in config["overrides"])]:
        _refuse_unknown(place, name, list(gpus))
    if config["site"] and config["gpu"] is None:
        raise ConfigError(f"{FILE}: site is '{config['site']}', but there is no gpu to measure there; give both.")
    for name, options in config["runtime_options"].items():
        _refuse_unknown("runtime_options", name, list(study.frameworks))
        study.frameworks[name].fill_options(options)


def _refuse_unknown(place: str, name: str, allowed: list[str]) -> None:
    if name not in allowed:
        hint = nearest(name, allowed)
        raise ConfigError(f"{FILE}: {place} is '{name}'{hint}; allowed: {', '.join(allowed)}.")


def _check_gpu(study: TrainingStudy, gpu: str) -> None:
    """Refuse what this GPU cannot have, naming the place in the config that asks for it."""
    axes, override = study.axes(gpu), study.config["overrides"].get(split_site(gpu)[0], {})

    def place(key: str) -> str:
        return f"overrides.{split_site(gpu)[0]}.{key}" if key in override else key

    _refuse_unknown(place("protocol"), axes["protocol"], list(study.config["protocols"]))
    for where, grid in _grids(axes, place):
        for index, model in enumerate(grid["models"]):
            _refuse_unknown(f"{where}models[{index}]", model, list(study.workloads))
        for index, text in enumerate(grid["modes"]):
            own = "modes" in override or "grids" in override
            _check_mode(study, gpu, f"{FILE}: {where}modes[{index}]", text, own)


def _grids(axes: Mapping[str, Any], place: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if axes["grids"] is None:
        yield "", axes
    for number, grid in enumerate(axes["grids"] or ()):
        yield f"{place('grids')}[{number}].", grid


def _check_mode(study: TrainingStudy, gpu: str, where: str, text: str, own: bool) -> None:
    try:
        mode = parse_mode(text, study.frameworks)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    # A default mode that only some GPUs have is refused where that GPU is asked for.
    if not own and study.gpu != gpu:
        return
    profile, framework = study.gpus[gpu], study.frameworks[mode.runtime]
    if profile.device not in framework.devices:
        raise ConfigError(f"{where} is '{text}', but the runtime {mode.runtime} does not run on {gpu}.")
    if not can_compute(mode.precision, profile):
        raise ConfigError(
            f"{where} is '{text}', but {gpu} has no {mode.precision}; its precisions are "
            f"{', '.join(profile.precisions)}."
        )


def can_compute(precision: str, gpu: Gpu) -> bool:
    """Whether a device has a precision: a mixed one where it has the narrow type."""
    return precision.removeprefix("mixed_") in gpu.precisions
