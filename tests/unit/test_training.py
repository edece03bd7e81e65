"""The second study's workloads and frameworks: the same function in each, and steps that learn."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from deepgap.errors import MissingLibraryError
from deepgap.training.count import count_facts
from deepgap.training.facts import read_facts, write_facts
from deepgap.training.frameworks import load_frameworks, pytorch
from deepgap.training.images import CLASSES, draw_images, labels_of
from deepgap.training.process import find_interpreter, libraries_in
from deepgap.training.weights import hash_weights
from deepgap.training.workloads import cyclegan, load_workloads
from tests.conftest import ROOT
from tests.unit.keras_gradients import job_of, uneven_weights

KERAS = [name for name, framework in load_frameworks().items() if framework.environment]


@pytest.fixture
def small_cyclegan(monkeypatch):
    """CycleGAN with few filters and one block: its steps take milliseconds."""
    monkeypatch.setattr(cyclegan, "FILTERS", 4)
    monkeypatch.setattr(cyclegan, "BLOCKS", 1)


@pytest.mark.parametrize("model", load_workloads())
def test_a_workload_has_the_parameters_of_its_paper(model):
    workload = load_workloads()[model]
    with torch.device("meta"):
        networks = workload.pytorch(workload.dropout)
    assert sum(p.numel() for network in networks.values() for p in network.parameters()) == workload.parameters
    assert set(networks) == {name for group in workload.groups for name in group.networks}


def test_images_tell_their_class_and_have_about_unit_variance():
    labels = labels_of(40, seed=3)
    images = draw_images(labels, 32, seed=3)
    assert np.bincount(labels, minlength=CLASSES).tolist() == [4] * CLASSES
    assert images.dtype == np.float32 and images.shape == (40, 3, 32, 32)
    assert 0.3 < images.var() < 2
    assert np.array_equal(images, draw_images(labels, 32, seed=3))
    assert not np.array_equal(images, draw_images(labels, 32, seed=4))


def test_the_arithmetic_of_a_step_is_counted(tmp_path):
    facts = count_facts("conv6", 32, seed=0)
    convolutions = sum(9 * i * o * s for i, o, s in ((3, 64, 1024), (64, 64, 1024), (64, 128, 256), (128, 128, 256)))
    convolutions += 9 * (128 * 256 + 256 * 256) * 64
    linear = 4096 * 256 + 256 * 256 + 256 * 10
    assert facts.parameters == 2_262_602
    assert facts.inference.forward == facts.inference.step == facts.train.forward == convolutions + linear
    # Backward has two products where forward has one, but for the images, whose gradient nobody asks for.
    assert facts.train.step == 3 * (convolutions + linear) - 9 * 3 * 64 * 1024
    write_facts(tmp_path / "facts.json", facts)
    assert read_facts(tmp_path / "facts.json") == facts


def test_the_arithmetic_of_a_cyclegan_has_both_optimisers(small_cyclegan):
    facts = count_facts("cyclegan", 32, seed=0)
    # Six passes of the generators, and of the discriminators two in the first part and four in the second.
    assert facts.train.forward > 6 * facts.inference.forward
    assert 2 * facts.train.forward < facts.train.step < 3 * facts.train.forward


@pytest.mark.parametrize(("model", "batch_size", "share"), [("conv6", 4, 0.7), ("cyclegan", 1, 0.9)])
def test_the_loss_falls_over_fifty_steps(small_cyclegan, model, batch_size, share):
    prepared = load_frameworks()["eager"].prepare(job_of(model, 32, batch_size, "nchw"))
    losses = []
    for step in range(50):
        prepared.call(step % 2)
        losses.append(prepared.loss())
    assert prepared.finite()
    assert np.mean(losses[-10:]) < share * np.mean(losses[:10])


def test_parts_of_a_step_change_no_weight(small_cyclegan):
    trainer, digest = pytorch.make_trainer(job_of("cyclegan", 32, 1, "nchw"))
    before = {name: p.detach().clone() for name, p in trainer.modules["generator_ab"].named_parameters()}
    trainer.forward(trainer.batches[0])
    trainer.gradients(trainer.batches[0])
    after = dict(trainer.modules["generator_ab"].named_parameters())
    assert all(torch.equal(before[name], after[name]) for name in before)
    trainer.step(trainer.batches[0])
    assert not all(torch.equal(before[name], after[name]) for name in before)
    assert len(digest) == 64


@pytest.mark.parametrize("precision", ["mixed_fp16", "mixed_bf16"])
def test_a_mixed_step_learns_in_fp32_weights(small_cyclegan, precision):
    trainer, _ = pytorch.make_trainer(job_of("cyclegan", 32, 1, "nhwc", precision=precision))
    losses = [float(trainer.step(trainer.batches[i % 2])) for i in range(6)]
    assert np.isfinite(losses).all() and losses[-1] != losses[0]
    assert {p.dtype for module in trainer.modules.values() for p in module.parameters()} == {torch.float32}


def test_the_pool_gives_back_what_was_swapped():
    ops = pytorch.TorchOps()
    pool, images = torch.arange(4.0).view(4, 1, 1, 1), torch.tensor([10.0, 20.0]).view(2, 1, 1, 1)
    pool, shown = ops.exchange(pool, torch.tensor([2, 0]), torch.tensor([1.0, 0.0]), images)
    assert pool.flatten().tolist() == [0.0, 1.0, 10.0, 3.0]
    assert shown.flatten().tolist() == [2.0, 20.0]


def test_the_hash_of_weights_is_of_names_and_values():
    weights = {"a": np.ones(3, np.float32), "b": np.zeros(2, np.float32)}
    assert hash_weights(weights) == hash_weights(dict(reversed(weights.items())))
    assert hash_weights(weights) != hash_weights({"a": weights["a"], "c": weights["b"]})


def test_the_compiled_step_is_the_eager_one(small_cyclegan, monkeypatch):
    """With PyTorch's own operators in place of kernels, which take a minute to compile."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    losses = {}
    for name in ("eager", "compile"):
        torch.manual_seed(0)
        prepared = load_frameworks()[name].prepare(job_of("cyclegan", 32, 1, "nchw", options={"mode": "default"}))
        losses[name] = [prepared.call(i % 2) and prepared.loss() for i in range(2)]
    assert losses["compile"] == pytest.approx(losses["eager"], rel=1e-3)


