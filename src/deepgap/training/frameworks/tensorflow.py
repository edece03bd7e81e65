"""Keras on TensorFlow: a whole step is one graph (tf.function)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from deepgap.cells.cell_file import FORWARD, GRADIENTS
from deepgap.measure.arms.timer import INPUT_BUFFERS, HostTimer, TimedCall
from deepgap.runtimes.packages import installed
from deepgap.training.frameworks import Framework, Job, Prepared
from deepgap.training.frameworks.keras import KerasOps, arrange, import_keras, make_networks, make_optimizer
from deepgap.training.workloads import Arrays

REMEDY = "run 'make tensorflow', or leave its modes out of config/training.yaml"


class Done(NamedTuple):
    """What a call gives back: its losses' sum before the update, or its answers; what the next step begins with; and
    the gradients where nothing else uses them, since a graph leaves out what nobody uses."""

    value: Any
    carry: Arrays
    gradients: Sequence[Any] = ()


@dataclass
class Trainer:
    """A workload's networks and optimisers, and what a step hands on to the next one."""

    job: Job
    networks: Mapping[str, Any]
    optimizers: Sequence[Any]
    batches: Sequence[Arrays]
    carry: Arrays
    ops: KerasOps = field(default_factory=KerasOps)

    def infer(self, batch: Arrays, carry: Arrays) -> Done:
        """The answers of the network that serves, to the first images of a batch."""
        images = next(iter(batch.values()))
        return Done(self.networks[self.job.workload.serves](images, training=False), carry)

    def forward(self, batch: Arrays, carry: Arrays) -> Done:
        """All losses."""
        return self._run(batch, carry, backward=False, update=False)

    def gradients(self, batch: Arrays, carry: Arrays) -> Done:
        """All losses and their gradients."""
        return self._run(batch, carry, backward=True, update=False)

    def step(self, batch: Arrays, carry: Arrays) -> Done:
        """A whole step."""
        return self._run(batch, carry, backward=True, update=True)

    def _run(self, batch: Arrays, carry: Arrays, backward: bool, update: bool) -> Done:
        import tensorflow as tf

        networks = {name: _training(network) for name, network in self.networks.items()}
        losses, kept = [], []
        for group, optimizer in zip(self.job.workload.groups, self.optimizers, strict=True):
            if not backward:
                loss, carry = group.loss(networks, batch, carry, self.ops)
                losses.append(loss)
                continue
            with tf.GradientTape() as tape:
                loss, carry = group.loss(networks, batch, carry, self.ops)
            losses.append(loss)
            variables = [v for name in group.networks for v in self.networks[name].trainable_variables]
            gradients = tape.gradient(loss, [variable.value for variable in variables])
            if update:
                optimizer.apply(gradients, variables)
            else:
                kept += gradients
        return Done(tf.add_n(losses), dict(carry), kept)

    def timed(self, run: Callable[[Arrays, Arrays], Done], xla: bool, last: list[Any]) -> TimedCall:
        """The run as a graph; a call ends when its work is done, and `last` holds its value."""
        import tensorflow as tf

        graph = tf.function(run, jit_compile=xla, autograph=False)

        def call(index: int) -> object:
            done = graph(self.batches[index], self.carry)
            self.carry, last[:] = done.carry, [done.value]
            return done.value

        return call


def _training(network: Any) -> Callable[[Any], Any]:
    return lambda images: network(images, training=True)


def make_trainer(job: Job) -> tuple[Trainer, str]:
    """A trainer with seeded weights, and the hash of the weights."""
    import tensorflow as tf

    networks, weights_sha256 = make_networks(job)
    workload, size, count = job.workload, job.recipe["image_size"], job.recipe["batch_size"]

    def constants(arrays: Mapping[str, np.ndarray]) -> Arrays:
        return {name: tf.constant(arrange(values)) for name, values in arrays.items()}

    optimizers = []
    for group in workload.groups if job.trains else ():
        optimizers.append(make_optimizer(workload))
        optimizers[-1].build([v for name in group.networks for v in networks[name].trainable_variables])
    batches = [constants(workload.batch(count, size, number)) for number in range(INPUT_BUFFERS)]
    carry = constants(workload.carry(count, size)) if job.trains else {}
    return Trainer(job, networks, optimizers, batches, carry), weights_sha256


def prepare(job: Job, xla: bool = False) -> Prepared:
    trainer, weights_sha256 = make_trainer(job)
    last: list[Any] = []
    parts = {FORWARD: trainer.forward, GRADIENTS: trainer.gradients} if job.trains else {}
    return Prepared(
        timer=HostTimer(),
        call=trainer.timed(trainer.step if job.trains else trainer.infer, xla, last),
        parts={arm: lambda run=run: trainer.timed(run, xla, last) for arm, run in parts.items()},  # type: ignore[misc]
        loss=lambda: float(last[0]) if job.trains else None,
        finite=lambda: bool(np.isfinite(np.asarray(last[0], dtype=np.float32)).all()),
        wait=lambda: None,
        weights_sha256=weights_sha256,
    )


def preload(on_gpu: bool) -> None:
    import_keras("tensorflow")


def start(job: Job) -> None:
    """Give TensorFlow its threads."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(job.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def libraries() -> dict[str, str]:
    """The versions of Keras and TensorFlow, whichever of its packages it came in.

    Raises:
        MissingLibraryError: one is not installed.
    """
    keras = installed("tensorflow", "keras", remedy=REMEDY)
    return keras | installed("tensorflow", "tensorflow_cpu", remedy=REMEDY)


FRAMEWORK = Framework(
    framework="keras-tensorflow",
    label="Keras on TensorFlow",
    precisions=frozenset({"fp32"}),
    devices=frozenset({"cpu"}),
    prepare=prepare,
    libraries=libraries,
    preload=preload,
    start=start,
    environment="tensorflow",
    channels_last=frozenset({"fp32"}),
)
