"""Measure one cell: load the model, warm up, time, and write the file.

Method: latency and throughput are separate runs (`deepgap.measure.timing`); inputs live on the device and rotate; the
device is sampled by a process of its own (`deepgap.measure.telemetry`); memory is that of a fresh context.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from deepgap.build.engine_file import UNSUPPORTED as UNSUPPORTED_ENGINE
from deepgap.build.engine_file import engine_identity, read_engine
from deepgap.build.export import read_weights_hash
from deepgap.build.images.imagesets import read_arrays
from deepgap.cells.bounds import check_bounds
from deepgap.cells.cell_file import ENERGY, OK, OUT_OF_MEMORY, SCHEMA, UNSUPPORTED, Footer, failure_row, write_cell
from deepgap.errors import CellError, DeepGapError, UnsupportedError, WeightsError, first_line
from deepgap.host import host_threads
from deepgap.measure.device import compute_processes, keep_nvml_open, matching_devices, take_device
from deepgap.measure.fidelity import compare_logits
from deepgap.measure.provenance import collect_provenance, device_memory_used, package_versions
from deepgap.measure.telemetry import Telemetry, energy_per_image, open_nvml, summarise_samples, write_telemetry
from deepgap.measure.timing import (
    CUDA,
    HOST,
    INPUT_BUFFERS,
    NS_PER_MS,
    Phases,
    Row,
    no_garbage_collection,
    time_cold,
    time_energy,
    time_repeats,
)
from deepgap.runtimes import Call, Runtime, load_runtime
from deepgap.sources.models import load_model
from deepgap.study.gpus import Device, Gpu

if TYPE_CHECKING:
    import torch

INPUT_SEED = 0
FIDELITY_CALLS = 64
"""Most calls that a cell spends on the held-out images: small batches are checked on fewer of them."""
IDLE_S = 1.0
"""How long the device idles with a context before an energy window, for its idle power."""
CONTEXT_GONE_S = 2.0
"""How long to wait for the context of the device's last process to be gone."""
FLUSH_FACTOR = 2
"""Bytes overwritten before a cold call, over those of the L2 cache."""
PRELOAD_BYTES = 256 << 20
HELD_OUT, REFERENCE = ("images", "labels"), ("weights_sha256", "logits")

OBSERVED = {
    "clock_zero_unix_s": "the cell's start, as seconds since 1970",
    "place": "where the cell stood in its run's order, from 1",
    "host_load": "the host's load average over a minute when the cell began",
    "cell_s": "seconds from the cell's start until its file was to be written",
    "phases_s": "seconds of its parts: wait, load, context, idle, prepare, first_call, warm_up, latency, throughput, "
    "cold, energy, fidelity",
    "intraop_threads": "threads of PyTorch and ONNX Runtime",
    "interop_threads": "always 1",
    "prepare_ms": "the runtime's preparation of the model on the device: loading, selecting algorithms, capturing",
    "first_call_ms": "the first call: selecting algorithms, compiling",
    "warmup_calls": "untimed calls of all repeats",
    "steady": "whether warm-up became steady in every repeat (`timing.warm_up`)",
    "memory_context_bytes": "device memory of the bare context (NVML)",
    "memory_device_bytes": "device memory above that before the context, after the timed arms (NVML)",
    "memory_allocated_peak_bytes": "peak of PyTorch's allocations",
    "memory_reserved_peak_bytes": "peak of what PyTorch's allocator held",
    "memory_host_bytes": "on a CPU, growth of the resident set over that before the model; null where unknown",
    "fidelity": "`fidelity.Fidelity` of the answers to held-out images, through the timed call",
    "engine": "what the engine tells of itself",
    "telemetry": "`telemetry.summarise_samples` over the timed spans, or why it is absent",
    "energy": "`telemetry.energy_per_image`, or why it is absent",
}
"""The keys of a footer's `observed`. A cell that could not be timed lacks those that it did not reach."""


@dataclass(frozen=True)
class Request:
    """One cell to measure.

    recipe: `Cell.recipe`; gpu: the profile it names.
    source_file: the weights, the graph or the engine that the cell's runtime takes.
    engine_recipe: what the engine must have been built for; null for other sources.
    held_out_file, reference_file: images with labels, and the FP32 logits of them with the hash of their weights.
    telemetry_file: where the device's samples go; null on a CPU.
    place: where the cell stands in its run's order, from 1.
    """

    recipe: Mapping[str, Any]
    gpu: Gpu
    source_file: Path
    engine_recipe: Mapping[str, Any] | None
    held_out_file: Path
    reference_file: Path
    cell_file: Path
    telemetry_file: Path | None = None
    place: int | None = None


