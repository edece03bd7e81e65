"""Count the arithmetic of a workload with PyTorch, without a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from deepgap.cells.facts import OPERATIONS_PER_MULTIPLY_ADD
from deepgap.training.facts import Arithmetic, WorkloadFacts
from deepgap.training.frameworks import Job
from deepgap.training.frameworks.pytorch import make_trainer
from deepgap.training.workloads import load_workloads

if TYPE_CHECKING:
    import torch

COUNTED_BATCH = 2
"""Samples of the pass that is counted: batch normalisation cannot train on one value a channel."""


def count_facts(model: str, image_size: int, seed: int) -> WorkloadFacts:
    """Count on PyTorch's meta device, which computes nothing (`torch.utils.flop_counter.FlopCounterMode`): the
    convolutions and matrix products, forward and backward; element-wise work and the optimiser do not count."""
    train, parameters, weights_sha256 = _count_phase(model, image_size, seed, "train")
    inference, _, _ = _count_phase(model, image_size, seed, "inference")
    return WorkloadFacts(parameters, weights_sha256, train, inference)


def _count_phase(model: str, image_size: int, seed: int, phase: str) -> tuple[Arithmetic, int, str]:
    recipe = {"phase": phase, "precision": "fp32", "layout": "nchw", "image_size": image_size}
    recipe |= {"batch_size": COUNTED_BATCH, "weights": {"seed": seed}}
    job = Job(load_workloads()[model], recipe, on_gpu=False, threads=1)
    trainer, weights_sha256 = make_trainer(job, device="meta")
    batch = trainer.batches[0]
    forward = _count(lambda: trainer.forward(batch) if job.trains else trainer.infer(batch))
    step = _count(lambda: trainer.gradients(batch)) if job.trains else forward
    parameters = sum(p.numel() for module in trainer.modules.values() for p in module.parameters())
    return Arithmetic(forward, step), parameters, weights_sha256


def _count(run: Callable[[], torch.Tensor]) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops() / OPERATIONS_PER_MULTIPLY_ADD / COUNTED_BATCH)
