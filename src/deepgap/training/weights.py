"""Initial weights that are the same in every framework: drawn by name, told in PyTorch's shapes."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""The shapes of trainable weights, by `network/layer.weight`: of convolutions (out, in, height, width), transposed
ones (in, out, height, width), linear layers (out, in)."""
Weights: TypeAlias = dict[str, np.ndarray]


def draw_weights(shapes: Shapes, seed: int) -> Weights:
    """Weights of convolutions and linear layers by He et al. (ICCV 2015, normal, fan-in), the other ones as every
    framework begins: biases zero, scales of a normalisation one. Each is drawn by its own name.

    Returns:
        float32 arrays of these shapes.
    """
    return {name: _draw(name, shape, seed) for name, shape in shapes.items()}


def _draw(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    if len(shape) == 1:
        return np.full(shape, 1.0 if name.endswith(".weight") else 0.0, np.float32)
    draws = np.random.default_rng([seed, zlib.crc32(name.encode())])
    values = draws.standard_normal(shape, dtype=np.float32)
    values *= math.sqrt(2 / math.prod(shape[1:]))
    return values


def hash_weights(weights: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names, shapes and values, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        values = np.ascontiguousarray(weights[name])
        digest.update(f"{name} {values.shape} {values.dtype}\n".encode())
        digest.update(values.data)
    return digest.hexdigest()
