"""What the PyTorch runtimes share: networks with seeded weights, the step in its parts, and its operations."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from deepgap.cells.cell_file import FORWARD, GRADIENTS
from deepgap.measure.arms.timer import INPUT_BUFFERS, CudaTimer, HostTimer, TimedCall
from deepgap.measure.precision import MEMORY_FORMATS, set_precision, synchronise, work_stream
from deepgap.training.frameworks import Job, Prepared
from deepgap.training.weights import Shapes, Weights, draw_weights, hash_weights
from deepgap.training.workloads import Arrays, Workload

if TYPE_CHECKING:
    import torch

Run: TypeAlias = "Callable[[Arrays], torch.Tensor]"
"""A call of the phase, or a part of it, on the arrays of a batch."""
Wrap: TypeAlias = "Callable[[torch.nn.Module], torch.nn.Module]"

PRECISIONS = frozenset({"fp32", "tf32", "mixed_fp16", "mixed_bf16"})
NARROW = {"mixed_fp16": "float16", "mixed_bf16": "bfloat16"}


class TorchOps:
    """`workloads.Ops` in PyTorch."""

    def cross_entropy(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, labels)

    def mean_square(self, values: torch.Tensor, target: float) -> torch.Tensor:
        return (values.float() - target).square().mean()

    def mean_absolute(self, values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (values.float() - targets).abs().mean()

    def detach(self, values: torch.Tensor) -> torch.Tensor:
        return values.detach().float()

    def row(self, table: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
        return table.index_select(0, number.reshape(1))[0]

    def exchange(
        self, pool: torch.Tensor, slots: torch.Tensor, swaps: torch.Tensor, images: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        stored, swapped = pool.index_select(0, slots), swaps.view(-1, 1, 1, 1) > 0
        pool.index_copy_(0, slots, stored.where(~swapped, images))
        return pool, images.where(~swapped, stored)


@dataclass
class Trainer:
    """A workload's networks and optimisers on a device, and the parts of its step.

    networks: as they are called; modules: those that hold the weights. scalers: of the losses of FP16, which PyTorch
    adapts (`torch.amp.GradScaler`); empty for all other precisions.
    """

    job: Job
    modules: Mapping[str, torch.nn.Module]
    networks: Mapping[str, Callable[..., Any]]
    optimizers: Sequence[torch.optim.Optimizer]
    parameters: Sequence[Sequence[torch.Tensor]]
    batches: Sequence[Arrays]
    carry: Arrays
    scalers: Sequence[torch.amp.GradScaler] = ()
    ops: TorchOps = field(default_factory=TorchOps)

    def autocast(self) -> AbstractContextManager[Any]:
        import torch

        narrow = NARROW.get(self.job.recipe["precision"])
        if narrow is None:
            return nullcontext()
        return torch.autocast("cuda" if self.job.on_gpu else "cpu", dtype=getattr(torch, narrow))

    def infer(self, batch: Arrays) -> torch.Tensor:
        """The answers of the network that serves, to the first images of a batch."""
        with self.autocast():
            images = next(iter(batch.values()))
            answers: torch.Tensor = self.networks[self.job.workload.serves](images)
        return answers

    def forward(self, batch: Arrays) -> torch.Tensor:
        """All losses, with what their gradients need."""
        return self._run(batch, backward=False, update=False)

    def gradients(self, batch: Arrays) -> torch.Tensor:
        """All losses and their gradients."""
        return self._run(batch, backward=True, update=False)

    def step(self, batch: Arrays) -> torch.Tensor:
        """A whole step; returns the sum of its losses before it."""
        return self._run(batch, backward=True, update=True)

    def _run(self, batch: Arrays, backward: bool, update: bool) -> torch.Tensor:
        import torch

        carry, losses = self.carry, []
        for number, group in enumerate(self.job.workload.groups):
            self._learn(number)
            with self.autocast():
                loss, carry = group.loss(self.networks, batch, carry, self.ops)
            losses.append(loss.detach())
            if backward:
                self._differentiate(loss, number, update)
        self._keep(carry)
        return torch.stack(losses).sum()

    def _learn(self, number: int) -> None:
        """Let the networks of one group learn and no other: what a discriminator would learn of a generator's loss is
        not computed, whether the backward pass is compiled or not."""
        if len(self.parameters) > 1:
            for other, parameters in enumerate(self.parameters):
                for parameter in parameters:
                    parameter.requires_grad_(other == number)

    def _differentiate(self, loss: torch.Tensor, number: int, update: bool) -> None:
        optimizer, scaler = self.optimizers[number], self.scalers[number] if self.scalers else None
        optimizer.zero_grad(set_to_none=True)
        (loss if scaler is None else scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
        if not update:
            return
        if scaler is None:
            optimizer.step()
        else:
            # Fused Adam takes the scale and skips a step on the device: nothing is waited for.
            scaler.step(optimizer)
            scaler.update()

    def _keep(self, carry: Arrays) -> None:
        """Hand on to the next step in the same memory, which a CUDA graph knows."""
        import torch

        with torch.no_grad():
            for name, values in carry.items():
                if values is not self.carry[name]:
                    self.carry[name].copy_(values)


def read_shapes(modules: Mapping[str, torch.nn.Module]) -> Shapes:
    """The shapes of all trainable weights, by `network/layer.weight`."""
    return {
        f"{network}/{name}": tuple(parameter.shape)
        for network, module in modules.items()
        for name, parameter in module.named_parameters()
    }


def load_weights(modules: Mapping[str, torch.nn.Module], weights: Weights) -> None:
    """Copy weights into modules."""
    import torch

    with torch.no_grad():
        for network, module in modules.items():
            for name, parameter in module.named_parameters():
                parameter.copy_(torch.from_numpy(weights[f"{network}/{name}"]))


def make_trainer(job: Job, wrap: Wrap = lambda module: module, device: str | None = None) -> tuple[Trainer, str]:
    """A trainer with seeded weights and inputs on the device, and the hash of the weights.

    Args:
        wrap: makes of a network what is called, such as a compiled one.
        device: PyTorch's name of another device than the job's, such as `meta`, which computes nothing.
    """
    import torch

    recipe, workload = job.recipe, job.workload
    device = device or ("cuda" if job.on_gpu else "cpu")
    set_precision("tf32" if recipe["precision"] == "tf32" else "fp32")
    torch.manual_seed(0)
    modules = workload.pytorch(workload.dropout if job.trains else 0.0)
    weights = draw_weights(read_shapes(modules), recipe["weights"]["seed"])
    load_weights(modules, weights)
    layout = getattr(torch, MEMORY_FORMATS[recipe["layout"]])
    for module in modules.values():
        module.train(job.trains).to(device).to(memory_format=layout)
        module.requires_grad_(job.trains)

    def on_device(values: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(values)).to(device)
        return tensor.contiguous(memory_format=layout) if tensor.ndim == 4 else tensor

    size, count = recipe["image_size"], recipe["batch_size"]
    batches = [
        {name: on_device(values) for name, values in workload.batch(count, size, number).items()}
        for number in range(INPUT_BUFFERS)
    ]
    carry = {name: on_device(values) for name, values in workload.carry(count, size).items()} if job.trains else {}
    networks = {name: wrap(module) for name, module in modules.items()}
    parameters = [[p for name in group.networks for p in modules[name].parameters()] for group in workload.groups]
    optimizers = [make_optimizer(workload, of_group) for of_group in parameters] if job.trains else []
    scaled = recipe["precision"] == "mixed_fp16"
    scalers = [torch.amp.GradScaler(device) for _ in optimizers] if scaled else []
    trainer = Trainer(job, modules, networks, optimizers, parameters, batches, carry, scalers)
    return trainer, hash_weights(weights)


def make_optimizer(workload: Workload, parameters: Sequence[torch.Tensor]) -> torch.optim.Optimizer:
    """Adam as one kernel for all weights, whose step count lies on the device, as a CUDA graph asks for."""
    import torch

    adam = workload.optimizer
    return torch.optim.Adam(
        parameters,
        lr=adam.learning_rate,
        betas=(adam.beta1, adam.beta2),
        eps=adam.epsilon,
        fused=True,
        capturable=parameters[0].is_cuda,
    )


def prepare_trainer(
    job: Job, wrap: Wrap = lambda module: module, replay: Callable[[Run, Sequence[Arrays]], TimedCall] | None = None
) -> Prepared:
    """What the PyTorch runtimes time.

    Args:
        replay: makes of a run on each batch what is called, such as the replay of a CUDA graph.
    """
    trainer, weights_sha256 = make_trainer(job, wrap)
    last: list[torch.Tensor] = []

    def timed(run: Run) -> TimedCall:
        call = replay(run, trainer.batches) if replay else lambda index: run(trainer.batches[index])

        def keeping(index: int) -> object:
            last[:] = [call(index)]  # type: ignore[list-item]
            return last[0]

        return keeping

    parts = {FORWARD: trainer.forward, GRADIENTS: trainer.gradients} if job.trains else {}
    return Prepared(
        timer=CudaTimer() if job.on_gpu else HostTimer(),
        call=timed(trainer.step if job.trains else trainer.infer),
        parts={arm: lambda run=run: timed(run) for arm, run in parts.items()},  # type: ignore[misc]
        loss=lambda: float(last[0]) if job.trains else None,
        finite=lambda: bool(last[0].isfinite().all()),
        wait=lambda: synchronise(job.on_gpu),
        weights_sha256=weights_sha256,
    )


def preload(on_gpu: bool) -> None:
    importlib.import_module("torch")
    importlib.import_module("torchvision")


def start_pytorch(job: Job) -> None:
    """Give PyTorch its threads, and the device its context."""
    import torch

    torch.set_num_threads(job.threads)
    with suppress(RuntimeError):
        # PyTorch takes this number once a process.
        torch.set_num_interop_threads(1)
    if job.on_gpu:
        torch.backends.cudnn.benchmark = True
        torch.zeros(1, device="cuda")
        synchronise(job.on_gpu)


@contextmanager
def around(job: Job) -> Iterator[None]:
    """A stream of the work's own, and no autograd where nothing is trained."""
    import torch

    with work_stream(job.on_gpu), nullcontext() if job.trains else torch.inference_mode():
        yield