@dataclass(frozen=True)
class Prepared:
    """A call, and the input buffers that it reads."""

    call: Call
    inputs: list[torch.Tensor]


@dataclass(frozen=True)
class Measured:
    """The rows of a cell, the hash of its weights, and when the device idled, if it did."""

    rows: pl.DataFrame
    weights_sha256: str
    idle_ms: tuple[float, float] | None = None


def measure_cell(request: Request, say: Callable[[str], None]) -> None:
    """Measure a cell on a device taken for it alone, in this process, and write its file and its telemetry.

    The process must not have touched CUDA before, because the device's memory is read before and after its
    context, and should end soon, because it keeps the device until then.

    Raises:
        DeviceError: this machine has no such device.
        WeightsError, GraphError, EngineError: the source file is missing, damaged or foreign.
        ImageError: the held-out images or their reference are.
        TelemetryError: the device could not be sampled.
        CellError: the model's output is not finite, or the rows break the contract or what is possible.
    """
    phases = Phases()
    with phases("wait"):
        keep_nvml_open()
        device = take_device(request.gpu, say)
    zero_ns, zero_unix_s = time.perf_counter_ns(), time.time()
    observed: dict[str, Any] = {
        "clock_zero_unix_s": zero_unix_s,
        "place": request.place,
        "host_load": os.getloadavg()[0],
        "phases_s": phases.seconds,
        "telemetry": {"absent": "NVML samples NVIDIA GPUs alone"},
        "energy": {"absent": "NVML samples NVIDIA GPUs alone"},
    }
    if device.index < 0:
        measured = _measure(request, device, observed, phases, zero_ns)
        samples = None
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = device.uuid
        telemetry = Telemetry(lambda: open_nvml(device.index), zero_ns)
        try:
            measured = _measure(request, device, observed, phases, zero_ns)
            samples = telemetry.stop()
        finally:
            telemetry.close()
        observed |= _describe_samples(samples, measured, request.recipe)
    check_bounds(measured.rows, request.recipe, request.gpu)
    provenance = collect_provenance(device)
    observed["cell_s"] = phases.seconds["wait"] + (time.perf_counter_ns() - zero_ns) / 1e9
    footer = Footer(dict(request.recipe), measured.weights_sha256, provenance, observed)
    if samples is not None and request.telemetry_file is not None:
        about = {"recipe": dict(request.recipe), "clock_zero_unix_s": zero_unix_s}
        write_telemetry(request.telemetry_file, samples, about)
    write_cell(request.cell_file, measured.rows, footer)


def _measure(request: Request, device: Device, observed: dict[str, Any], phases: Phases, zero_ns: int) -> Measured:
    import torch

    recipe = request.recipe
    runtime = load_runtime(recipe["runtime"])
    on_gpu = device.index >= 0
    set_precision(recipe["precision"])
    threads = recipe["threads"] or host_threads()
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    observed |= {"intraop_threads": threads, "interop_threads": 1}
    host_baseline = _reset_host_peak()
    with phases("load"):
        source, weights_sha256, about = _load_source(request, runtime, device)
        observed |= about
        _check_weights(weights_sha256, request)

    baseline = _memory_before_context(device) if on_gpu else 0

    def observe_memory() -> None:
        if on_gpu:
            observed["memory_device_bytes"] = device_memory_used(device) - baseline
            observed["memory_allocated_peak_bytes"] = torch.cuda.max_memory_allocated()
            observed["memory_reserved_peak_bytes"] = torch.cuda.max_memory_reserved()
        else:
            observed["memory_host_bytes"] = None if host_baseline is None else _host_memory("VmHWM") - host_baseline

    idle_ms = None
    try:
        if threads > host_threads():
            raise UnsupportedError(
                f"{threads} threads were asked for, but the process may use {host_threads()} cores."
            )
        with phases("context"):
            if on_gpu:
                torch.backends.cudnn.benchmark = True
                torch.zeros(1, device="cuda")
                torch.cuda.synchronize()
                observed["memory_context_bytes"] = device_memory_used(device) - baseline
        if recipe["energy_s"]:
            with phases("idle"):
                began_ms = (time.perf_counter_ns() - zero_ns) / NS_PER_MS
                time.sleep(IDLE_S)
                idle_ms = (began_ms, began_ms + IDLE_S * 1000)
        with torch.inference_mode(), _work_stream(on_gpu):
            prepared = _prepare(source, recipe, runtime, on_gpu, observed, phases)
            with no_garbage_collection():
                rows = _time(prepared.call, recipe, on_gpu, observed, observe_memory, phases, zero_ns)
            with phases("fidelity"):
                observed["fidelity"] = _check_answers(prepared, request)
    except UnsupportedError as error:
        observe_memory()
        rows = failure_row(UNSUPPORTED, str(error))
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        observe_memory()
        rows = failure_row(OUT_OF_MEMORY, first_line(error))
    return Measured(rows, weights_sha256, idle_ms)


