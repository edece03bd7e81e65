"""The FP32 answers to the held-out images, against which every mode of a model is held."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepgap.build.graph_file import INPUT, OUTPUT, read_weights_hash
from deepgap.build.images.imagesets import BATCH, read_arrays, write_arrays
from deepgap.errors import UnsupportedError
from deepgap.study.models import SEEDED, ModelSpec
from deepgap.weights import load_model


def write_reference(
    path: Path, spec: ModelSpec, source: Path, held_out: Path, accuracy: Mapping[str, Any] | None
) -> None:
    """Compute a model's logits of the held-out images in FP32 on the host, and write them as an .npz.

    `logits` (n, classes); `weights_sha256`; `labels` (n,), of this model's classes; `labels_mean`, whether the model
    was made to give them: procedural labels by seeded weights, those of the user's folder by any other.
    A model that cannot run has no logits, an empty hash, and the reason in `unsupported`.

    Args:
        source: the model's weights or, where it is given as a graph, its FP32 graph.
        accuracy: the recipe of the user's labelled images; null for procedural ones.

    Raises:
        WeightsError, GraphError, ImageError: a file is missing or damaged.
    """
    images, labels = read_arrays(held_out, "images", "labels")
    try:
        logits, weights_sha256 = _run_graph(source, images) if spec.is_graph else _run_module(spec, source, images)
    except UnsupportedError as error:
        write_answers(path, np.zeros((0, 0), np.float32), "", labels, labels_mean=False, unsupported=str(error))
        return
    classes = logits.shape[1]
    if accuracy is None:
        # The head of a model of fewer classes than there are textures is fitted so.
        labels, labels_mean = labels % classes, spec.weights["source"] == SEEDED
    else:
        labels_mean = spec.weights["source"] != SEEDED and int(labels.max()) < classes
    write_answers(path, logits, weights_sha256, labels, labels_mean)


def write_answers(
    path: Path,
    logits: np.ndarray,
    weights_sha256: str,
    labels: np.ndarray,
    labels_mean: bool = True,
    unsupported: str = "",
) -> None:
    """Write the file of a reference; see `write_reference` for its fields."""
    write_arrays(
        path,
        logits=logits,
        weights_sha256=np.array(weights_sha256),
        labels=labels,
        labels_mean=np.array(labels_mean),
        unsupported=np.array(unsupported),
    )


def _batches(images: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(images), BATCH):
        yield images[start : start + BATCH].astype(np.float32)


def _run_module(spec: ModelSpec, weights: Path, images: np.ndarray) -> tuple[np.ndarray, str]:
    import torch

    model, weights_sha256 = load_model(spec.key, weights)
    with torch.inference_mode():
        logits = [model(torch.from_numpy(batch)).numpy() for batch in _batches(images)]
    return np.concatenate(logits), weights_sha256


def _run_graph(graph: Path, images: np.ndarray) -> tuple[np.ndarray, str]:
    import onnxruntime

    weights_sha256 = read_weights_hash(graph)
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    logits = [np.asarray(session.run([OUTPUT], {INPUT: batch})[0]) for batch in _batches(images)]
    return np.concatenate(logits), weights_sha256
