"""The numbers that the published study prints (arXiv 2604.14552), as tidy views.

They are transcribed in data/published/deep_gap.csv and never mixed silently with measured ones: every view
has a column `source` that says `published`.
"""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl

from deepgap.errors import DeepGapError, first_line
from deepgap.files import refuse_unreadable
from deepgap.study.words import PUBLISHED

PUBLISHED_VALUES = pl.Schema(
    {
        "section": pl.String,
        "gpu": pl.String,
        "model": pl.String,
        "precision": pl.String,
        "runtime": pl.String,
        "batch": pl.String,
        "quantity": pl.String,
        "value": pl.Float64,
        "unit": pl.String,
        "approx": pl.String,
        "quote": pl.String,
        "source": pl.String,
    }
)
"""The numbers that the published paper prints, as transcribed; source is always `published`."""

CPU = "CPU-GNR24T"
"""The key of the published study's processor."""

CPU_LABEL = "Granite Rapids, 24 threads"

RUNTIMES = {"pytorch-eager": "eager", "pytorch-cpu": "eager"}
"""The study's names of runtimes that this project calls otherwise."""

BATCH = r"^(\d{1,6}|>=\d{1,6}|\d{1,6}-\d{1,6}|small|large)$"
"""How the transcription writes a batch size, or several."""

VALUE_KEY = ("gpu", "model", "runtime", "precision")


def read_published(file: Path) -> pl.DataFrame:
    """Read the transcription; schema `PUBLISHED_VALUES`. A value that the study marks as not available is
    null.

    Raises:
        DeepGapError: the file is missing, lacks a column, or has a value that is not a positive number or a batch
            that is none.
    """
    columns = [name for name in PUBLISHED_VALUES if name != "source"]
    restore = "restore the file from the repository"
    try:
        raw = pl.read_csv(io.BytesIO(file.read_bytes()), infer_schema=False)
    except FileNotFoundError:
        raise DeepGapError(f"The published values {file} are missing; {restore}.") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        refuse_unreadable(file, error)
        raise DeepGapError(f"{file} is not a CSV table ({first_line(error)}); {restore}.") from None
    if raw.columns != columns:
        raise DeepGapError(
            f"{file} has the columns {', '.join(raw.columns)}; expected {', '.join(columns)}; {restore}."
        )
    values = raw.with_columns(pl.col("value").cast(pl.Float64, strict=False))
    lines = raw.with_row_index("line", offset=2).with_columns(number=values["value"])
    number, batch = pl.col("number"), pl.col("batch")
    one_batch = (pl.col("section") == "Table I") | (pl.col("quantity") == "p99_latency")
    not_available = pl.col("value").eq_missing("NA") & pl.col("approx").eq_missing("not_available")
    is_value = (number.is_finite() & (number > 0)).fill_null(False) | not_available
    for name, wanted, wrong in (
        ("value", "a positive number, or NA that is not_available,", ~is_value),
        ("batch", "a batch size", ~batch.str.contains(BATCH)),
        ("batch", "one batch size", one_batch & ~batch.str.contains(r"^\d+$")),
    ):
        for row in lines.filter(wrong).head(1).iter_rows(named=True):
            raise DeepGapError(f"{file} has {row[name]!r} in line {row['line']}, where {wanted} belongs; {restore}.")
    runtime = pl.col("runtime")
    for theirs, ours in RUNTIMES.items():
        runtime = runtime.str.replace(theirs, ours, literal=True)
    return values.with_columns(runtime, pl.lit(PUBLISHED).alias("source")).select(PUBLISHED_VALUES.names())


def table1_peaks(values: pl.DataFrame) -> pl.DataFrame:
    """Table I: one row a gpu, model, runtime and precision, in printed order.

    Columns: the key, batch_size, throughput_img_s, speedup_vs_cpu (null where printed as not available),
        source.
    """

    def printed(quantity: str) -> pl.Expr:
        return pl.col("value").filter(pl.col("quantity") == quantity).first()

    return (
        values.filter(pl.col("section") == "Table I", pl.col("model").is_not_null())
        .group_by(*VALUE_KEY, pl.col("batch").cast(pl.Int64).alias("batch_size"), maintain_order=True)
        .agg(
            printed("peak_throughput").alias("throughput_img_s"),
            printed("speedup_vs_cpu").alias("speedup_vs_cpu"),
            pl.col("source").first(),
        )
    )


def sweep_batch_sizes(values: pl.DataFrame) -> list[int]:
    """The batch sizes that the study sweeps, ascending."""
    swept = values.filter(pl.col("quantity") == "batch_size_in_sweep")["value"].drop_nulls()
    return sorted({int(value) for value in swept})


