"""What a cell reads from files: the model, the graph or the engine, the held-out images and their reference."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepgap.build.engine_file import UNSUPPORTED, read_engine
from deepgap.build.graph_file import read_weights_hash
from deepgap.build.images.imagesets import read_arrays
from deepgap.errors import UnsupportedError, WeightsError
from deepgap.measure.device import matching_devices
from deepgap.measure.precision import form_of
from deepgap.measure.provenance import package_versions
from deepgap.measure.source_cache import SourceCache
from deepgap.runtimes import Runtime, load_runtimes
from deepgap.study.gpus import Device, Gpu
from deepgap.weights import load_model

PRELOAD_BYTES = 256 << 20
"""The largest file of a source that is read ahead."""
PRELOADED_BYTES = 1 << 30
"""Most that a process keeps, by the sizes of the files."""
HELD_OUT, REFERENCE = ("images",), ("weights_sha256", "logits", "labels", "labels_mean", "unsupported")
OF_ENGINE = ("layers_by_precision", "kernels", "build_s")


@dataclass(frozen=True)
class Request:
    """One cell to measure.

    recipe: `Cell.recipe`; gpu: the profile it names.
    source_file: the weights, the graph or the engine that the cell's runtime takes.
    engine_recipe: what the engine must have been built for; null for other sources.
    held_out_file, reference_file: images, and the FP32 logits of them (`build.reference`).
    facts: of the model at its image size (`cells.facts.Facts` as JSON values); null where they are not known.
    telemetry_file: where the device's samples go; null on a CPU.
    place: where the cell stands in its session, from 1.
    card: which of the machine's devices of this GPU, from 1, where sweeps are spread over several; null is any.
    """

    recipe: Mapping[str, Any]
    gpu: Gpu
    source_file: Path
    engine_recipe: Mapping[str, Any] | None
    held_out_file: Path
    reference_file: Path
    cell_file: Path
    facts: Mapping[str, Any] | None = None
    telemetry_file: Path | None = None
    place: int | None = None
    card: int | None = None


@dataclass(frozen=True)
class Source:
    """What the runtime prepares, and what is worth telling of it.

    value: the model in the cell's type and layout on the CPU, the graph's path, or the engine.
    graph_sha256: of the ONNX graph that is run or was built from; null for a PyTorch model.
    engine: `observed.engine` of the footer; null where there is none.
    """

    value: Any
    weights_sha256: str
    graph_sha256: str | None = None
    engine: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Reference:
    """Held-out images of shape (n, 3, size, size), and the logits of the FP32 model for them.

    labels: of shape (n,); null where the model was not made for them.
    unsupported: why there are no logits; empty where there are.
    """

    images: np.ndarray
    labels: np.ndarray | None
    logits: np.ndarray
    weights_sha256: str
    unsupported: str = ""


_kept = SourceCache(PRELOADED_BYTES)


def preload(request: Request) -> None:
    """Import and read what a cell needs into this process, which forks one for each cell: they then share its memory.

    What cannot be read is left for the cell, which says why. Large files are left, too.
    """
    importlib.import_module("deepgap.measure.cell")
    package_versions()
    for read, names in ((request.held_out_file, HELD_OUT), (request.reference_file, REFERENCE)):
        if _kept.get(_key(read)) is None:
            _keep(read, read_arrays(read, *names))
    runtime, file = load_runtimes()[request.recipe["runtime"]], request.source_file
    runtime.preload()
    # On a processor the model counts as memory of the cell, which what is shared would not; a graph is only hashed.
    shared = request.gpu.device == "cuda" or runtime.source == "graph"
    form = form_of(runtime, request.recipe)
    if shared and file.stat().st_size <= PRELOAD_BYTES and _kept.get(_key(file, *form)) is None:
        device = matching_devices(request.gpu)[0]
        _keep(file, _load(request, runtime, device), *form)


def open_source(request: Request, runtime: Runtime, device: Device, reference: Reference) -> Source:
    """The cell's source, from this process's memory where it was preloaded.

    Raises:
        WeightsError, GraphError, EngineError: the file is missing, damaged or foreign, or holds other weights than
            those from which the reference was computed.
        UnsupportedError: the file, or the reference, says why there is none.
    """
    file = request.source_file
    kept: Source | None = _kept.get(_key(file, *form_of(runtime, request.recipe))) if file.exists() else None
    source = kept or _load(request, runtime, device)
    if reference.unsupported:
        raise UnsupportedError(reference.unsupported)
    if reference.weights_sha256 != source.weights_sha256:
        raise WeightsError(
            f"{file} and {request.reference_file} were made from different weights; "
            "delete both and run Snakemake again."
        )
    return source


def load_reference(request: Request) -> Reference:
    """The held-out images and their reference.

    Raises:
        ImageError: a file is missing or damaged.
    """
    (images,) = _read(request.held_out_file, *HELD_OUT)
    weights_sha256, logits, labels, labels_mean, unsupported = _read(request.reference_file, *REFERENCE)
    return Reference(images, labels if labels_mean else None, logits, str(weights_sha256), str(unsupported))


def _load(request: Request, runtime: Runtime, device: Device) -> Source:
    file = request.source_file
    if runtime.source == "module":
        model, weights_sha256 = load_model(request.recipe["model"], file, request.recipe["precision"])
        dtype, memory_format = form_of(runtime, request.recipe).torch
        return Source(model.to(dtype=dtype).to(memory_format=memory_format), weights_sha256)
    if runtime.source == "graph":
        return Source(file, read_weights_hash(file), hashlib.sha256(file.read_bytes()).hexdigest())
    assert request.engine_recipe is not None
    identity = runtime.engine_identity(device, request.engine_recipe)
    engine = read_engine(file, identity)
    if engine.about.get("weights_sha256") is None:
        raise UnsupportedError(engine.about[UNSUPPORTED])
    graph_sha256 = engine.about.get("graph_sha256")
    told = {
        "identity": hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12],
        "graph_sha256": graph_sha256,
        **{name: engine.about[name] for name in OF_ENGINE if name in engine.about},
    }
    return Source(engine, engine.about["weights_sha256"], graph_sha256, told)


def _read(file: Path, *names: str) -> list[np.ndarray]:
    kept: list[np.ndarray] | None = _kept.get(_key(file)) if file.exists() else None
    return read_arrays(file, *names) if kept is None else kept


def _keep(file: Path, value: Any, *form: str) -> None:
    _kept.put(_key(file, *form), value, file.stat().st_size)


def _key(file: Path, *form: str) -> tuple[str, ...]:
    """The file as it is now; written anew it is another."""
    stat = file.stat()
    return str(file), str(stat.st_mtime_ns), str(stat.st_size), *form
