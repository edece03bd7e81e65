"""The config of the second study, and cells of it that are measured in this process or fail in every way."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from deepgap.cells.cell_file import read_cell
from deepgap.errors import ConfigError, DeepGapError
from deepgap.measure import bench as bench_module
from deepgap.measure import energy as energy_module
from deepgap.study.gpus import HOST
from deepgap.training import measure as measure_module
from deepgap.training import process
from deepgap.training.checks import load_training_study
from deepgap.training.facts import Arithmetic, WorkloadFacts, write_facts
from deepgap.training.frameworks import Job, Prepared, load_frameworks
from deepgap.training.measure import Request, measure_training_cell
from deepgap.training.study import TrainingStudy
from tests.conftest import ROOT, read_yaml
from tests.unit.synthetic import GPUS
from tests.unit.training_cells import synthetic_training_cell

CONFIG = read_yaml(ROOT / "config/training.yaml")
SCHEMA = read_yaml(ROOT / "workflow/schemas/training.schema.yaml")


def study(**changes: Any) -> TrainingStudy:
    return load_training_study(CONFIG | changes, SCHEMA, GPUS)


@pytest.mark.parametrize("gpu", ["CPU", "EPYCGenoa", "H100", "H200"])
def test_every_cell_of_the_study_has_a_name_of_its_own(gpu):
    found = study(gpu=gpu)
    cells = found.cells(gpu)
    assert len({cell.path for cell in cells}) == len(cells) > 30
    assert sorted(cell.stem for cell in found.run_order(gpu)) == sorted(cell.stem for cell in cells)
    assert {cell.model for cell in cells} == set(found.workloads)
    assert {cell.phase for cell in cells} == {"train", "inference"}


def test_the_modes_of_a_block_are_neighbours():
    order = study(gpu="H100").run_order("H100")
    changes = sum(a.block != b.block for a, b in itertools.pairwise(order))
    assert changes + 1 == len({cell.block for cell in order})
    assert [cell.sweep for cell in order] == sorted(cell.sweep for cell in order)


def test_an_inference_cell_has_no_optimiser_and_no_parts():
    for cell in study(gpu="CPU").cells("CPU"):
        assert ("optimizer" in cell.recipe) == (cell.phase == "train")
        assert bool(cell.recipe["protocol"]["arms"]) == (cell.phase == "train")
        assert "sweeps" not in cell.recipe["protocol"]


def test_the_hopper_cards_have_the_published_set_up_and_a_processor_says_what_it_left_out():
    assert study(gpu="H100").left_out("H100") == []
    sentences = study(gpu="CPU").left_out("CPU")
    assert len(sentences) == 4
    assert "VGG-16: batch 64 of 224 px is left out; measured: 8 of 32 px." in sentences


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"gpu": "H101"}, "training.yaml: gpu is 'H101' (did you mean 'H100'?)"),
        ({"protocol": "adaptve"}, "training.yaml: protocol is 'adaptve' (did you mean 'adaptive'?)"),
        ({"seed": -1}, "training.yaml: seed is -1; it must be at least 0."),
        ({"phases": ["training"]}, "phases[0] is 'training' (did you mean 'train'?); allowed: train, inference."),
        ({"grids": None, "models": ["resnet19"]}, "models[0] is 'resnet19' (did you mean 'resnet18'?)"),
        ({"grids": None, "modes": ["torch-fp32"]}, "modes[0]: 'torch-fp32' is not a mode"),
        ({"grids": None, "modes": ["jax-mixed_fp16"]}, "the runtime jax runs fp32, mixed_bf16, tf32"),
        ({"gpu": "T4", "grids": None, "modes": ["eager-mixed_bf16"]}, "but T4 has no mixed_bf16"),
        ({"gpu": "H100", "overrides": {}, "grids": None, "modes": ["tensorflow-fp32"]}, "does not run on H100"),
        ({"runtime_options": {"compile": {"mod": "default"}}}, "mod is not an option of the runtime compile"),
        ({"batchsizes": [1]}, "has the unknown key 'batchsizes' (did you mean 'batch_sizes'?)"),
    ],
)
def test_a_bad_value_is_one_sentence(changes, sentence):
    with pytest.raises(ConfigError) as error:
        study(**changes)
    assert sentence in str(error.value)
    assert str(error.value).startswith("training.yaml") or "runtime_options" in str(error.value)


# Cells in this process


@pytest.fixture(autouse=True)
def own_host(monkeypatch) -> Iterator[None]:
    """No lock is taken: other tests of this machine have it. Threads and cores are as before afterwards."""
    monkeypatch.setattr(bench_module, "take_device", lambda gpu, say, card: HOST)
    monkeypatch.setattr(energy_module, "POWERCAP", Path("nowhere"))
    threads, cores = torch.get_num_threads(), os.sched_getaffinity(0)
    yield
    torch.set_num_threads(threads)
    os.sched_setaffinity(0, cores)


def measured(monkeypatch, folder: Path, prepare: Callable[[Job], Prepared] | None = None, **cell: Any) -> Any:
    """The status and the reason of a cell, and its footer; `prepare` stands for the framework's."""
    eager = load_frameworks()["eager"]
    if prepare is not None:
        monkeypatch.setattr(measure_module, "load_frameworks", lambda: {"eager": replace(eager, prepare=prepare)})
    asked = synthetic_training_cell(gpu="CPU", image_size=32, **{"batch_size": 2, **cell})
    facts = WorkloadFacts(1, "0" * 64, Arithmetic(1, 3), Arithmetic(1, 1))
    write_facts(folder / "facts.json", facts)
    file = folder / f"{asked.stem}.parquet"
    measure_training_cell(Request(asked.recipe, GPUS["CPU"], folder / "facts.json", file), say=lambda text: None)
    rows, footer = read_cell(file)
    return rows["status"][0], rows["reason"][0], footer


