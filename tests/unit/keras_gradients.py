"""Outputs and gradients of a workload in Keras, computed in the interpreter that has it.

Usage: python -m tests.unit.keras_gradients RUNTIME WORKLOAD IMAGE_SIZE BATCH_SIZE OUTPUT.npz
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np

from deepgap.training.frameworks import Job, load_frameworks
from deepgap.training.weights import Shapes, Weights, draw_weights
from deepgap.training.workloads import load_workloads


def uneven_weights(shapes: Shapes, seed: int) -> Weights:
    """Seeded weights of which no bias is zero and no scale is one, so that a mistaken one would show."""
    weights, noise = draw_weights(shapes, seed), np.random.default_rng(1)
    for name in sorted(weights):
        if weights[name].ndim == 1:
            weights[name] = weights[name] + 0.1 * noise.standard_normal(shapes[name]).astype(np.float32)
    return weights


def job_of(model: str, image_size: int, batch_size: int, layout: str, phase: str = "train", **changes: Any) -> Job:
    """A workload without dropout on this machine's processor."""
    recipe = {"phase": phase, "precision": "fp32", "layout": layout, "image_size": image_size}
    recipe |= {"batch_size": batch_size, "weights": {"seed": 0}, "options": {}, **changes}
    return Job(replace(load_workloads()[model], dropout=0.0), recipe, on_gpu=False, threads=2)


def named(trainer: Any, gradients: Any) -> Weights:
    """Gradients by the names of their weights, in PyTorch's shapes."""
    from deepgap.training.frameworks.keras import list_weights, to_pytorch

    names = {id(variable): name for name, _, variable in list_weights(trainer.networks)}
    variables = [
        variable
        for group in trainer.job.workload.groups
        for network in group.networks
        for variable in trainer.networks[network].trainable_variables
    ]
    return {
        names[id(variable)]: to_pytorch(np.asarray(gradient))
        for variable, gradient in zip(variables, gradients, strict=True)
    }


def main(runtime: str, model: str, image_size: str, batch_size: str, output: str) -> None:
    from deepgap.training.frameworks import keras

    keras.draw_weights = uneven_weights  # type: ignore[attr-defined]
    framework, job = load_frameworks()[runtime], job_of(model, int(image_size), int(batch_size), "nhwc")
    framework.preload(False)
    framework.start(job)
    module = sys.modules[framework.prepare.__module__]
    trainer, _ = module.make_trainer(job)
    batch = trainer.batches[0]
    if runtime == "jax":
        import jax

        outputs = jax.jit(trainer.infer)(trainer.state, batch)
        loss, by_group = jax.jit(trainer.gradients)(trainer.state, batch)
        networks = [(group, name) for group in job.workload.groups for name in group.networks]
        of_group = dict(zip(map(id, job.workload.groups), by_group, strict=True))
        gradients = [value for group, name in networks for value in of_group[id(group)][name]]
    else:
        outputs = trainer.infer(batch, trainer.carry).value
        loss, _, gradients = trainer.gradients(batch, trainer.carry)
    outputs = np.asarray(outputs)
    outputs = outputs.transpose(0, 3, 1, 2) if outputs.ndim == 4 else outputs
    np.savez(output, outputs=outputs, loss=np.asarray(loss), **named(trainer, gradients))


if __name__ == "__main__":
    main(*sys.argv[1:])
