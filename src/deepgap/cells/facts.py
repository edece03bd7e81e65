"""What is known of a network from its graph alone: its arithmetic, and the bytes that it moves at least.

The facts of a model are counted from its exported graph (`deepgap.build.facts`) and stand in each cell's footer, so
that a reader needs neither the graph nor torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from deepgap.study.words import BYTES_PER_ELEMENT

OPERATIONS_PER_MULTIPLY_ADD = 2


@dataclass(frozen=True)
class Facts:
    """The counts of one model at one image size, in elements and operations of one image.

    The least traffic is that of a network that runs group by group: a convolution or matrix product with the
    element-wise operators that follow it is one group, which reads its inputs and writes its output once. A kernel
    that fuses several convolutions could move less; caches do not count, they decide from where it comes.

    multiply_adds: of all convolutions and matrix products.
    weight_elements: of all constants with which they compute, read once a call; one bias an output channel.
    activation_elements: read and written by all groups.
    largest_activation_elements: of the largest tensor that a group writes, or of the input.
    classes: logits of an image.
    blocks: residual additions; 0 where there are none.
    """

    multiply_adds: int
    weight_elements: int
    activation_elements: int
    largest_activation_elements: int
    classes: int
    blocks: int

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Facts:
        """The facts of a footer or of a file of facts.

        Raises:
            ValueError: a count is missing, unknown, negative or no whole number; the text names it.
        """
        names = [field.name for field in fields(cls)]
        for name in sorted(set(names) ^ set(value)):
            raise ValueError(f"the facts {'lack' if name in names else 'have the unknown count'} '{name}'")
        for name, count in value.items():
            if type(count) is not int or count < 0:
                raise ValueError(f"the facts have {name} {count!r}, which is no count")
        return cls(**value)

    def as_json(self) -> dict[str, int]:
        """The counts by their names."""
        return asdict(self)

    def bytes_per_image(self, precision: str, batch_size: int) -> float | None:
        """Least bytes an image of a call of `batch_size`, all tensors in the element size of the precision.

        None for a precision whose elements have no known size.
        """
        size = BYTES_PER_ELEMENT.get(precision)
        return None if size is None else size * (self.activation_elements + self.weight_elements / batch_size)

    def largest_bytes(self, precision: str, batch_size: int) -> int | None:
        """Bytes of the largest activation of a call; None for a precision without a known size."""
        size = BYTES_PER_ELEMENT.get(precision)
        return None if size is None else size * self.largest_activation_elements * batch_size

    def arithmetic_intensity(self, precision: str, batch_size: int) -> float | None:
        """Operations a byte at the least traffic; None for a precision without a known size."""
        moved = self.bytes_per_image(precision, batch_size)
        return OPERATIONS_PER_MULTIPLY_ADD * self.multiply_adds / moved if moved else None

    def achieved_tops(self, images_per_s: float) -> float:
        """Operations a second in 10^12 at this throughput."""
        return OPERATIONS_PER_MULTIPLY_ADD * self.multiply_adds * images_per_s / 1e12

    def peak_share(self, images_per_s: float, peak_tops: float | None) -> float | None:
        """Achieved operations a second over a peak in 10^12; None where no peak is known."""
        return self.achieved_tops(images_per_s) / peak_tops if peak_tops else None
