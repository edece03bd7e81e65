"""Cells measured in this process on its processor: real ones of a small network, and ones that fail in every way."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from deepgap.build.export import export_onnx
from deepgap.build.graph_file import write_unsupported_graph
from deepgap.build.images.imagesets import write_arrays
from deepgap.build.reference import write_answers
from deepgap.cells.cell_file import END_TO_END, read_cell
from deepgap.cells.footer import Footer
from deepgap.errors import MissingLibraryError, UnsupportedError, WeightsError
from deepgap.measure import bench as bench_module
from deepgap.measure import cell as cell_module
from deepgap.measure import energy as energy_module
from deepgap.measure import memory as memory_module
from deepgap.measure import source as source_module
from deepgap.measure.bench import Bench, describe_device, refuse_what_cannot_be
from deepgap.measure.cell import measure_cell
from deepgap.measure.memory import Memory
from deepgap.measure.pinning import Pinning, choose_cores
from deepgap.measure.runs import Phases, Timed
from deepgap.measure.source import Request, load_reference, preload
from deepgap.measure.telemetry import Samples
from deepgap.runtimes import load_runtimes
from deepgap.study.cell import recipe_digest
from deepgap.study.gpus import HOST, Device
from deepgap.weights import Weights, hash_weights, read_weights, save_weights
from tests.unit.fake_device import counter_samples, samples_of
from tests.unit.networks import save_model, small_network
from tests.unit.synthetic import GPUS, synthetic_recipe, synthetic_rows

IMAGES, SIZE = 3, 32
PROTOCOL = {"warmup_iterations": 1, "timed_iterations": 4, "runs": 1, "fidelity_images": IMAGES}
PROTOCOL |= {"throughput_s": 0.05, "arms": [], "stop": None}
FACTS = {"multiply_adds": 37_000_000, "classes": 1000, "blocks": 8}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Weights, a graph, held-out images and their FP32 logits."""
    folder = tmp_path_factory.mktemp("sources")
    model = small_network("resnet18")
    save_model(folder / "weights.pt", "resnet18", model, SIZE)
    export_onnx(model, folder / "resnet18.onnx", "fp32", SIZE, hash_weights(model.state_dict()))
    images = np.random.default_rng(0).standard_normal((IMAGES, 3, SIZE, SIZE)).astype(np.float16)
    with torch.inference_mode():
        logits = model(torch.from_numpy(images).float()).numpy()
    labels = logits.argmax(axis=1)
    write_arrays(folder / "held_out.npz", images=images, labels=labels)
    write_answers(folder / "reference.npz", logits, hash_weights(model.state_dict()), labels)
    return folder


@pytest.fixture(autouse=True)
def own_host(monkeypatch) -> Iterator[None]:
    """No lock is taken: other tests of this machine have it. Threads and cores are as before afterwards."""
    monkeypatch.setattr(bench_module, "take_device", lambda gpu, say, card: HOST)
    monkeypatch.setattr(energy_module, "POWERCAP", Path("nowhere"))
    threads, cores = torch.get_num_threads(), os.sched_getaffinity(0)
    yield
    torch.set_num_threads(threads)
    os.sched_setaffinity(0, cores)


def request_of(files: Path, folder: Path, mode: str = "eager-fp32", batch_size: int = 2, **changes: Any) -> Request:
    protocol = PROTOCOL | changes.pop("protocol", {})
    recipe = synthetic_recipe("CPU", "resnet18", mode, batch_size, protocol=protocol, threads=1)
    recipe |= {"weights": {"source": "seeded", "seed": 0}, "image_size": SIZE, "options": {}, "layout": "nchw"}
    recipe |= changes.pop("recipe", {})
    source = files / ("weights.pt" if mode.startswith("eager") else "resnet18.onnx")
    files_of = {"held_out_file": files / "held_out.npz", "reference_file": files / "reference.npz"}
    cell_file = folder / f"cell.{recipe_digest(recipe)}.parquet"
    return Request(recipe, GPUS["CPU"], source, None, cell_file=cell_file, facts=FACTS, **(files_of | changes))


