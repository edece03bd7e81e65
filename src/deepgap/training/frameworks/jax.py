"""Keras on JAX: a whole step is one program that XLA compiles, as it is for TensorFlow.

Its arrays are immutable, so a step takes the weights and gives new ones back; XLA reuses their memory (donation).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from deepgap.cells.cell_file import FORWARD, GRADIENTS
from deepgap.measure.arms.timer import INPUT_BUFFERS, QUEUE_MS, HostTimer, Span, TimedCall, Timer
from deepgap.runtimes.packages import first_installed, installed
from deepgap.training.frameworks import Framework, Job, Prepared
from deepgap.training.frameworks.keras import KerasOps, arrange, import_keras, make_networks, make_optimizer
from deepgap.training.workloads import Array, Arrays, Group

REMEDY = "run 'make tensorflow', which brings JAX too, or leave its modes out of config/training.yaml"
MATMUL_PRECISIONS = {"fp32": "highest", "tf32": "tensorfloat32", "mixed_bf16": "default"}
"""How XLA multiplies FP32 numbers, by the precision of the cell."""


class State(NamedTuple):
    """What a step changes. trained, fixed: the values of each network's variables, by its name. optimizers: the
    variables of each group's optimiser."""

    trained: dict[str, list[Array]]
    fixed: dict[str, list[Array]]
    optimizers: list[list[Array]]
    carry: Arrays


@dataclass
class Trainer:
    """A workload's networks and optimisers, and their state on the device."""

    job: Job
    networks: Mapping[str, Any]
    optimizers: Sequence[Any]
    batches: Sequence[Arrays]
    state: State
    ops: KerasOps = field(default_factory=KerasOps)

    def infer(self, state: State, batch: Arrays) -> Array:
        """The answers of the network that serves, to the first images of a batch."""
        name = self.job.workload.serves
        images = next(iter(batch.values()))
        return self.networks[name].stateless_call(state.trained[name], state.fixed[name], images, training=False)[0]

    def forward(self, state: State, batch: Arrays) -> Array:
        """All losses."""
        return self._run(state, batch, backward=False, update=False)[0]

    def gradients(self, state: State, batch: Arrays) -> tuple[Array, Any]:
        """All losses and their gradients, which XLA would not compute if nobody had them."""
        loss, _, gradients = self._run(state, batch, backward=True, update=False)
        return loss, gradients

    def step(self, state: State, batch: Arrays) -> tuple[Array, State]:
        """A whole step: the losses' sum before it, and the state behind it."""
        loss, state, _ = self._run(state, batch, backward=True, update=True)
        return loss, state

    def _run(self, state: State, batch: Arrays, backward: bool, update: bool) -> tuple[Array, State, Any]:
        import jax

        trained, fixed, carry = dict(state.trained), dict(state.fixed), state.carry
        losses, kept, updated = [], [], []
        for number, group in enumerate(self.job.workload.groups):
            own = {name: trained[name] for name in group.networks}
            if not backward:
                loss, (carry, fixed) = self._loss(own, group, trained, fixed, carry, batch)
                losses.append(loss)
                continue
            (loss, (carry, fixed)), gradients = jax.value_and_grad(self._loss, has_aux=True)(
                own, group, trained, fixed, carry, batch
            )
            losses.append(loss)
            if update:
                flat, tree = jax.tree.flatten(own)
                values, variables = self.optimizers[number].stateless_apply(
                    state.optimizers[number], jax.tree.leaves(gradients), flat
                )
                trained |= jax.tree.unflatten(tree, values)
                updated.append(variables)
            else:
                kept.append(gradients)
        return sum(losses), State(trained, fixed, updated, dict(carry)), kept

    def _loss(
        self,
        own: dict[str, list[Array]],
        group: Group,
        trained: dict[str, list[Array]],
        fixed: dict[str, list[Array]],
        carry: Arrays,
        batch: Arrays,
    ) -> tuple[Array, tuple[Arrays, dict[str, list[Array]]]]:
        """A group's loss as a function of its own weights, with what it changes beside them."""
        now = dict(fixed)
        networks = {name: self._call(name, trained | own, now) for name in self.networks}
        loss, after = group.loss(networks, batch, carry, self.ops)
        return loss, (after, now)

    def _call(self, name: str, trained: Mapping[str, Any], fixed: dict[str, Any]) -> Callable[[Array], Array]:
        """A network that computes with these values, and leaves what it changes of the others in `fixed`."""

        def call(images: Array) -> Array:
            answers, fixed[name] = self.networks[name].stateless_call(
                trained[name], fixed[name], images, training=True
            )
            return answers

        return call


