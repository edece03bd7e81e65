"""What the activations of a network look like on the calibration images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from deepgap.build.quantize.network import read_graph
from deepgap.errors import CalibrationError, UnsupportedError
from deepgap.host import host_threads

BINS = 2048
CHUNK = 4
"""Images in one run of the network, whatever the batches they come in: neither results nor memory depend on these."""

PIECE = 1 << 17
"""Elements that are counted at a time, so that the temporary arrays stay in the cache."""

DEAD = 1e-30
"""A tensor of no larger magnitude counts as all zero."""

SAY_EVERY = 64


@dataclass(frozen=True)
class Histogram:
    """How often each magnitude occurs in a tensor.

    counts: int64 of shape (BINS,), of |x| in equal bins over [0, maximum].
    maximum: largest |x|; 0 for a dead tensor, which is all in the first bin.
    signed: whether any value is negative.
    """

    counts: np.ndarray
    maximum: float
    signed: bool


def collect_histograms(
    graph: Path,
    tensors: Sequence[str],
    images: Callable[[], Iterator[np.ndarray]],
    say: Callable[[str], None],
    threads: int | None = None,
) -> dict[str, Histogram]:
    """The exact histogram of each tensor over all images, in two passes: its range, and the counts in that range.

    The result depends on neither the batches nor the threads, and no activation is kept.

    Args:
        graph: the FP32 export.
        tensors: names of activations, as `calibrated_tensors` gives them.
        images: gives float32 batches of shape (n, 3, height, width); called once a pass.
        say: takes a line of progress now and then.
        threads: CPU threads; all that this process may use when absent.

    Raises:
        GraphError: the graph cannot be read.
        CalibrationError: there are no images, or the passes see other images.
        UnsupportedError: an activation is not finite.
    """
    run = _runner(graph, tensors, threads or host_threads())

    lowest, highest = dict.fromkeys(tensors, np.inf), dict.fromkeys(tensors, -np.inf)
    total = 0
    for chunk in _rebatch(images()):
        for name, values in run(chunk).items():
            # Unlike min and max, np.minimum and np.maximum keep a NaN.
            lowest[name] = float(np.minimum(lowest[name], values.min()))
            highest[name] = float(np.maximum(highest[name], values.max()))
        total += len(chunk)
        if total % SAY_EVERY == 0:
            say(f"calibration, first pass: ranges of {total} images")
    if not total:
        raise CalibrationError("The calibration got no images; give it at least one.")
    maxima = {name: _largest(name, lowest[name], highest[name]) for name in tensors}

    counts = {name: np.zeros(BINS, np.int64) for name in tensors}
    counted = 0
    for chunk in _rebatch(images()):
        for name, values in run(chunk).items():
            counts[name] += count_magnitudes(values, maxima[name])
        counted += len(chunk)
        if counted % SAY_EVERY == 0:
            say(f"calibration, second pass: histograms of {counted} of {total} images")
    if counted != total:
        raise CalibrationError(
            f"The calibration saw {total} images in its first pass and {counted} in its second; "
            "leave the images as they are while it runs."
        )
    return {name: Histogram(counts[name], maxima[name], lowest[name] < 0) for name in tensors}


def count_magnitudes(values: np.ndarray, maximum: float) -> np.ndarray:
    """Counts of |x| in `BINS` equal bins over [0, maximum], int64; the last bin includes the maximum.

    Args:
        values: float32 of any shape.
        maximum: 0 puts everything in the first bin.
    """
    counts = np.zeros(BINS, np.int64)
    scale = np.float32(BINS / maximum if maximum else 0)
    flat = values.ravel()
    for start in range(0, flat.size, PIECE):
        magnitudes = np.abs(flat[start : start + PIECE])
        bins = (magnitudes * scale).astype(np.int32)
        counts += np.bincount(np.minimum(bins, BINS - 1), minlength=BINS)
    return counts


def _runner(graph: Path, tensors: Sequence[str], threads: int) -> Callable[[np.ndarray], Mapping[str, np.ndarray]]:
    """A function from images to these tensors. Both passes use it, and so see the same bits."""
    import onnxruntime

    model = read_graph(graph)
    entry = model.graph.input[0].name
    inner = [name for name in tensors if name != entry]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that spin while they wait would take the cores from the counting, and from others.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(chunk: np.ndarray) -> Mapping[str, np.ndarray]:
        values = dict(zip(inner, session.run(inner, {entry: chunk}), strict=True))
        return {name: values.get(name, chunk) for name in tensors}

    return run


def _rebatch(batches: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same images in batches of `CHUNK`, and a smaller last one."""
    waiting: list[np.ndarray] = []
    for batch in batches:
        for image in batch:
            waiting.append(image)
            if len(waiting) == CHUNK:
                yield np.stack(waiting)
                waiting.clear()
    if waiting:
        yield np.stack(waiting)


def _largest(name: str, lowest: float, highest: float) -> float:
    largest = max(-lowest, highest)
    if not np.isfinite(largest):
        raise UnsupportedError(
            f"The tensor {name} is not finite on the calibration images; check the weights and the images."
        )
    return largest if largest > DEAD else 0.0
