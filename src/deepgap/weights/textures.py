"""Procedural images: 100 classes of coloured gratings, for weights that need no download."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CLASSES = 100


def texture_images(labels: torch.Tensor, seed: int, size: int) -> torch.Tensor:
    """Draw one normalised image of each label's texture class.

    A class fixes the frequency, the orientation and the colours of two superposed gratings; an image adds its
    own phases, small changes of frequency and orientation, contrast and pixel noise.

    Args:
        labels: class numbers below `CLASSES`, shape (n,).
        seed: images of different seeds are independent.
        size: height and width in pixels.

    Returns:
        float32 tensor of shape (n, 3, size, size) with about zero mean and unit variance.
    """
    import torch

    classes = torch.Generator().manual_seed(0)
    frequency = 4 + 36 * torch.rand(CLASSES, 2, generator=classes)
    angle = math.pi * torch.rand(CLASSES, 2, generator=classes)
    colour = torch.randn(CLASSES, 2, 3, generator=classes)

    noise = torch.Generator().manual_seed(seed + 1)
    count = len(labels)

    def jitter(scale: float) -> torch.Tensor:
        return scale * torch.randn(count, 2, generator=noise)

    wave = frequency[labels] * (1 + jitter(0.04))
    turn = angle[labels] + jitter(0.05)
    phase = 2 * math.pi * torch.rand(count, 2, generator=noise)
    contrast = 0.7 + 0.6 * torch.rand(count, 1, 1, 1, generator=noise)

    axis = torch.linspace(0, 1, size)
    x, y = axis.view(1, 1, 1, size), axis.view(1, 1, size, 1)
    wave, turn, phase = (value.view(count, 2, 1, 1) for value in (wave, turn, phase))
    grating = torch.sin(2 * math.pi * wave * (x * torch.cos(turn) + y * torch.sin(turn)) + phase)
    images = contrast * torch.einsum("nghw,ngc->nchw", grating, colour[labels])
    return images + 1.0 * torch.randn(count, 3, size, size, generator=noise)
