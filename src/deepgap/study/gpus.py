"""The facts of GPUs in config/gpus.yaml or from their drivers, and the sites at which they are measured."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deepgap.errors import ConfigError
from deepgap.study.schema import check_schema, read_scalars, read_yaml

SITE_PATTERN = r"[a-z][a-z0-9]{0,31}"
"""Of `site` in the config, where the schema has it again."""

CARD_FILE = "gpu.yaml"
"""Of a folder below results/: the entry of a card that gpus.yaml does not have, as its driver told it."""

SHARED_PEAK_SINCE = {"bf16": (8, 0), "fp8": (8, 9)}
"""The first compute capability with BF16, at the rate of FP16, and with FP8, at the rate of INT8.

Source: CUDA C++ Programming Guide, compute capabilities.
"""


@dataclass(frozen=True)
class Gpu:
    """One entry of config/gpus.yaml, maybe at a site (`H200@lab2`); units are in the names, rates are dense.

    fp16_accumulate_peak_tops: of FP16 with sums in FP16, where that is more than with sums in FP32.
    """

    key: str
    name_pattern: str | None
    architecture: str
    compute_capability: str | None
    year: int | None
    inference_card: bool
    sm_count: int | None
    max_sm_clock_mhz: float | None
    memory_gb: float | None
    memory_bandwidth_gb_s: float | None
    l2_cache_mib: float | None
    tdp_w: float | None
    peak_tops: Mapping[str, float | None]
    sources: Mapping[str, list[str]]
    price_eur_per_hour: float | None = None
    fp16_accumulate_peak_tops: float | None = None

    @property
    def kind(self) -> str:
        """The key of its entry, without the site."""
        return split_site(self.key)[0]

    @property
    def capability(self) -> tuple[int, ...]:
        """The compute capability as numbers; empty for a processor."""
        return tuple(int(number) for number in (self.compute_capability or "").split(".") if number)

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those with a peak of their own, and those that tensor cores multiply at the peak of another one."""
        shared = (name for name, least in SHARED_PEAK_SINCE.items() if self.capability >= least)
        return tuple(dict.fromkeys((*self.peak_tops, *shared)))

    @property
    def device(self) -> str:
        """PyTorch's device type: `cpu` for the host's processor, else `cuda`."""
        return "cpu" if self.compute_capability is None else "cuda"


@dataclass(frozen=True)
class Device:
    """A physical device, as NVML tells it. The host's processor has the index -1 and the UUID `cpu`."""

    index: int
    uuid: str
    name: str
    compute_capability: str | None = None


HOST = Device(index=-1, uuid="cpu", name="CPU")


def load_gpus(path: Path, schema: Path, cards: Iterable[Path] = ()) -> dict[str, Gpu]:
    """Read gpus.yaml and what the drivers of other cards told, each checked against the file of its schema.

    Args:
        cards: files of `find_cards`; gpus.yaml counts first.

    Raises:
        ConfigError: a file is missing or not YAML, breaks its schema, or is a card's and not of its folder's key.
    """
    rules = read_yaml(schema)
    gpus = _read_entries(path, rules, path.name)
    for card in cards:
        found, kind = _read_entries(card, rules, str(card)), split_site(card.parent.name)[0]
        if list(found) != [kind]:
            raise ConfigError(
                f"{card} describes {', '.join(found)}, but its folder is {kind}'s; 'python tools/suggest_gpu.py "
                f"{card.parent}' drafts what belongs there."
            )
        gpus |= {kind: gpus.get(kind, found[kind])}
    return gpus


def _read_entries(path: Path, rules: Mapping[str, Any], name: str) -> dict[str, Gpu]:
    entries = read_scalars(read_yaml(path), rules)
    check_schema(entries, rules, name)
    for key, entry in entries.items():
        if entry["name_pattern"] is None and entry["compute_capability"] is not None:
            raise ConfigError(f"{name}: {key}.name_pattern is null, which only a processor's may be; give one.")
        try:
            re.compile(entry["name_pattern"] or "")
        except (re.error, OverflowError, RecursionError) as error:
            raise ConfigError(f"{name}: {key}.name_pattern is not a regular expression: {error}.") from None
        _refuse_unescaped(name, key, entry["name_pattern"] or "")
    return {key: Gpu(key=key, **entry) for key, entry in entries.items()}


def _refuse_unescaped(file: str, key: str, pattern: str) -> None:
    """Refuse a device's name such as `Intel(R) Xeon(R)`, which as a pattern matches everything but itself."""
    if marks := sorted(set(re.findall(r"(?<!\\)\((?:R|TM|C)\)(?![?*+{|])", pattern, re.IGNORECASE))):
        meant = re.sub(r"(?<!\\)\((R|TM|C)\)", r"\\(\1\\)", pattern, flags=re.IGNORECASE)
        raise ConfigError(
            f"{file}: {key}.name_pattern is '{pattern}', in which the brackets of {', '.join(marks)} make a group "
            f"and match no bracket; write '{meant}'."
        )


def split_site(key: str) -> tuple[str, str | None]:
    """`H200@lab2` is the GPU H200 at the site lab2; without a site it is the project's own."""
    kind, _, site = key.partition("@")
    return kind, site or None


def in_config(key: str) -> str:
    """How a GPU, at a site or not, is asked for: what stands after `--config`."""
    kind, site = split_site(key)
    return f"gpu={kind} site={site}" if site else f"gpu={kind}"


def with_sites(gpus: Mapping[str, Gpu], keys: Iterable[str]) -> dict[str, Gpu]:
    """All profiles, and after each kind the same profile for those of `keys` that are that kind at a site."""
    sites = sorted({key for key in keys if "@" in key})
    profiles = {}
    for kind, gpu in gpus.items():
        profiles[kind] = gpu
        profiles |= {key: replace(gpu, key=key) for key in sites if split_site(key)[0] == kind}
    return profiles


def find_cards(results: Path) -> list[Path]:
    """The files below `results` in which the drivers of cards without an entry in gpus.yaml told of them."""
    return sorted(results.glob(f"*/{CARD_FILE}"))


def find_platforms(results: Path, gpus: Mapping[str, Gpu]) -> list[str]:
    """The known GPUs, at a site or not, that have a folder below `results`.

    Raises:
        ConfigError: the name of such a folder has a site that is no name.
    """
    found = []
    for folder in sorted(results.glob("*/")):
        kind, site = split_site(folder.name)
        if kind not in gpus:
            continue
        if "@" in folder.name and not re.fullmatch(SITE_PATTERN, site or ""):
            raise ConfigError(
                f"{folder} names the site '{site or ''}', which is not made of small letters and digits; "
                f"rename the folder, for example to {kind}@lab2."
            )
        found.append(folder.name)
    return found
