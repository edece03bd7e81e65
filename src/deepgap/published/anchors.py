"""The records of MLPerf Inference for ResNet-50, as an outside anchor of what a card can do.

They are transcribed in data/published/mlperf_resnet50.csv: the closed division, INT8 in TensorRT, divided by the
number of cards. A record runs LoadGen's scenarios over a queue, with all that the submitter could tune; it is no
measurement of the modes here.
"""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl

from deepgap.errors import DeepGapError, first_line
from deepgap.files import refuse_unreadable

ANCHORS = pl.Schema(
    {
        "gpu": pl.String,
        "round": pl.String,
        "quantity": pl.String,
        "batch_size": pl.Int64,
        "low": pl.Float64,
        "high": pl.Float64,
        "unit": pl.String,
        "note": pl.String,
        "source": pl.String,
    }
)
"""MLPerf Inference's records for ResNet-50 a card, as transcribed.

low, high: equal where one submission is told. batch_size: of a latency. note: form or power of the card.
"""

OFFLINE, P50, P99 = "offline_throughput", "latency_p50", "latency_p99"
MODEL, PRECISION = "resnet50", "int8"


def read_anchors(file: Path) -> pl.DataFrame:
    """Read the transcription; schema `ANCHORS`.

    Raises:
        DeepGapError: the file is missing, lacks a column, or has a value that does not fit.
    """
    restore = "restore the file from the repository"
    try:
        found = pl.read_csv(io.BytesIO(file.read_bytes()), schema=ANCHORS)
    except FileNotFoundError:
        raise DeepGapError(f"The published records {file} are missing; {restore}.") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        refuse_unreadable(file, error)
        raise DeepGapError(f"{file} is not a CSV table ({first_line(error)}); {restore}.") from None
    wrong = found.filter((pl.col("low") <= 0) | (pl.col("high") < pl.col("low")))
    if not wrong.is_empty():
        raise DeepGapError(
            f"{file} has a record of {wrong['gpu'][0]} that is no range of positive numbers; {restore}."
        )
    return found