def test_a_batch_that_does_not_fit_is_a_row(monkeypatch, tmp_path):
    def prepare(job: Job) -> Prepared:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")

    status, reason, footer = measured(monkeypatch, tmp_path, prepare)
    assert (status, reason) == ("out_of_memory", "CUDA out of memory. Tried to allocate 20 GiB.")
    assert footer.observed["training"]["step_multiply_adds"] == 3


def test_other_weights_than_the_other_frameworks_have_are_refused(monkeypatch, tmp_path):
    status, reason, _ = measured(monkeypatch, tmp_path)
    assert status == "refused"
    assert "weights" in reason


def test_a_loss_that_is_not_finite_is_refused(monkeypatch, tmp_path):
    eager = load_frameworks()["eager"]

    def prepare(job: Job) -> Prepared:
        return replace(eager.prepare(job), weights_sha256="0" * 64, finite=lambda: False)

    assert measured(monkeypatch, tmp_path, prepare)[:2] == ("refused", "a loss or an answer is not finite")


def test_a_batch_for_which_the_pool_is_too_small_is_unsupported(monkeypatch, tmp_path):
    status, reason, _ = measured(monkeypatch, tmp_path, model="cyclegan", batch_size=51)
    assert (status, reason) == ("unsupported", "CycleGAN is defined for batches of up to 50 samples.")


def test_an_unexpected_error_is_not_hidden(monkeypatch, tmp_path):
    def prepare(job: Job) -> Prepared:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measured(monkeypatch, tmp_path, prepare)


# The process of a cell


def interpreter(folder: Path, script: str) -> str:
    """What stands for a Python: it reads its request and does this."""
    file = folder / "python"
    file.write_text(f"#!/bin/sh\nread request\n{script}\n", encoding="utf-8")
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(
    ("script", "error", "sentence"),
    [
        ("kill -9 $$", DeepGapError, "was killed"),
        ("""printf '{"failed": "No such card."}'""", DeepGapError, "No such card."),
        ("""printf '{"crashed": "KeyError: x"}'""", RuntimeError, "failed: KeyError: x"),
    ],
)
def test_how_a_process_ends_is_told(tmp_path, script, error, sentence):
    with pytest.raises(error, match=sentence):
        process.measure_in(interpreter(tmp_path, script), {})


def test_a_process_that_is_well_returns(tmp_path):
    process.measure_in(interpreter(tmp_path, "printf '{}'"), {})


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("runtime", ["compile", "compilegraph"])
@pytest.mark.parametrize("precision", ["tf32", "mixed_bf16"])
def test_compiled_steps_on_a_gpu_are_eagers(runtime, precision):
    losses = {}
    for name in ("eager", runtime):
        framework = load_frameworks()[name]
        recipe = synthetic_training_cell(mode=f"{name}-{precision}", image_size=32, batch_size=8).recipe
        workload = replace(study().workloads["conv6"], dropout=0.0)
        job = Job(workload, recipe | {"options": {}, "layout": "nhwc"}, on_gpu=True, threads=1)
        with framework.around(job):
            prepared = framework.prepare(job)
            # A capture makes steps of its own, so the losses are compared by where they end.
            for step in range(60):
                prepared.call(step % 2)
            losses[name] = prepared.loss()
    assert losses[runtime] < 1.0 and losses["eager"] < 1.0