def _time(
    call: Call,
    recipe: Mapping[str, Any],
    on_gpu: bool,
    observed: dict[str, Any],
    observe_memory: Callable[[], None],
    phases: Phases,
    zero_ns: int,
) -> pl.DataFrame:
    """All arms of a cell. Memory is observed before those that the protocol need not have."""
    protocol, timer = recipe["protocol"], CUDA if on_gpu else HOST
    rows: list[Row]
    rows, about = time_repeats(call, timer, protocol, zero_ns, phases)
    _, _, _, _, _, queued_calls, _, queued_ms, _, _ = rows[-1]
    observed |= about
    observe_memory()
    if protocol["cold_iterations"]:
        with phases("cold"):
            rows += time_cold(call, timer, protocol, _flush_l2(), zero_ns)
    if recipe["energy_s"]:
        with phases("energy"):
            rows.append(time_energy(call, timer, recipe["energy_s"], queued_ms / queued_calls, zero_ns))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _flush_l2() -> Callable[[], None]:
    """A function that overwrites the device's L2 cache and waits until that is done."""
    import torch

    size = FLUSH_FACTOR * torch.cuda.get_device_properties().L2_cache_size
    buffer = torch.empty(size, dtype=torch.int8, device="cuda")

    def flush() -> None:
        buffer.zero_()
        torch.cuda.current_stream().synchronize()

    return flush


