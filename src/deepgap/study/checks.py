"""From a parsed configuration to a study, or one sentence about what it cannot have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from deepgap.errors import ConfigError
from deepgap.study.gpus import Gpu, split_site, with_sites
from deepgap.study.models import ModelSpec, parse_models, refuse_clashes
from deepgap.study.modes import RuntimeFacts, parse_mode
from deepgap.study.schema import expand_home, fill_config, unknown
from deepgap.study.study import Study, entry_name

GPU_ARMS = ("cold", "end_to_end")
"""Arms that only a GPU has."""


def load_study(
    config: Mapping[str, Any],
    schema: Mapping[str, Any],
    gpus: Mapping[str, Gpu],
    runtimes: Mapping[str, RuntimeFacts],
    found: Iterable[str] = (),
    describe_calibration: Callable[[Mapping[str, Any]], dict[str, Any]] = dict,
    describe_accuracy: Callable[[Mapping[str, Any]], dict[str, Any]] = dict,
) -> Study:
    """Check a configuration, fill its defaults, and return the study.

    Args:
        config: the parsed config.yaml with the command line's changes.
        schema: its JSON schema.
        gpus: the hardware facts, by key.
        runtimes: by name (`runtimes.load_runtimes`).
        found: the GPUs that have results, sites included (`gpus.find_platforms`).
        describe_calibration, describe_accuracy: see `Study`.

    Raises:
        ConfigError: one sentence that names the key, the value and what is allowed.
    """
    filled = _fill(config, schema)
    _check_names(filled, gpus, runtimes)
    here = [f"{filled['gpu']}@{filled['site']}"] if filled["site"] else []
    found = list(found)
    models = dict(_parse_all_models(filled))
    refuse_clashes(models.values(), "the study")
    study = Study(
        filled, with_sites(gpus, [*found, *here]), runtimes, models, describe_calibration, describe_accuracy, found
    )
    for gpu in study.gpus:
        _check_gpu(study, gpu)
    return study


def _fill(config: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with the schema's defaults, which it fits."""
    filled = fill_config(config, schema, "config.yaml")
    for key, rule in schema["properties"].items():
        if isinstance(rule.get("default"), dict) and key not in ("overrides", "runtime_options"):
            filled[key] = rule["default"] | filled[key]
    for images in (filled["calibration"], filled["accuracy"]):
        if images is not None:
            images["images"] = expand_home(images["images"])
    for counts in filled["protocols"].values():
        counts.setdefault("throughput_s", 2)
    return filled


def _check_names(filled: Mapping[str, Any], gpus: Mapping[str, Gpu], runtimes: Mapping[str, RuntimeFacts]) -> None:
    if filled["gpu"] is not None and filled["gpu"] not in gpus:
        sentence = unknown("gpu", filled["gpu"], list(gpus)).rstrip(".")
        raise ConfigError(f"{sentence}. A card without an entry gets one by 'make' (docs/a_new_card.md).")
    if filled["site"] and filled["gpu"] is None:
        raise ConfigError(
            f"config.yaml: site is '{filled['site']}', but there is no gpu to measure there; give both, or "
            "neither to render the results of all sites."
        )
    for name in filled["overrides"]:
        if name not in gpus:
            raise ConfigError(unknown("overrides", name, list(gpus)))
    for name, options in filled["runtime_options"].items():
        if name not in runtimes:
            raise ConfigError(unknown("runtime_options", name, list(runtimes)))
        runtimes[name].fill_options(options)


def _parse_all_models(filled: Mapping[str, Any]) -> Iterator[tuple[str, ModelSpec]]:
    """Every model that the config or an override names, by `entry_name`."""
    lists = {}
    for where, axes in (("", filled), *((f"overrides.{gpu}.", axes) for gpu, axes in filled["overrides"].items())):
        if "models" in axes:
            lists[f"{where}models"] = axes["models"]
        for number, grid in enumerate(axes.get("grids") or ()):
            lists[f"{where}grids[{number}].models"] = grid["models"]
    for place, entries in lists.items():
        specs = parse_models(entries, filled["weights"], place)
        yield from zip(map(entry_name, entries), specs, strict=True)