@pytest.mark.parametrize("model", load_workloads())
@pytest.mark.parametrize("runtime", [name for name in KERAS if name != "tensorflow_xla"])
def test_outputs_and_gradients_are_those_of_pytorch(runtime, model, tmp_path, monkeypatch):
    interpreters = {"tensorflow": os.environ["DEEPGAP_TENSORFLOW"]} if "DEEPGAP_TENSORFLOW" in os.environ else {}
    python = find_interpreter(load_frameworks()[runtime], interpreters, ROOT)
    try:
        libraries_in(python, runtime)
    except MissingLibraryError as error:
        pytest.skip(str(error))
    size, batch_size = (32, 1) if model == "cyclegan" else (32, 3)
    monkeypatch.setattr(pytorch, "draw_weights", uneven_weights)
    trainer, _ = pytorch.make_trainer(job_of(model, size, batch_size, "nchw"))
    for module in trainer.modules.values():
        module.eval()
    with torch.inference_mode():
        outputs = trainer.infer(trainer.batches[0]).numpy()
    for module in trainer.modules.values():
        module.train()
    loss = trainer.gradients(trainer.batches[0])
    arguments = [runtime, model, size, batch_size, tmp_path / "keras.npz"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [python, "-m", "tests.unit.keras_gradients", *map(str, arguments)]
    subprocess.run(command, check=True, env=environment, cwd=ROOT)
    keras = np.load(tmp_path / "keras.npz")
    assert float(keras["loss"]) == pytest.approx(float(loss), rel=1e-4)
    assert distance(keras["outputs"], outputs) < 1e-4
    named = {f"{n}/{name}": p for n, module in trainer.modules.items() for name, p in module.named_parameters()}
    gradients = {name: parameter.grad.numpy() for name, parameter in named.items()}
    largest = max(float(np.abs(gradient).max()) for gradient in gradients.values())
    # A bias before a normalisation has no gradient but rounding.
    meant = {name: gradient for name, gradient in gradients.items() if np.abs(gradient).max() > 1e-4 * largest}
    assert len(meant) > len(gradients) / 3
    for name, gradient in meant.items():
        assert distance(keras[name], gradient) < 5e-3, name


def distance(values: np.ndarray, expected: np.ndarray) -> float:
    """The norm of a difference over that of what was expected."""
    assert values.shape == expected.shape
    return float(np.linalg.norm(values - expected) / np.linalg.norm(expected))


def test_a_framework_that_is_not_here_says_how_to_get_it(tmp_path):
    nowhere = str(tmp_path / "python")
    with pytest.raises(MissingLibraryError, match=r"does not run"):
        libraries_in(nowhere, "tensorflow")


def test_an_environment_of_its_own_is_found_by_its_name(tmp_path):
    own = tmp_path / ".venv-tensorflow/bin/python"
    framework = load_frameworks()["tensorflow"]
    assert Path(find_interpreter(framework, {}, tmp_path)).name.startswith("python")
    own.parent.mkdir(parents=True)
    own.touch()
    assert find_interpreter(framework, {}, tmp_path) == str(own)
    assert find_interpreter(framework, {"tensorflow": "elsewhere"}, tmp_path) == "elsewhere"