def _describe_samples(samples: pl.DataFrame, measured: Measured, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """`telemetry` and `energy` of the footer."""
    timed = measured.rows.filter(pl.col("status") == OK)
    if timed.is_empty():
        return {"telemetry": {"absent": "nothing was timed"}, "energy": {"absent": "nothing was timed"}}
    ends = timed.select(pl.col("start_ms") + pl.col("host_ms")).to_series()
    about = {
        "telemetry": summarise_samples(samples, timed["start_ms"].min(), ends.max()),  # type: ignore[arg-type]
        "energy": {"absent": "the study asks for no energy window in this cell"},
    }
    window = timed.filter(pl.col("arm") == ENERGY)
    if window.height:
        row = window.row(0, named=True)
        span_ms = (row["start_ms"], row["start_ms"] + row["host_ms"])
        about["energy"] = energy_per_image(samples, span_ms, measured.idle_ms, row["calls"] * recipe["batch_size"])
    return about


_preloaded: dict[tuple[str, ...], Any] = {}


def preload(request: Request) -> None:
    """Read what a cell needs into this process, which forks one for each cell: they then share its memory.

    What cannot be read is left for the cell, which says why. Files of more than `PRELOAD_BYTES` are left, too.
    """
    with suppress(DeepGapError, OSError):
        package_versions()
        for file, names in ((request.held_out_file, HELD_OUT), (request.reference_file, REFERENCE)):
            if _key(file) not in _preloaded:
                _preloaded[_key(file)] = _read(file, names)
        runtime, file = load_runtime(request.recipe["runtime"]), request.source_file
        runtime.preload()
        key = _key(file, *_form(request.recipe))
        # On a processor the model counts as memory of the cell, which what is shared would not.
        shared = request.gpu.device == "cuda" and runtime.source != "graph"
        if shared and file.stat().st_size <= PRELOAD_BYTES and key not in _preloaded:
            _preloaded[key] = _load_source(request, runtime, matching_devices(request.gpu)[0])


def _key(file: Path, *form: str) -> tuple[str, ...]:
    stat = file.stat()
    return str(file), str(stat.st_mtime_ns), str(stat.st_size), *form


def _form(recipe: Mapping[str, Any]) -> tuple[str, str]:
    """The type and the memory format of the cell's images, and of the weights of a PyTorch model, by their names."""
    dtype = "float16" if recipe["precision"] == "fp16" else "float32"
    layout = recipe["options"].get("memory_format", "contiguous")
    return dtype, {"contiguous": "contiguous_format"}.get(layout, layout)


def _load_source(request: Request, runtime: Runtime, device: Device) -> tuple[Any, str, dict[str, Any]]:
    """What the runtime prepares, the hash of the weights in it, and what is worth telling of it."""
    import torch

    file, form = request.source_file, _form(request.recipe)
    if file.exists() and _key(file, *form) in _preloaded:
        found: tuple[Any, str, dict[str, Any]] = _preloaded[_key(file, *form)]
        return found
    if runtime.source == "module":
        model, weights_sha256 = load_model(request.recipe["model"], file)
        dtype, layout = (getattr(torch, name) for name in form)
        return model.to(dtype=dtype).to(memory_format=layout), weights_sha256, {}
    if runtime.source == "graph":
        return file, read_weights_hash(file), {}
    assert request.engine_recipe is not None
    engine = read_engine(file, engine_identity(device, runtime.libraries(), request.engine_recipe))
    told = ("graph_sha256", "layers_by_precision", "kernels", "build_s")
    return engine, engine.about["weights_sha256"], {"engine": {key: engine.about.get(key) for key in told}}


def _read(file: Path, names: Sequence[str]) -> list[np.ndarray]:
    if file.exists() and _key(file) in _preloaded:
        arrays: list[np.ndarray] = _preloaded[_key(file)]
        return arrays
    return read_arrays(file, *names)


def _check_weights(weights_sha256: str, request: Request) -> None:
    """Refuse a source that does not hold the weights from which the reference was computed, as every mode must."""
    if str(_read(request.reference_file, REFERENCE)[0]) != weights_sha256:
        raise WeightsError(
            f"{request.source_file} and {request.reference_file} were made from different weights; "
            "delete both and run Snakemake again."
        )


def _prepare(
    source: Any,
    recipe: Mapping[str, Any],
    runtime: Runtime,
    on_gpu: bool,
    observed: dict[str, Any],
    phases: Phases,
) -> Prepared:
    """Make the inputs and the call, and time the preparation and the first call."""
    import torch

    device = torch.device("cuda" if on_gpu else "cpu")
    dtype, layout = (getattr(torch, name) for name in _form(recipe))
    if runtime.source == "engine" and UNSUPPORTED_ENGINE in source.about:
        raise UnsupportedError(source.about[UNSUPPORTED_ENGINE])
    options = {name: value for name, value in recipe["options"].items() if name != "memory_format"}
    with phases("load"):
        if runtime.source == "module":
            source = source.to(device)
        inputs = make_inputs(recipe["batch_size"], recipe["image_size"], device, dtype, layout)
        if on_gpu:
            torch.cuda.synchronize()
    with phases("prepare"):
        call = runtime.prepare(source, inputs, options)
    with phases("first_call"):
        logits = call(0)
        if on_gpu:
            torch.cuda.synchronize()
    observed["prepare_ms"] = phases.seconds["prepare"] * 1000
    observed["first_call_ms"] = phases.seconds["first_call"] * 1000
    if logits.shape[0] != recipe["batch_size"] or not bool(torch.isfinite(logits).all()):
        raise CellError(
            f"{recipe['model']} in {recipe['runtime']}-{recipe['precision']} gave logits that are not finite."
        )
    return Prepared(call, inputs)


def _check_answers(prepared: Prepared, request: Request) -> dict[str, Any]:
    """Compare the logits of held-out images with the FP32 reference, through the call that was timed.

    The first input buffer is overwritten; the last images of a batch that is not full are of the timed run.
    """
    import torch

    held_out = _read(request.held_out_file, HELD_OUT)
    _, reference = _read(request.reference_file, REFERENCE)
    buffer = prepared.inputs[0]
    count = min(len(reference), FIDELITY_CALLS * len(buffer))
    images, labels = (torch.from_numpy(array[:count]) for array in held_out)
    images = images.to(buffer.device)
    answers = []
    for start in range(0, count, len(buffer)):
        chunk = images[start : start + len(buffer)]
        buffer[: len(chunk)].copy_(chunk)
        answers.append(prepared.call(0)[: len(chunk)].float().clone())
    logits = torch.cat(answers).cpu().numpy()
    labelled = request.recipe["weights"]["source"] == "seeded"
    return asdict(compare_logits(logits, reference[:count], labels.numpy() if labelled else None))


def _memory_before_context(device: Device) -> int:
    """Device memory in use once the process that had the device before is gone with its context.

    The lock that kept the device is free a moment before that context is. Another user's process stays: it is waited
    for in vain, and the cell is flagged.
    """
    began = time.monotonic()
    while compute_processes(device) and time.monotonic() - began < CONTEXT_GONE_S:
        time.sleep(0.01)
    return device_memory_used(device)


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


def _reset_host_peak() -> int | None:
    """Start a new peak of this process's resident memory and return the bytes resident now.

    None where the kernel does not let a process reset it (proc(5), clear_refs).
    """
    # What is free in the heap but resident would take up the model without growth; only glibc gives it back.
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return None
    return _host_memory("VmRSS")


def _host_memory(field: str) -> int:
    """A memory field of /proc/self/status in bytes; its kB are 1024 bytes."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch, CUDA, ONNX Runtime or Python could not get memory: most of them say so in words alone."""
    import torch

    words = ("out of memory", "can't allocate memory", "Failed to allocate memory", "bad allocation", "bad_alloc")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in words)