def median_latencies(values: pl.DataFrame) -> pl.DataFrame:
    """Median latencies read off figures in the prose: the key, batch_size, median_ms, approx, source."""
    return _points(values, "median_latency").select(
        *VALUE_KEY,
        pl.col("batch").cast(pl.Int64).alias("batch_size"),
        pl.col("value").alias("median_ms"),
        "approx",
        "source",
    )


def p99_latencies(values: pl.DataFrame) -> pl.DataFrame:
    """99th percentiles of latency as printed: the key, batch_size, p99_ms, approx, source; a range is two rows."""
    return values.filter(pl.col("quantity") == "p99_latency").select(
        *VALUE_KEY,
        pl.col("batch").cast(pl.Int64).alias("batch_size"),
        pl.col("value").alias("p99_ms"),
        "approx",
        "source",
    )


def temperature_ranges(values: pl.DataFrame) -> pl.DataFrame:
    """Temperatures in degrees Celsius that the study states of all runs of a GPU: gpu, low, high, source."""
    return (
        values.filter(pl.col("quantity") == "gpu_temperature")
        .group_by("gpu", "source", maintain_order=True)
        .agg(pl.col("value").min().alias("low"), pl.col("value").max().alias("high"))
        .select("gpu", "low", "high", "source")
    )


def device_memory(values: pl.DataFrame) -> pl.DataFrame:
    """Device memory: the key, batch_size (null where the study names none), memory_gib, approx, source.

    The study prints GB; they are taken as 10^9 bytes. Of two statements about one mode the first is kept
    (ResNet-18 FP32 on the L4 is given as 5.6 and as 4.9 GB).
    """
    return _points(values, "nvml_memory").select(
        *VALUE_KEY,
        pl.col("batch").cast(pl.Int64).alias("batch_size"),
        (pl.col("value") * (1e9 / 2**30)).alias("memory_gib"),
        "approx",
        "source",
    )


def pareto_pairs(values: pl.DataFrame) -> pl.DataFrame:
    """Pairs of throughput and latency as the study states them: the key, throughput_img_s, median_ms, source.

    The two numbers of a pair are mostly those of different batch sizes: the peak's throughput and the
        latency at the largest batch.

    Raises:
        DeepGapError: the transcription does not alternate throughput and latency of the same key.
    """
    wanted = values.filter(pl.col("quantity").is_in(["pareto_throughput", "pareto_latency"]))
    first, second = wanted.gather_every(2), wanted.gather_every(2, offset=1)
    key = [*VALUE_KEY, "section"]
    paired = (
        set(first["quantity"]) <= {"pareto_throughput"}
        and set(second["quantity"]) <= {"pareto_latency"}
        and first.select(key).equals(second.select(key))
    )
    if not paired:
        raise DeepGapError("The published Pareto values do not come in pairs of throughput and latency of one mode.")
    return (
        first.select(*VALUE_KEY, pl.col("value").alias("throughput_img_s"), "source")
        .with_columns(second["value"].alias("median_ms"))
        .select(*VALUE_KEY, "throughput_img_s", "median_ms", "source")
        .unique(maintain_order=True)
    )


def speedup_ranges(values: pl.DataFrame) -> pl.DataFrame:
    """Speedups over FP32 as printed: the key, low, high, source; one row a gpu, model and faster precision.

    A model without a range of its own takes the one that the study gives for any model. Bounds that are
    printed
    as upper limits only are left out: they repeat the ranges.
    """
    stated = values.filter(
        pl.col("quantity") == "speedup_vs_fp32",
        pl.col("gpu") != "any",
        pl.col("approx") != "at_most",
    ).with_columns(pl.col("precision", "runtime").str.split("/").list.first())
    ranges = stated.group_by(*VALUE_KEY, "source", maintain_order=True).agg(
        pl.col("value").min().alias("low"), pl.col("value").max().alias("high")
    )
    own = ranges.filter(pl.col("model") != "any")
    models = own.select(pl.col("model").alias("named")).unique(maintain_order=True)
    general = (
        ranges.filter(pl.col("model") == "any")
        .join(models, how="cross")
        .with_columns(pl.col("named").alias("model"))
        .join(own, on=list(VALUE_KEY), how="anti")
    )
    return pl.concat([own, general.select(own.columns)]).select(*VALUE_KEY, "low", "high", "source")


def _points(values: pl.DataFrame, quantity: str) -> pl.DataFrame:
    """The rows of a quantity whose batch is one number or none; of repeated statements the first."""
    numeric = pl.col("batch").is_null() | pl.col("batch").str.contains(r"^\d+$")
    return values.filter(pl.col("quantity") == quantity, numeric).unique(
        subset=[*VALUE_KEY, "batch"], keep="first", maintain_order=True
    )
