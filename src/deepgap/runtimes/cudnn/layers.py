"""The steps of a lowered network with their sizes, as an engine stores them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepgap.errors import UnsupportedError

if TYPE_CHECKING:
    from deepgap.runtimes.cudnn.convolutions import Shape
    from deepgap.runtimes.cudnn.lowering import Program

PACKED_CHANNELS = 16
PACKED_KERNEL = 4


@dataclass(frozen=True)
class Layer:
    """A step of the network with its geometry for one image."""

    op: str
    name: str
    x: str
    skip: str | None
    y: str
    height: int
    width: int
    channels: int
    filters: int
    kernel: int
    stride: int
    padding: int
    relu: bool
    skip_multiplier: float
    precision: str = "int8"

    def shape(self, batch: int) -> Shape:
        from deepgap.runtimes.cudnn.convolutions import Shape

        return Shape(
            batch,
            self.height,
            self.width,
            self.channels,
            self.filters,
            self.kernel,
            self.stride,
            self.padding,
            self.skip is not None,
            self.relu,
            self.precision,
        )


def network_layers(network: Program, image_size: int, precision: str = "int8") -> Iterator[Layer]:
    """The network's steps with the sizes of their inputs. The first convolution reads the packed image."""
    from deepgap.runtimes.cudnn.lowering import INPUT, Convolution

    sizes: dict[str, tuple[int, int]] = {INPUT: (image_size, 3)}
    for step in network.steps:
        size, channels = sizes[step.x]
        if not isinstance(step, Convolution):
            sizes[step.y] = ((size + 2 - 3) // 2 + 1, channels)
            yield Layer(
                "max_pool",
                step.name,
                step.x,
                None,
                step.y,
                size,
                size,
                channels,
                channels,
                3,
                2,
                1,
                False,
                0,
                precision,
            )
            continue
        filters, kernel, _, weight_channels = step.weight.shape
        sizes[step.y] = ((size + 2 * step.padding - kernel) // step.stride + 1, filters)
        x, stride, padding = step.x, step.stride, step.padding
        if x == INPUT:
            if (kernel, stride, padding, weight_channels) != (7, 2, 3, 3) or size % 2:
                raise UnsupportedError(
                    f"The convolution {step.name} on the image is not 7 x 7 with stride 2 on 3 channels of even "
                    "size, as the cudnn runtime needs."
                )
            x, stride, padding, kernel = "packed", 1, 0, PACKED_KERNEL
            size, channels = size // 2 + PACKED_KERNEL - 1, PACKED_CHANNELS
        yield Layer(
            "convolution", step.name, x, step.skip, step.y, size, size, channels, filters, kernel, stride, padding,
            step.relu, step.skip_multiplier, precision,
        )  # fmt: skip


def pack_weight(weight: np.ndarray) -> np.ndarray:
    """The 7 x 7 x 3 weight as the 4 x 4 x 16 weight for images packed by `kernels.pack_input`, (filters, 4, 4, 16).

    A leading zero row and column make the kernel 8 x 8, of which each 2 x 2 becomes 12 channels.
    """
    filters = len(weight)
    padded = np.pad(weight, ((0, 0), (1, 0), (1, 0), (0, 0)))
    blocks = padded.reshape(filters, 4, 2, 4, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(filters, 4, 4, 12)
    return np.ascontiguousarray(np.pad(blocks, ((0, 0), (0, 0), (0, 0), (0, PACKED_CHANNELS - 12))))