def _check_gpu(study: Study, gpu: str) -> None:
    """Refuse what this GPU cannot have, naming the place in the config that asks for it."""
    override = study.config["overrides"].get(split_site(gpu)[0], {})

    def place(key: str) -> str:
        return f"overrides.{split_site(gpu)[0]}.{key}" if key in override else key

    axes = study.axes(gpu)
    product = [key for key in ("models", "modes", "batch_sizes") if key in override]
    if override.get("grids") and product:
        raise ConfigError(
            f"overrides.{split_site(gpu)[0]} has grids and {' and '.join(product)}, but what is measured is what the "
            f"grids say; put it into one of them, or set 'grids: null' beside {' and '.join(product)}."
        )
    if axes["protocol"] not in study.config["protocols"]:
        raise ConfigError(unknown(place("protocol"), axes["protocol"], list(study.config["protocols"])))
    _check_protocol(study, gpu)
    _check_modes(study, gpu, override, place)
    _check_threads(study, gpu, override, place)


def _check_protocol(study: Study, gpu: str) -> None:
    protocol, profile = study.protocol(gpu), study.gpus[gpu]
    where = f"config.yaml: protocols.{protocol.name}"
    if protocol.stop and protocol.stop.minimum_iterations > protocol.timed_iterations:
        raise ConfigError(
            f"{where}.stop.minimum_iterations is {protocol.stop.minimum_iterations}, more than its timed_iterations, "
            f"{protocol.timed_iterations}."
        )
    if profile.device == "cpu" and study.gpu == gpu:
        for arm in protocol.arms:
            if arm in GPU_ARMS:
                raise ConfigError(
                    f"{where}.arms has '{arm}', which is for GPUs; give {gpu} a protocol without that arm."
                )


def _check_threads(study: Study, gpu: str, override: Mapping[str, Any], place: Callable[[str], str]) -> None:
    modes, where = {mode.name for mode in study.modes_of(gpu)}, f"config.yaml: {place('thread_counts')}"
    for text in study.axes(gpu)["thread_counts"]:
        if study.gpus[gpu].device != "cpu" and (study.gpu == gpu or "thread_counts" in override):
            raise ConfigError(
                f"{where} has '{text}', but thread counts are an axis of the host's processor, not {gpu}."
            )
        if text not in modes and "thread_counts" in override:
            raise ConfigError(f"{where} has '{text}', which is not one of the modes of {gpu}.")


def _check_modes(study: Study, gpu: str, override: Mapping[str, Any], place: Callable[[str], str]) -> None:
    profile = study.gpus[gpu]
    for key, text in _named_modes(study.axes(gpu)):
        axis, bracket, rest = key.partition("[")
        own = axis in override
        where = f"config.yaml: {place(axis)}{bracket}{rest}"
        try:
            mode = parse_mode(text, study.runtimes)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        # A default mode that only some GPUs have is refused where that GPU is asked for.
        if not own and study.gpu != gpu:
            continue
        if mode.precision not in profile.precisions:
            raise ConfigError(
                f"{where} is '{text}', but {gpu} has no {mode.precision}; "
                f"its precisions are {', '.join(profile.precisions)}. Modes that differ for a GPU stand under "
                f"overrides.{split_site(gpu)[0]}.modes."
            )
        if profile.device not in study.runtimes[mode.runtime].devices:
            raise ConfigError(f"{where} is '{text}', but the runtime {mode.runtime} does not run on {gpu}.")


def _named_modes(axes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every mode of a GPU's axes, with the place that names it."""
    if axes["grids"] is None:
        yield from ((f"modes[{index}]", text) for index, text in enumerate(axes["modes"]))
    for number, grid in enumerate(axes["grids"] or ()):
        yield from ((f"grids[{number}].modes[{index}]", text) for index, text in enumerate(grid["modes"]))
