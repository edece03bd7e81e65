"""The memory of NVIDIA's GPUs since 2008, as a list of hardware gives it, and the largest of each year.

data/published/gpu_memory_epoch.csv is of Epoch AI, "Data on Machine Learning Hardware" (CC BY), a copy of 2025-12-16.
The file stands as it was copied; what is known to be wrong in it is put right here, by rules:

- `SAME_CARD`: cards that are listed twice.
- `CHIPS`: boards of two GPUs, of which each has half of the memory.
- Dates of announcement and of launch are mixed (H100, RTX 4080 and RTX 4090 are all of 2022-09-20): only the year of
  a date is used.
- The H200 is listed without memory and so is not in the file: it comes from config/gpus.yaml. So is the GH200, which
  is left out. One RTX 4070 has the power of the 4070 Ti; power is not used.
- There is nothing before 2008, and nothing of 2009 and 2011.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from deepgap.errors import DeepGapError, first_line
from deepgap.files import refuse_unreadable
from deepgap.study.gpus import Gpu

LISTED = ("gpu", "release_date", "memory_gb", "source")
"""The columns of the file that are used."""

GPU_MEMORY = pl.Schema({"gpu": pl.String, "year": pl.Int64, "memory_gb": pl.Float64, "source": pl.String})

SAME_CARD = {"A100": "A100 SXM4 40 GB", "P100": "P100 PCIe 16GB", "Tesla K40t": "Tesla K40s"}
"""Names that are left out, and the names under which the same cards are kept."""

CHIPS = {"Tesla K80": 2, "TESLA M60": 2}
"""The GPUs of boards that have more than one."""

ADDED = "H200"
"""The key in config/gpus.yaml of the card that the file lacks."""


def read_gpu_memory(file: Path, gpus: Mapping[str, Gpu]) -> pl.DataFrame:
    """The memory of one GPU of each card in GB of 10^9 bytes, schema `GPU_MEMORY`, in the order of years.

    Raises:
        DeepGapError: the file is missing, lacks a column, or has a date or a size that is none.
    """
    restore = "restore the file from the repository"
    try:
        raw = pl.read_csv(io.BytesIO(file.read_bytes()), infer_schema=False)
    except FileNotFoundError:
        raise DeepGapError(f"The list of GPUs {file} is missing; {restore}.") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        refuse_unreadable(file, error)
        raise DeepGapError(f"{file} is not a CSV table ({first_line(error)}); {restore}.") from None
    if lacking := [name for name in LISTED if name not in raw.columns]:
        raise DeepGapError(f"{file} has no column {lacking[0]}; {restore}.")
    sizes = raw.select(
        "gpu",
        pl.col("release_date").str.to_date("%Y-%m-%d", strict=False).dt.year().cast(pl.Int64).alias("year"),
        pl.col("memory_gb").cast(pl.Float64, strict=False),
        "source",
    )
    known = (pl.col("memory_gb").is_finite() & (pl.col("memory_gb") > 0) & pl.col("year").is_not_null()).fill_null(
        False
    )
    for row in sizes.with_row_index("line", offset=2).filter(~known).head(1).iter_rows(named=True):
        raise DeepGapError(f"{file} has no date and size of memory in line {row['line']}; {restore}.")
    return pl.concat([_put_right(sizes), _added(gpus)]).sort("year", "memory_gb", "gpu")


def _put_right(sizes: pl.DataFrame) -> pl.DataFrame:
    """One row a card, and the memory of one of its GPUs. A name is left out only where its other name is there."""
    listed = set(sizes["gpu"])
    twice = [name for name, kept in SAME_CARD.items() if kept in listed]
    chips = pl.col("gpu").replace_strict(CHIPS, default=1, return_dtype=pl.Float64)
    return sizes.filter(~pl.col("gpu").is_in(twice)).with_columns(pl.col("memory_gb") / chips)


def _added(gpus: Mapping[str, Gpu]) -> pl.DataFrame:
    gpu = gpus.get(ADDED)
    if gpu is None or gpu.year is None or gpu.memory_gb is None:
        return GPU_MEMORY.to_frame()
    row = {"gpu": ADDED, "year": gpu.year, "memory_gb": float(gpu.memory_gb), "source": "config/gpus.yaml"}
    return pl.DataFrame([row], schema=GPU_MEMORY)


def yearly_maxima(sizes: pl.DataFrame) -> pl.DataFrame:
    """The GPU with the most memory of each year that has one, schema `GPU_MEMORY`; of several the first by name."""
    order = sizes.sort("year", "memory_gb", "gpu", descending=[False, True, False])
    return order.unique("year", keep="first", maintain_order=True)