def measure(request: Request) -> tuple[pl.DataFrame, Footer]:
    measure_cell(request, say=lambda text: None)
    return read_cell(request.cell_file)


def with_runtime(monkeypatch, prepare: Callable[..., Any], **fields: Any) -> None:
    """The runtime eager, prepared so."""
    eager = load_runtimes()["eager"]
    monkeypatch.setattr(cell_module, "load_runtimes", lambda: {"eager": replace(eager, prepare=prepare, **fields)})


def failing_at(number: int, error: Exception) -> Callable[..., Any]:
    """Prepares a call that fails at this one of its calls, from 1."""

    def prepare(model: torch.nn.Module, inputs: list[torch.Tensor], options: dict) -> Callable[[int], torch.Tensor]:
        calls = iter(range(1, 10**9))

        def call(index: int) -> torch.Tensor:
            if next(calls) == number:
                raise error
            return model(inputs[index])

        return call

    return prepare


@pytest.mark.parametrize("mode", ["eager-fp32", "ort-fp32"])
def test_a_cell_is_measured_and_says_everything(files, tmp_path, mode):
    rows, footer = measure(request_of(files, tmp_path, mode, protocol={"arms": ["burst", "end_to_end"], "runs": 2}))
    counts = rows.group_by("arm", "run", maintain_order=True).len().rows()
    per_run = [("latency", 4), ("throughput", 1), ("burst", 1), (END_TO_END, 4)]
    assert counts == [(arm, run, count) for run in (1, 2) for arm, count in per_run]
    observed = footer.observed
    assert observed["steady"] in (True, False) and observed["converged"] is True
    fidelity = observed["fidelity"]
    assert (fidelity["images"], fidelity["top1_agreeing"], fidelity["top1_right"]) == (IMAGES, IMAGES, IMAGES)
    assert fidelity["centred_cosine"] == pytest.approx(1, abs=1e-5)
    assert observed["facts"] == FACTS
    assert observed["launch"] is None
    assert observed["pinned_cores"] == sorted(os.sched_getaffinity(0))
    assert set(observed["telemetry"]) == set(observed["energy"]) == {"absent"}
    assert observed["memory"]["device_peak_bytes"] is None
    spent = observed["phases_s"]
    assert {"wait", "load", "context", "prepare", "first_call", "warm_up", "latency", "fidelity"} <= set(spent)
    assert sum(spent.values()) <= observed["cell_s"]
    graph = hashlib.sha256((files / "resnet18.onnx").read_bytes()).hexdigest()
    assert footer.graph_sha256 == (graph if mode == "ort-fp32" else None)
    host = footer.provenance["host"]
    assert len(host["host_sha256"]) == 12 and host["limits"]["usable_cores"] > 0
    assert "torch" in footer.provenance["libraries"] or "onnxruntime" in footer.provenance["libraries"]
    assert len(footer.provenance["session"]["id"]) == 12


def test_a_noisy_cell_with_a_rule_that_cannot_be_met_is_not_converged(files, tmp_path):
    stop = {"half_width": 1e-9, "minimum_iterations": 2, "minimum_ms": 0, "maximum_s": 2}
    _, footer = measure(request_of(files, tmp_path, protocol={"stop": stop, "timed_iterations": 9}))
    assert footer.observed["converged"] is False


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("Failed to allocate memory for requested buffer"), "out_of_memory"),
        (UnsupportedError("no such kernel"), "unsupported"),
    ],
)
@pytest.mark.parametrize("number", [1, 5])
def test_an_expected_failure_is_a_row(files, tmp_path, monkeypatch, error, status, number):
    with_runtime(monkeypatch, failing_at(number, error))
    rows, footer = measure(request_of(files, tmp_path))
    assert rows["status"].to_list() == [status]
    assert rows["reason"][0]
    assert "fidelity" not in footer.observed
    assert footer.observed["energy"] == {"absent": "nothing was timed"}
    assert len(footer.weights_sha256) == 64


