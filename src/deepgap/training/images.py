"""Procedural images of ten classes: gratings of a direction and a colour of their own, under noise."""

from __future__ import annotations

import numpy as np

CLASSES = 10
CYCLES = 4
"""Of a grating over an image."""
NOISE = 0.5


def labels_of(count: int, seed: int) -> np.ndarray:
    """Class numbers of shape (count,), int64; every class comes equally often, up to one."""
    return np.random.default_rng([seed, 0]).permutation(np.arange(count, dtype=np.int64) % CLASSES)


def draw_images(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """One image of each label's class, shape (n, 3, size, size), float32, of about zero mean and unit variance.

    Args:
        size: height and width in pixels.
        seed: images of different seeds are independent.
    """
    classes, noise = np.random.default_rng(0), np.random.default_rng([seed, 1])
    angles = np.pi * np.arange(CLASSES) / CLASSES
    colours = classes.standard_normal((CLASSES, 3)).astype(np.float32)
    axis = np.linspace(0, 1, size, dtype=np.float32)
    phases = noise.uniform(0, 2 * np.pi, len(labels))
    images = NOISE * noise.standard_normal((len(labels), 3, size, size), dtype=np.float32)
    for image, label, phase in zip(images, labels, phases, strict=True):
        along = np.cos(angles[label]) * axis[None, :] + np.sin(angles[label]) * axis[:, None]
        grating = np.sin(2 * np.pi * CYCLES * along + phase).astype(np.float32)
        image += colours[label][:, None, None] * grating
    return images