class WaitTimer(Timer):
    """For a framework that shows no events: host times alone, and a call's own result to wait for."""

    def __init__(self, wait: Callable[[Any], object]) -> None:
        super().__init__()
        self._wait = wait

    def each(self, call: TimedCall, count: int, before: Callable[[], object] | None = None) -> list[Span]:
        spans = []
        for i in range(count):
            if before is not None:
                before()
            began = self.clock()
            result = call(i % INPUT_BUFFERS)
            enqueued = self.clock()
            self._wait(result)
            spans.append(self._span(1, began, enqueued))
        return spans

    def queue(self, call: TimedCall, count: int) -> Span:
        began = self.clock()
        result: object = None
        for i in range(count):
            result = call(i % INPUT_BUFFERS)
        enqueued = self.clock()
        self._wait(result)
        return self._span(count, began, enqueued)

    def sustain(self, call: TimedCall, seconds: float, call_ms: float) -> Span:
        depth, waiting = max(2, round(QUEUE_MS / call_ms)), deque[Any]()
        count, began = 0, self.clock()
        until = began + round(seconds * 1e9)
        while self.clock() < until:
            if len(waiting) == depth:
                self._wait(waiting.popleft())
            waiting.append(call(count % INPUT_BUFFERS))
            count += 1
        enqueued = self.clock()
        self._wait(waiting[-1])
        return self._span(count, began, enqueued)

    def _span(self, calls: int, began: int, enqueued: int) -> Span:
        done = self.clock()
        return Span(calls, began, enqueued, done, (done - began) / 1e6)


def make_trainer(job: Job) -> tuple[Trainer, str]:
    """A trainer with seeded weights on the device, and the hash of the weights."""
    import jax

    jax.config.update("jax_default_matmul_precision", MATMUL_PRECISIONS[job.recipe["precision"]])
    networks, weights_sha256 = make_networks(job)
    workload, size, count = job.workload, job.recipe["image_size"], job.recipe["batch_size"]

    def on_device(arrays: Mapping[str, np.ndarray]) -> Arrays:
        return {name: jax.device_put(arrange(values)) for name, values in arrays.items()}

    optimizers = []
    for group in workload.groups if job.trains else ():
        optimizers.append(make_optimizer(workload))
        # The order of a dictionary's leaves in JAX: by its sorted names.
        names = sorted(group.networks)
        optimizers[-1].build([v for name in names for v in networks[name].trainable_variables])
    state = State(
        {name: [v.value for v in network.trainable_variables] for name, network in networks.items()},
        {name: [v.value for v in network.non_trainable_variables] for name, network in networks.items()},
        [[v.value for v in optimizer.variables] for optimizer in optimizers],
        on_device(workload.carry(count, size)) if job.trains else {},
    )
    batches = [on_device(workload.batch(count, size, number)) for number in range(INPUT_BUFFERS)]
    return Trainer(job, networks, optimizers, batches, state), weights_sha256


def prepare(job: Job) -> Prepared:
    import jax

    trainer, weights_sha256 = make_trainer(job)
    last: list[Array] = []

    def call_of(run: Callable[..., Any], donate: bool = False) -> TimedCall:
        program = jax.jit(run, donate_argnums=(0,) if donate else ())

        def call(index: int) -> object:
            result = program(trainer.state, trainer.batches[index])
            if donate:
                result, trainer.state = result
            # Of gradients the loss is enough to wait for: they come from one program.
            last[:] = [result[0] if isinstance(result, tuple) else result]
            # On a processor a call returns when it is done, as it does in the other frameworks.
            return last[0] if job.on_gpu else last[0].block_until_ready()

        return call

    parts = {FORWARD: trainer.forward, GRADIENTS: trainer.gradients} if job.trains else {}
    return Prepared(
        timer=WaitTimer(jax.block_until_ready) if job.on_gpu else HostTimer(),
        call=call_of(trainer.step, donate=True) if job.trains else call_of(trainer.infer),
        parts={arm: lambda run=run: call_of(run) for arm, run in parts.items()},  # type: ignore[misc]
        loss=lambda: float(last[0]) if job.trains else None,
        finite=lambda: bool(np.isfinite(np.asarray(last[0], dtype=np.float32)).all()),
        wait=lambda: jax.block_until_ready((last, trainer.state)),
        weights_sha256=weights_sha256,
        memory=device_peaks if job.on_gpu else dict,
    )


def device_peaks() -> dict[str, int | None]:
    """The allocator's peaks, which XLA keeps."""
    import jax

    known = jax.local_devices()[0].memory_stats() or {}
    return {
        "allocated_peak_bytes": known.get("peak_bytes_in_use"),
        "reserved_peak_bytes": known.get("peak_pool_bytes"),
    }


def preload(on_gpu: bool) -> None:
    """Memory of the device is taken as it is needed."""
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    os.environ["JAX_PLATFORMS"] = "cuda" if on_gpu else "cpu"
    import_keras("jax")


def start(job: Job) -> None:
    """Open the device. On a processor XLA has a thread for each core that the process may use."""
    if not job.on_gpu:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.threads])
    import jax

    jax.block_until_ready(jax.device_put(np.zeros(1)))


def libraries() -> dict[str, str]:
    """The versions of Keras, JAX, XLA and its CUDA plug-in.

    Raises:
        MissingLibraryError: one is not installed.
    """
    return installed("jax", "keras", "jax", "jaxlib", remedy=REMEDY) | first_installed(
        ("jax-cuda13-plugin", "jax-cuda12-plugin")
    )


FRAMEWORK = Framework(
    framework="keras-jax",
    label="Keras on JAX",
    precisions=frozenset(MATMUL_PRECISIONS),
    devices=frozenset({"cpu", "cuda"}),
    prepare=prepare,
    libraries=libraries,
    preload=preload,
    start=start,
    environment="tensorflow",
    channels_last=frozenset(MATMUL_PRECISIONS),
)
