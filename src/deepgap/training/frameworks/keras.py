"""What the Keras runtimes share: networks with seeded weights, and the operations of the losses."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from deepgap.training.frameworks import Job
from deepgap.training.weights import Shapes, Weights, draw_weights, hash_weights
from deepgap.training.workloads import Array, Workload

POLICIES = {"mixed_bf16": "mixed_bfloat16"}
"""Keras's words for precisions; all others are float32."""


class KerasOps:
    """`workloads.Ops` in Keras's operations, on whatever it runs."""

    def cross_entropy(self, logits: Array, labels: Array) -> Array:
        from keras import ops

        each = ops.sparse_categorical_crossentropy(labels, ops.cast(logits, "float32"), from_logits=True)
        return ops.mean(each)

    def mean_square(self, values: Array, target: float) -> Array:
        from keras import ops

        return ops.mean(ops.square(ops.cast(values, "float32") - target))

    def mean_absolute(self, values: Array, targets: Array) -> Array:
        from keras import ops

        return ops.mean(ops.abs(ops.cast(values, "float32") - targets))

    def detach(self, values: Array) -> Array:
        from keras import ops

        return ops.cast(ops.stop_gradient(values), "float32")

    def row(self, table: Array, number: Array) -> Array:
        from keras import ops

        return ops.take(table, number, axis=0)

    def exchange(self, pool: Array, slots: Array, swaps: Array, images: Array) -> tuple[Array, Array]:
        from keras import ops

        stored, swapped = ops.take(pool, slots, axis=0), ops.reshape(swaps, (-1, 1, 1, 1)) > 0
        put = ops.scatter_update(pool, ops.expand_dims(slots, -1), ops.where(swapped, images, stored))
        return put, ops.where(swapped, stored, images)


def import_keras(backend: str) -> None:
    """Import Keras on a backend."""
    os.environ["KERAS_BACKEND"] = backend
    importlib.import_module("keras")


def make_networks(job: Job) -> tuple[Mapping[str, Any], str]:
    """The workload's networks with seeded weights, and the hash of the weights."""
    import keras

    recipe, workload = job.recipe, job.workload
    keras.mixed_precision.set_global_policy(POLICIES.get(recipe["precision"], "float32"))
    networks = workload.keras(recipe["image_size"], workload.dropout if job.trains else 0.0)
    weights = draw_weights(read_shapes(networks), recipe["weights"]["seed"])
    load_weights(networks, weights)
    return networks, hash_weights(weights)


def make_optimizer(workload: Workload) -> Any:
    import keras

    adam = workload.optimizer
    return keras.optimizers.Adam(adam.learning_rate, adam.beta1, adam.beta2, adam.epsilon)


def arrange(values: np.ndarray) -> np.ndarray:
    """Images of PyTorch's layout in Keras's; other arrays as they are."""
    return np.ascontiguousarray(values.transpose(0, 2, 3, 1)) if values.ndim == 4 else values


def read_shapes(networks: Mapping[str, Any]) -> Shapes:
    """The shapes of all trainable weights as PyTorch has them, by `network/layer.weight`."""
    return {name: to_pytorch(values).shape for name, values, _ in list_weights(networks)}


def load_weights(networks: Mapping[str, Any], weights: Weights) -> None:
    """Copy weights of PyTorch's shapes into networks."""
    for name, _, variable in list_weights(networks):
        variable.assign(from_pytorch(weights[name]))


def list_weights(networks: Mapping[str, Any]) -> list[tuple[str, np.ndarray, Any]]:
    """The name, an array of the shape and the variable of each trainable weight."""
    words = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}
    found = []
    for network, model in networks.items():
        for layer in model.layers:
            for variable in layer.trainable_variables:
                # No memory is taken by an array of which all elements are one.
                shaped = np.broadcast_to(np.float32(0), tuple(variable.shape))
                found.append((f"{network}/{layer.name}.{words[variable.name]}", shaped, variable))
    return found


def to_pytorch(values: np.ndarray) -> np.ndarray:
    """A weight of a layer as PyTorch has it: Keras's (height, width, in, out), and (in, out) of a dense one."""
    if values.ndim == 4:
        # A transposed convolution has its `in` and `out` the other way round in both.
        return values.transpose(3, 2, 0, 1)
    return values.transpose() if values.ndim == 2 else values


def from_pytorch(values: np.ndarray) -> np.ndarray:
    """The other way round."""
    if values.ndim == 4:
        return values.transpose(2, 3, 1, 0)
    return values.transpose() if values.ndim == 2 else values
