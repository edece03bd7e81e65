"""The numbers of the published study of training (arXiv 2603.20920), as far as stored texts give them.

They are transcribed in data/published/democratizing_ai.csv. Only the abstract was read itself; all else comes from a
secondary source that each row names, and `section` says which: a verdict on such a row is one on what that source
says of the study.
"""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl

from deepgap.errors import DeepGapError, first_line
from deepgap.files import refuse_unreadable

COLUMNS = ("framework", "model", "device", "phase", "quantity", "value", "unit", "source")

DEMOCRATIZING = pl.Schema(
    {
        **dict.fromkeys(("framework", "model", "device", "phase", "quantity", "text"), pl.String),
        "value": pl.Float64,
        **dict.fromkeys(("unit", "section", "source"), pl.String),
    }
)
"""text: the value as it is transcribed; value: the same as a number, null where it is none."""

ABSTRACT, SECONDARY, NOWHERE = "abstract", "secondary", "not in any stored text"
"""The values of `section`."""

MODELS = ("conv6", "vgg16", "resnet18", "cyclegan")
FRAMEWORKS = ("tensorflow", "pytorch")


def read_democratizing(file: Path) -> pl.DataFrame:
    """Read the transcription; schema `DEMOCRATIZING`.

    Raises:
        DeepGapError: the file is missing, lacks a column, has a time that is no positive number, or a row of which it
            does not say where it is from.
    """
    restore = "restore the file from the repository"
    try:
        raw = pl.read_csv(io.BytesIO(file.read_bytes()), infer_schema=False)
    except FileNotFoundError:
        raise DeepGapError(f"The published values {file} are missing; {restore}.") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        refuse_unreadable(file, error)
        raise DeepGapError(f"{file} is not a CSV table ({first_line(error)}); {restore}.") from None
    if tuple(raw.columns) != COLUMNS:
        raise DeepGapError(
            f"{file} has the columns {', '.join(raw.columns)}; expected {', '.join(COLUMNS)}; {restore}."
        )
    origin = pl.col("source").str.split(":").list.first()
    values = raw.with_columns(
        text=pl.col("value"),
        value=pl.col("value").str.strip_prefix("~").cast(pl.Float64, strict=False),
        section=origin.replace_strict(
            {"primary": ABSTRACT, "secondary": SECONDARY, NOWHERE: NOWHERE}, default=None, return_dtype=pl.String
        ),
    )
    lines = values.with_row_index("line", offset=2)
    timed = pl.col("quantity").is_in(["time", "parameters"]) & ~pl.col("text").eq_missing("NA")
    number = (pl.col("value").is_finite() & (pl.col("value") > 0)).fill_null(False)
    for name, wanted, wrong in (
        ("text", "a positive number or NA", timed & ~number),
        ("source", f"'primary: ...', 'secondary: ...' or '{NOWHERE}'", pl.col("section").is_null()),
    ):
        for row in lines.filter(wrong).head(1).iter_rows(named=True):
            raise DeepGapError(f"{file} has {row[name]!r} in line {row['line']}, where {wanted} belongs; {restore}.")
    return values.select(DEMOCRATIZING.names())
