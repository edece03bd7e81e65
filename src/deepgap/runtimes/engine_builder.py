"""Building an engine of a runtime and binding it to the device and the libraries."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deepgap.build.engine_file import UNSUPPORTED, Engine, write_engine
from deepgap.errors import UnsupportedError
from deepgap.runtimes import BuildRequest, load_runtimes
from deepgap.study.gpus import Device


def build_engine(
    runtime_name: str,
    precision: str,
    engine_recipe: Mapping[str, Any],
    graph: Path,
    timing_cache: Path,
    path: Path,
    device: Device,
    say: Callable[[str], None],
) -> None:
    """Build an engine of a graph for a device and write it to `path`.

    The device is the current one of this process, but for runtimes that build ahead of time.

    What the device cannot run becomes an engine that says so, so that its cells become rows with that reason.

    Raises:
        EngineError, GraphError, MissingLibraryError: it cannot be built; nothing is written.
    """
    from deepgap.build.graph_file import read_weights_hash

    runtime = load_runtimes()[runtime_name]
    assert runtime.build is not None
    identity = runtime.engine_identity(device, engine_recipe)
    request = BuildRequest(
        graph=graph,
        precision=precision,
        image_size=engine_recipe["image_size"],
        batch_size=engine_recipe["batch_size"],
        options=engine_recipe["options"],
        timing_cache=timing_cache,
        say=say,
        identity={key: value for key, value in identity.items() if key != "recipe"},
    )
    weights_sha256 = None
    started = time.perf_counter()
    try:
        weights_sha256 = read_weights_hash(graph)
        engine = runtime.build(request)
    except UnsupportedError as error:
        engine = Engine({}, {UNSUPPORTED: str(error)})
    about = {
        **engine.about,
        "build_s": round(time.perf_counter() - started, 1),
        "graph_sha256": hashlib.sha256(graph.read_bytes()).hexdigest(),
        "weights_sha256": weights_sha256,
    }
    write_engine(path, Engine(engine.parts, about), identity)
