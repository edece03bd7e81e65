"""What is trained, one file a workload: its networks, once a framework, and its losses, once for all.

A module of this package is a workload when it defines `WORKLOAD`. All import torch and Keras inside their functions
only. A layer has one name in both frameworks, the path of PyTorch's module, and its weights have PyTorch's shapes
wherever they are told (`deepgap.training.weights`): so the same values can be put into both.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, NamedTuple, Protocol, TypeAlias

Array: TypeAlias = Any
"""A tensor of whatever framework computes."""
Arrays: TypeAlias = Mapping[str, Array]
Networks: TypeAlias = Mapping[str, Callable[[Array], Array]]


class Ops(Protocol):
    """The few operations of which the losses are made, in a framework's own tensors."""

    def cross_entropy(self, logits: Array, labels: Array) -> Array:
        """Mean cross entropy of logits (n, classes) against class numbers (n,)."""

    def mean_square(self, values: Array, target: float) -> Array:
        """Mean squared difference of values from a number."""

    def mean_absolute(self, values: Array, targets: Array) -> Array:
        """Mean absolute difference."""

    def detach(self, values: Array) -> Array:
        """The values without their gradient."""

    def row(self, table: Array, number: Array) -> Array:
        """A row of a table, by a number that lies on the device."""

    def exchange(self, pool: Array, slots: Array, swaps: Array, images: Array) -> tuple[Array, Array]:
        """Put images into slots of a pool where `swaps` is 1; returns the pool, and what each image gets back: the
        one of its slot before, or itself where it was not swapped."""


class Loss(NamedTuple):
    """A loss, and what the step hands on to the next group or the next step."""

    value: Array
    carry: Arrays


@dataclass(frozen=True)
class Group:
    """The networks that one optimiser updates, by one loss: `loss(networks, batch, carry, ops)`."""

    networks: tuple[str, ...]
    loss: Callable[[Networks, Arrays, Arrays, Ops], Loss]


@dataclass(frozen=True)
class Adam:
    """The numbers of Adam (Kingma and Ba, ICLR 2015); epsilon as PyTorch has it."""

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    @property
    def recipe(self) -> dict[str, Any]:
        return {"name": "adam", **asdict(self)}


@dataclass(frozen=True)
class Setup:
    """An image size, in pixels of a side, and a batch size."""

    image_size: int
    batch_size: int


@dataclass(frozen=True)
class Workload:
    """What is trained and how.

    parameters: of all networks, trainable. published: the set-up of arXiv 2603.20920. native_size: of the images of
    its data set. serves: the network of the phase inference.
    pytorch(dropout), keras(image_size, dropout): the networks by name, with weights of whatever values; dropout is
    the share that is dropped, 0 where outputs are to be compared. dropout: of the workload as it is trained.
    batch: the arrays of a batch of (batch_size, image_size, number of the batch) as NumPy arrays, images in NCHW.
    carry: what the first step starts with, likewise, of (batch_size, image_size).
    most: the largest batch size that is defined; null for any. smallest_image: likewise the least image size.
    """

    label: str
    parameters: int
    published: Setup
    native_size: int
    optimizer: Adam
    groups: tuple[Group, ...]
    serves: str
    pytorch: Callable[[float], Mapping[str, Any]]
    keras: Callable[[int, float], Mapping[str, Any]]
    batch: Callable[[int, int, int], Arrays]
    carry: Callable[[int, int], Arrays] = lambda batch_size, image_size: {}
    dropout: float = 0.0
    most: int | None = None
    smallest_image: int = 32
    version: int = 1
    """Raised when an edit of the workload can change a number; its cells are then measured anew."""
    name: str = ""
    """Set by `load_workloads`."""


@cache
def load_workloads() -> Mapping[str, Workload]:
    """All workloads by their names, which are those of their files, from the lightest network to the heaviest."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        workload = getattr(importlib.import_module(f"{__name__}.{module.name}"), "WORKLOAD", None)
        if isinstance(workload, Workload):
            found[module.name] = replace(workload, name=module.name)
    return dict(sorted(found.items(), key=lambda item: item[1].parameters))
