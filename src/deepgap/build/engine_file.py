"""Engine files: what a runtime built for one GPU, bound to that GPU and to the libraries that built it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deepgap.errors import EngineError, first_line
from deepgap.files import put_in_place, refuse_unreadable
from deepgap.study.gpus import Device

HEADER = "header"
UNSUPPORTED = "unsupported"


@dataclass(frozen=True)
class Engine:
    """The parts of an engine as arrays, and what is worth telling about it (JSON values)."""

    parts: Mapping[str, np.ndarray]
    about: Mapping[str, Any] = field(default_factory=dict)


def engine_identity(device: Device, libraries: Mapping[str, str], engine_recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal where an engine is built and where it is loaded."""
    return {
        "device": device.name,
        "compute_capability": device.compute_capability,
        "libraries": dict(libraries),
        "recipe": dict(engine_recipe),
    }


def write_engine(path: Path, engine: Engine, identity: Mapping[str, Any]) -> None:
    """Write an engine in one step. `identity` is all that must be equal where it is loaded (JSON values)."""
    header = json.dumps({"identity": identity, "about": engine.about, "parts": sorted(engine.parts)}, sort_keys=True)
    with put_in_place(path) as partial, partial.open("wb") as file:
        arrays = {HEADER: np.frombuffer(header.encode(), np.uint8), **engine.parts}
        np.savez(file, allow_pickle=False, **arrays)


def read_engine(path: Path, identity: Mapping[str, Any]) -> Engine:
    """Read an engine that was built for this identity.

    Raises:
        EngineError: the file is missing, damaged, or was built for something else; the sentence names the first
            difference. No part of it has been used then.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            parts = {name: file[name] for name in file.files}
        header = json.loads(parts.pop(HEADER).tobytes())
        found, about = dict(header["identity"]), dict(header["about"])
        if header["parts"] != sorted(parts):
            raise ValueError("it does not have the parts that were written")
    except FileNotFoundError:
        raise EngineError(f"The engine {path} does not exist; run Snakemake to build it.") from None
    # zipfile and numpy raise almost anything on a damaged archive.
    except Exception as error:
        refuse_unreadable(path, error)
        raise EngineError(
            f"{path} is damaged or not an engine ({first_line(error)}); delete it and run Snakemake again."
        ) from None
    wanted = json.loads(json.dumps(identity))
    for key in sorted(wanted.keys() | found.keys()):
        if wanted.get(key) != found.get(key):
            raise EngineError(
                f"{path} was built for {key} {_show(found.get(key))}, but {_show(wanted.get(key))} is needed here; "
                "delete it and run Snakemake again."
            )
    return Engine(parts, about)


def _show(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
