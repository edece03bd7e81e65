"""The published peaks of the L4 against its L2 cache."""

from __future__ import annotations

from dataclasses import dataclass

from deepgap.published.audit.evidence import (
    OPEN,
    Finding,
    NotPrintedError,
    Values,
    need,
)
from deepgap.published.networks import find_traffic
from deepgap.study.words import BYTES_PER_ELEMENT


@dataclass(frozen=True)
class CachedPeaks:
    """The L4's peaks by what their largest activation takes of its L2 cache.

    usual: the most frequent product of batch size and bytes of an element. count: of the peaks that have it, among
    all. largest: elements of the largest activation of an image. fit: the peaks at which that of a call fits.
    """

    usual: int
    count: int
    peaks: int
    largest: int
    fit: int
    capacity_bytes: float


def cached_peaks(values: Values) -> CachedPeaks:
    """The L4's peaks of Table I, of models whose layers are known.

    Raises:
        NotPrintedError: there are none, or the cache's capacity is not known.
    """
    capacity_mib = values.gpus["L4"].l2_cache_mib if "L4" in values.gpus else None
    sizes = []
    for cell, (batch, _) in values.table1().items():
        traffic = find_traffic(cell[1])
        if cell[0] == "L4" and traffic is not None and cell[2] in BYTES_PER_ELEMENT:
            sizes.append((batch * BYTES_PER_ELEMENT[cell[2]], traffic.largest))
    need(sizes)
    if capacity_mib is None:
        raise NotPrintedError
    products, capacity = [product for product, _ in sizes], capacity_mib * 2**20
    usual = max(products, key=products.count)
    fit = sum(product * largest <= capacity for product, largest in sizes)
    return CachedPeaks(usual, products.count(usual), len(sizes), sizes[0][1], fit, capacity)


def scheduling_of_the_l4(values: Values) -> Finding:
    """The L4 peaks early because of its scheduling."""
    found = cached_peaks(values)
    size_mb = found.largest * found.usual / 1e6
    return values.finding(
        "The L4 peaks early because of its scheduling",
        f"In {found.count} of {found.peaks} peaks batch size times bytes of an element is {found.usual}. "
        f"The largest activation ({found.largest:,} elements an image) is then {size_mb:.1f} MB, and at twice that "
        f"batch {2 * size_mb:.1f} MB, where the L2 cache holds {found.capacity_bytes / 1e6:.1f} MB; it fits at "
        f"{found.fit} of {found.peaks} peaks. The cache explains this as well, and no printed number tells the two "
        "apart.",
        OPEN,
        "data sheets",
        "layers of the networks",
    )
