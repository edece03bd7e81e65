"""Measure one cell: load the model, warm up, time, and write the file.

Method: one CUDA event pair a call on the work's own stream; latency and throughput are separate runs; inputs
live on the device and rotate; nothing is allocated, generated or polled inside a timed loop, and Python's
garbage collector is off there.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from deepgap.cells import (
    LATENCY,
    OK,
    OUT_OF_MEMORY,
    SCHEMA,
    THROUGHPUT,
    UNSUPPORTED,
    Footer,
    failure_row,
    write_cell,
)
from deepgap.engines import UNSUPPORTED as UNSUPPORTED_ENGINE
from deepgap.engines import engine_identity, read_engine
from deepgap.errors import CellError, UnsupportedError, WeightsError, first_line
from deepgap.export import read_weights_hash
from deepgap.fidelity import compare_logits
from deepgap.hardware import Device, Gpu, host_threads, take_device
from deepgap.imagesets import read_arrays
from deepgap.models import load_model
from deepgap.provenance import collect_provenance, device_memory_used
from deepgap.runtimes import Call, Runtime, load_runtime

if TYPE_CHECKING:
    import torch

INPUT_BUFFERS = 2
INPUT_SEED = 0
NS_PER_MS = 1e6

Row = tuple[str, None, str, int, int, int, float, float, float | None]


@dataclass(frozen=True)
class Request:
    """One cell to measure.

    recipe: `Cell.recipe`; gpu: the profile it names.
    source_file: the weights, the graph or the engine that the cell's runtime takes.
    engine_recipe: what the engine must have been built for; null for other sources.
    held_out_file, reference_file: images with labels, and the FP32 logits of them with the hash of their weights.
    """

    recipe: Mapping[str, Any]
    gpu: Gpu
    source_file: Path
    engine_recipe: Mapping[str, Any] | None
    held_out_file: Path
    reference_file: Path
    cell_file: Path


@dataclass(frozen=True)
class Prepared:
    """A call, and the input buffers that it reads."""

    call: Call
    inputs: list[torch.Tensor]


def measure_cell(request: Request, say: Callable[[str], None]) -> None:
    """Measure a cell on a device taken for it alone, in this process, and write its file.

    The process must not have touched CUDA before, because the device's memory is read before and after its
    context, and should end soon, because it keeps the device until then.

    Raises:
        DeviceError: this machine has no such device.
        WeightsError, GraphError, EngineError: the source file is missing, damaged or foreign.
        ImageError: the held-out images or their reference are.
        CellError: the model's output is not finite, or the rows break the contract.
    """
    device = take_device(request.gpu, say)
    if device.index >= 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = device.uuid
    rows, footer = _measure(request, device)
    write_cell(request.cell_file, rows, footer)


def _measure(request: Request, device: Device) -> tuple[pl.DataFrame, Footer]:
    import torch

    recipe = request.recipe
    runtime = load_runtime(recipe["runtime"])
    on_gpu = device.index >= 0
    set_precision(recipe["precision"])
    torch.set_num_threads(host_threads())
    torch.set_num_interop_threads(1)
    observed: dict[str, Any] = {"intraop_threads": torch.get_num_threads(), "interop_threads": 1}
    host_baseline = _reset_host_peak()
    source, weights_sha256, about = _load_source(request, runtime, device)
    observed |= about
    _check_weights(weights_sha256, request)

    baseline = device_memory_used(device) if on_gpu else 0

    def observe_memory() -> None:
        if on_gpu:
            observed["memory_device_bytes"] = device_memory_used(device) - baseline
            observed["memory_allocated_peak_bytes"] = torch.cuda.max_memory_allocated()
            observed["memory_reserved_peak_bytes"] = torch.cuda.max_memory_reserved()
        else:
            observed["memory_host_bytes"] = None if host_baseline is None else _host_memory("VmHWM") - host_baseline

    try:
        if on_gpu:
            torch.backends.cudnn.benchmark = True
            torch.zeros(1, device="cuda")
            torch.cuda.synchronize()
            observed["memory_context_bytes"] = device_memory_used(device) - baseline
        with torch.inference_mode(), _work_stream(on_gpu):
            prepared = _prepare(source, recipe, runtime, on_gpu, observed)
            rows = _time(prepared.call, recipe["protocol"], on_gpu)
            observe_memory()
            observed["fidelity"] = _check_answers(prepared, request)
    except UnsupportedError as error:
        observe_memory()
        rows = failure_row(UNSUPPORTED, str(error))
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        observe_memory()
        rows = failure_row(OUT_OF_MEMORY, first_line(error))
    return rows, Footer(dict(recipe), weights_sha256, collect_provenance(device), observed)


def _load_source(request: Request, runtime: Runtime, device: Device) -> tuple[Any, str, dict[str, Any]]:
    """What the runtime prepares, the hash of the weights in it, and what is worth telling of it."""
    file = request.source_file
    if runtime.source == "module":
        return *load_model(request.recipe["model"], file), {}
    if runtime.source == "graph":
        return file, read_weights_hash(file), {}
    assert request.engine_recipe is not None
    engine = read_engine(file, engine_identity(device, runtime.libraries(), request.engine_recipe))
    told = ("graph_sha256", "layers_by_precision", "kernels", "build_s")
    return engine, engine.about["weights_sha256"], {"engine": {key: engine.about.get(key) for key in told}}


def _check_weights(weights_sha256: str, request: Request) -> None:
    """Refuse a source that does not hold the weights from which the reference was computed, as every mode must."""
    (reference,) = read_arrays(request.reference_file, "weights_sha256")
    if str(reference) != weights_sha256:
        raise WeightsError(
            f"{request.source_file} and {request.reference_file} were made from different weights; "
            "delete both and run Snakemake again."
        )


def _prepare(
    source: Any, recipe: Mapping[str, Any], runtime: Runtime, on_gpu: bool, observed: dict[str, Any]
) -> Prepared:
    """Make the inputs and the call, and time the preparation and the first call."""
    import torch

    device = torch.device("cuda" if on_gpu else "cpu")
    dtype = torch.float16 if recipe["precision"] == "fp16" else torch.float32
    layout = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}[
        recipe["options"].get("memory_format", "contiguous")
    ]
    if runtime.source == "engine" and UNSUPPORTED_ENGINE in source.about:
        raise UnsupportedError(source.about[UNSUPPORTED_ENGINE])
    options = {name: value for name, value in recipe["options"].items() if name != "memory_format"}
    if runtime.source == "module":
        source = source.to(device=device, dtype=dtype).to(memory_format=layout)
    inputs = make_inputs(recipe["batch_size"], recipe["image_size"], device, dtype, layout)

    started = time.perf_counter_ns()
    call = runtime.prepare(source, inputs, options)
    prepared = time.perf_counter_ns()
    logits = call(0)
    if on_gpu:
        torch.cuda.synchronize()
    observed["prepare_ms"] = (prepared - started) / NS_PER_MS
    observed["first_call_ms"] = (time.perf_counter_ns() - prepared) / NS_PER_MS
    if logits.shape[0] != recipe["batch_size"] or not bool(torch.isfinite(logits).all()):
        raise CellError(
            f"{recipe['model']} in {recipe['runtime']}-{recipe['precision']} gave logits that are not finite."
        )
    return Prepared(call, inputs)


def _time(call: Call, protocol: Mapping[str, int], on_gpu: bool) -> pl.DataFrame:
    """All repeats of a cell: warm up, then both arms."""
    import torch

    time_repeat = time_cuda if on_gpu else time_cpu
    rows: list[Row] = []
    for repeat in range(1, protocol["repeats"] + 1):
        for i in range(protocol["warmup_iterations"]):
            call(i % INPUT_BUFFERS)
        if on_gpu:
            torch.cuda.synchronize()
        with _no_garbage_collection():
            rows += time_repeat(call, repeat, protocol["timed_iterations"])
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _check_answers(prepared: Prepared, request: Request) -> dict[str, Any]:
    """Compare the logits of the held-out images with the FP32 reference, through the call that was timed.

    The first input buffer is overwritten; the last images of a batch that is not full are of the timed run.
    """
    import torch

    images, labels = read_arrays(request.held_out_file, "images", "labels")
    (reference,) = read_arrays(request.reference_file, "logits")
    buffer = prepared.inputs[0]
    answers = []
    for start in range(0, len(images), len(buffer)):
        chunk = torch.from_numpy(images[start : start + len(buffer)])
        buffer[: len(chunk)].copy_(chunk)
        answers.append(prepared.call(0)[: len(chunk)].float().cpu().numpy().copy())
    labelled = request.recipe["weights"]["source"] == "seeded"
    return asdict(compare_logits(np.concatenate(answers), reference, labels if labelled else None))


def make_inputs(
    batch_size: int, image_size: int, device: torch.device, dtype: torch.dtype, layout: torch.memory_format
) -> list[torch.Tensor]:
    """`INPUT_BUFFERS` distinct tensors of random normal values, shape (batch, 3, size, size), on the device."""
    import torch

    generator = torch.Generator(device).manual_seed(INPUT_SEED)
    shape = (batch_size, 3, image_size, image_size)
    return [
        torch.randn(shape, generator=generator, device=device).to(dtype=dtype, memory_format=layout)
        for _ in range(INPUT_BUFFERS)
    ]


def time_cuda(call: Call, repeat: int, iterations: int) -> list[Row]:
    """Time one repeat on the current CUDA stream: first the latency arm, then the throughput arm."""
    import torch

    clock = time.perf_counter_ns
    starts, ends = ([torch.cuda.Event(enable_timing=True) for _ in range(iterations + 1)] for _ in range(2))  # type: ignore[no-untyped-call]
    spans: list[tuple[int, int, int]] = []
    for i in range(iterations):
        begin = clock()
        starts[i].record()
        call(i % INPUT_BUFFERS)
        ends[i].record()
        enqueued = clock()
        ends[i].synchronize()
        spans.append((begin, enqueued, clock()))

    begin = clock()
    starts[-1].record()
    for i in range(iterations):
        call(i % INPUT_BUFFERS)
    ends[-1].record()
    enqueued = clock()
    ends[-1].synchronize()
    spans.append((begin, enqueued, clock()))

    device_ms = [start.elapsed_time(end) for start, end in zip(starts, ends, strict=True)]
    rows: list[Row] = []
    for i, ((begin, enqueued, done), device) in enumerate(zip(spans, device_ms, strict=True)):
        arm, iteration, calls = (LATENCY, i + 1, 1) if i < iterations else (THROUGHPUT, 1, iterations)
        host, enqueue = (done - begin) / NS_PER_MS, (enqueued - begin) / NS_PER_MS
        rows.append((OK, None, arm, repeat, iteration, calls, device, host, enqueue))
    return rows


def time_cpu(call: Call, repeat: int, iterations: int) -> list[Row]:
    """Time one repeat on the host. Calls return when done, so one loop serves both arms."""
    clock = time.perf_counter_ns
    marks = [clock()]
    for i in range(iterations):
        call(i % INPUT_BUFFERS)
        marks.append(clock())
    rows: list[Row] = []
    for i in range(iterations):
        elapsed = (marks[i + 1] - marks[i]) / NS_PER_MS
        rows.append((OK, None, LATENCY, repeat, i + 1, 1, elapsed, elapsed, None))
    total = (marks[-1] - marks[0]) / NS_PER_MS
    rows.append((OK, None, THROUGHPUT, repeat, 1, iterations, total, total, None))
    return rows


def set_precision(precision: str) -> None:
    """Set how FP32 convolutions and matrix products are computed on CUDA: IEEE, or TF32 for `tf32`.

    PyTorch lets cuDNN use TF32 unless told otherwise (PyTorch notes, CUDA semantics, TensorFloat-32).
    """
    import torch

    mode = "tf32" if precision == "tf32" else "ieee"
    torch.backends.cudnn.conv.fp32_precision = mode  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn.fp32_precision = mode  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = mode


@contextmanager
def _work_stream(on_gpu: bool) -> Iterator[None]:
    """A stream of the work's own: graph capture may not use the default stream."""
    import torch

    if not on_gpu:
        yield
        return
    with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        yield


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _reset_host_peak() -> int | None:
    """Start a new peak of this process's resident memory and return the bytes resident now.

    None where the kernel does not let a process reset it (proc(5), clear_refs).
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _host_memory("VmRSS")


def _host_memory(field: str) -> int:
    """A memory field of /proc/self/status in bytes; its kB are 1024 bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def _is_out_of_memory(error: BaseException) -> bool:
    import torch

    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text