def test_a_cell_that_cannot_be_is_a_row_without_its_source_or_library(files, tmp_path, monkeypatch):
    def absent() -> dict[str, str]:
        raise MissingLibraryError("not installed")

    def fail(*_: Any) -> None:
        raise AssertionError("nothing is prepared")

    with_runtime(monkeypatch, fail, skip=lambda *cell: f"The {cell[3].key} has none.", libraries=absent)
    rows, footer = measure(replace(request_of(files, tmp_path), source_file=tmp_path / "nothing"))
    assert rows.select("status", "reason").rows() == [("unsupported", "The CPU has none.")]
    assert footer.provenance["libraries"] == {}
    assert len(footer.weights_sha256) == 64


def test_an_unexpected_failure_is_raised_and_leaves_nothing(files, tmp_path, monkeypatch):
    with_runtime(monkeypatch, failing_at(3, RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        measure(request_of(files, tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_out_of_memory_while_answers_are_checked_keeps_what_was_timed(files, tmp_path, monkeypatch):
    def check(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(cell_module, "check_answers", check)
    rows, footer = measure(request_of(files, tmp_path))
    assert set(rows["status"]) == {"ok"}
    assert footer.observed["fidelity"] == {"absent": "CUDA out of memory"}


def test_held_out_images_reach_the_device_a_batch_at_a_time(files, tmp_path, monkeypatch):
    sizes: list[int] = []
    real = torch.from_numpy
    monkeypatch.setattr(torch, "from_numpy", lambda array: sizes.append(len(array)) or real(array))
    measure(request_of(files, tmp_path, batch_size=2))
    assert max(sizes) == 2


@pytest.mark.parametrize(("poison", "reason"), [(1, "first call"), (10**6, "held-out images")])
def test_answers_that_are_not_finite_are_refused_with_a_row(files, tmp_path, monkeypatch, poison, reason):
    """At once, or in answers to held-out images alone."""

    def prepare(model: torch.nn.Module, inputs: list[torch.Tensor], options: dict) -> Callable[[int], torch.Tensor]:
        drawn = inputs[0].clone()

        def call(index: int) -> torch.Tensor:
            logits = model(inputs[index])
            of_images = index == 0 and not torch.equal(inputs[0], drawn)
            return logits * float("nan") if poison == 1 or of_images else logits

        return call

    with_runtime(monkeypatch, prepare)
    rows, _ = measure(request_of(files, tmp_path))
    assert rows["status"].to_list() == ["refused"]
    assert reason in rows["reason"][0]


def test_answers_for_another_batch_are_refused(files, tmp_path, monkeypatch):
    with_runtime(monkeypatch, lambda model, inputs, options: lambda index: model(inputs[index])[:1])
    rows, _ = measure(request_of(files, tmp_path))
    assert rows.select("status", "reason").rows() == [("refused", "the first call gave 1 answers for 2 images")]


def test_more_threads_than_cores_are_a_row(files, tmp_path):
    rows, _ = measure(request_of(files, tmp_path, recipe={"threads": 4096}))
    assert rows["status"].to_list() == ["unsupported"]
    assert "4096 threads were asked for" in rows["reason"][0]


def test_a_model_that_cannot_run_is_a_row_with_its_reason(files, tmp_path):
    """Where there are no weights, no graph, or no answers to compare with."""
    why = "The model cannot be built."
    spec = read_weights(files / "weights.pt").spec
    save_weights(tmp_path / "weights.pt", Weights(spec, unsupported=why))
    write_unsupported_graph(tmp_path / "resnet18.onnx", why)
    write_answers(tmp_path / "reference.npz", np.zeros((0, 0)), "", np.zeros(IMAGES, np.int64), unsupported=why)
    reference = {"reference_file": tmp_path / "reference.npz"}
    for folder, mode in ((tmp_path, "eager-fp32"), (tmp_path, "ort-fp32"), (files, "eager-fp32")):
        request = replace(request_of(folder, tmp_path, mode, **reference), held_out_file=files / "held_out.npz")
        frame, footer = measure(replace(request, facts=None))
        assert frame["status"].to_list() == ["unsupported"] and frame["reason"].to_list() == [why]
        assert footer.weights_sha256 == "" and footer.observed["facts"] == {}
        request.cell_file.unlink()


def test_fp16_that_would_overflow_is_a_row_with_its_reason(files, tmp_path):
    loud = replace(read_weights(files / "weights.pt"), largest=60_000.0)
    save_weights(tmp_path / "weights.pt", loud)
    request = replace(request_of(files, tmp_path, "eager-fp16"), source_file=tmp_path / "weights.pt")
    frame, _ = measure(request)
    assert frame["status"].to_list() == ["unsupported"] and "too near FP16's largest" in frame["reason"][0]


def test_labels_that_the_model_was_not_made_for_are_not_counted(files, tmp_path):
    with np.load(files / "reference.npz") as kept:
        own = {name: kept[name] for name in kept.files}
    for mean, right in ((True, IMAGES), (False, None)):
        write_arrays(tmp_path / "reference.npz", **{**own, "labels_mean": np.array(mean)})
        request = request_of(files, tmp_path, reference_file=tmp_path / "reference.npz")
        _, footer = measure(request)
        assert footer.observed["fidelity"]["top1_right"] == right
        request.cell_file.unlink()


def test_a_source_of_other_weights_than_the_reference_is_no_cell(files, tmp_path):
    foreign = tmp_path / "reference.npz"
    write_answers(foreign, np.zeros((IMAGES, 1000)), "0" * 64, np.zeros(IMAGES, np.int64))
    with pytest.raises(WeightsError, match="made from different weights"):
        measure(request_of(files, tmp_path, reference_file=foreign))


def test_what_was_preloaded_is_read_once(files, tmp_path, monkeypatch):
    request = request_of(files, tmp_path, "ort-fp32")
    preload(request)
    monkeypatch.setattr(source_module, "read_arrays", lambda *names: pytest.fail("read again"))
    monkeypatch.setattr(source_module, "_load", lambda *names: pytest.fail("loaded again"))
    assert load_reference(request).logits.shape == (IMAGES, 1000)
    rows, _ = measure(request)
    assert set(rows["status"]) == {"ok"}


def test_a_file_that_is_written_anew_is_read_again(files, tmp_path):
    held_out = tmp_path / "held_out.npz"
    held_out.write_bytes((files / "held_out.npz").read_bytes())
    request = request_of(files, tmp_path, held_out_file=held_out)
    preload(request)
    write_arrays(held_out, images=np.ones((1, 3, SIZE, SIZE), np.float16), labels=np.zeros(1, int))
    assert len(load_reference(request).images) == 1


def test_a_processor_with_a_counter_tells_its_energy(files, tmp_path, monkeypatch):
    def open_meter() -> tuple[Callable[[], float], None]:
        return (lambda: 42.0 * time.perf_counter()), None

    monkeypatch.setattr(bench_module, "open_rapl", open_meter)
    _, footer = measure(request_of(files, tmp_path, protocol={"throughput_s": 0.3}))
    energy = footer.observed["energy"]
    assert energy["source"] == "rapl"
    assert energy["joules"] / energy["window_s"] == pytest.approx(42, rel=0.01)
    assert energy["idle_power_w"] == pytest.approx(42, rel=0.01)
    assert energy["joules_per_image_above_idle"] is None


# A GPU's cell, without the GPU


@pytest.fixture
def bench(files, tmp_path, monkeypatch) -> Bench:
    """A cell that was timed on a GPU of 1000 bytes in use before."""
    device = Device(0, "GPU-1", "Fake", "9.0")
    monkeypatch.setattr(memory_module, "compute_processes", lambda device: 0)
    monkeypatch.setattr(memory_module, "device_memory_used", lambda device: 1000)
    recipe, observed = request_of(files, tmp_path).recipe, {"facts": FACTS, "phases_s": {}}
    made = Bench(recipe, GPUS["H200"], device, Pinning((1,), 0), Phases(), Memory(device), 0, observed)
    made.provenance = {"device": {"max_sm_clock_mhz": 2000}}
    made.idle_ms = (100.0, 500.0)
    return made


def test_a_gpu_that_tells_no_memory_has_none_in_its_cell(monkeypatch):
    monkeypatch.setattr(memory_module, "compute_processes", lambda device: 0)
    monkeypatch.setattr(memory_module, "device_memory_used", lambda device: None)
    memory = Memory(Device(0, "GPU-1", "Fake", "9.0"))
    memory.observe_context()
    samples = pl.DataFrame({"memory_used_bytes": [1, 2]})
    about = memory.describe(samples)
    assert about["context_bytes"] is None
    assert about["device_peak_bytes"] is None


def timed_on_gpu() -> Timed:
    """A latency arm, and a throughput arm from 1.5 s to 3.5 s."""
    rows = [("ok", None, "latency", 1, 1, 1, 1000.0, 1.0, 1.0, 0.1), ("ok", None, "throughput", 1, 1, 9, 1500.0)]
    rows[1] = (*rows[1], 2000.0, 2000.0, 1.0)
    return Timed(rows)  # type: ignore[arg-type]


def test_samples_tell_a_gpus_memory_energy_and_arms(bench):
    samples = counter_samples(lambda at_ms: 0.3 * at_ms, 4000).with_columns(
        memory_used_bytes=pl.lit(5000), sm_clock_mhz=pl.lit(1000)
    )
    samples = samples.with_columns(
        memory_used_bytes=pl.when(pl.col("time_ms") == 700).then(90_000).otherwise("memory_used_bytes")
    )
    about = describe_device(bench, timed_on_gpu(), Samples(samples))
    assert about["memory"]["device_peak_bytes"] == 89_000
    assert about["telemetry"]["arms"]["throughput"]["sm_clock_mean_share"] == 0.5
    assert about["energy"]["joules_per_image"] == pytest.approx(300 * 2 / 18, rel=0.01)
    assert about["energy"]["idle_power_w"] == pytest.approx(300, rel=0.05)


def test_a_sampler_that_hung_costs_what_it_would_have_told_and_no_more(bench):
    about = describe_device(bench, timed_on_gpu(), Samples(samples_of(power_w=[]), "it did not answer"))
    assert about["telemetry"] == about["energy"] == {"absent": "it did not answer"}
    assert about["memory"]["device_peak_bytes"] is None


def test_a_bound_that_is_broken_is_a_row(bench):
    rows = synthetic_rows([[1e-6, 1e-6]], [1e-6])
    bench.recipe["batch_size"] = 512  # type: ignore[index]
    refused = refuse_what_cannot_be(bench, rows)
    assert refused["status"].to_list() == ["refused"]
    assert "Tops/s" in refused["reason"][0]
    assert refuse_what_cannot_be(bench, refused).equals(refused)


@pytest.mark.parametrize(
    ("usable", "on_gpu", "expected"),
    [
        ({0, 1, 2, 3}, True, Pinning((1, 2, 3), 0)),
        ({5, 9}, True, Pinning((9,), 5)),
        ({5}, True, Pinning((5,), None)),
        ({0, 1}, False, Pinning((0, 1), None)),
    ],
)
def test_a_core_is_left_to_telemetry_where_there_are_two(usable, on_gpu, expected):
    assert choose_cores(usable, on_gpu) == expected
