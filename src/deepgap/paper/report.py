"""The measurements as one HTML page that works without a network: charts, tables, and the rows behind each point."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
import vl_convert

from deepgap.analyse.flags import FLAGS
from deepgap.analyse.summary import Summary
from deepgap.cells.cell_file import LATENCY, read_cell
from deepgap.paper.charts.theme import PRECISION_COLOURS, mode_mark
from deepgap.paper.web import read_tables
from deepgap.published.values import table1_peaks
from deepgap.study.words import by_mode
from deepgap.text import read_text

MOST_RUNS = 30000
"""With more runs than this the page, which would be slow, holds the families alone."""

DIGITS = 5
"""Significant digits of a number in the page; the files have all of them."""

QUANTITIES = (
    ("throughput_img_s", "throughput (img/s)", "throughput_low_img_s", "throughput_high_img_s"),
    ("median_ms", "median latency (ms)", "median_low_ms", "median_high_ms"),
    ("p99_ms", "p99 latency (ms)", None, None),
    ("tail_most", "p99 over median, highest process", "tail_least", "tail_most"),
    ("speedup_fp32", "speedup over eager-fp32", "speedup_fp32_low", "speedup_fp32_high"),
    ("images_per_joule", "images a joule", "images_per_joule_low", "images_per_joule_high"),
    ("power_w", "power (W)", None, None),
    ("share_of_peak", "share of the dense peak", None, None),
    ("memory_mib", "device memory (MiB)", None, None),
    ("first_call_ms", "first call (ms)", None, None),
)
"""What the chart can show: column, title, and the columns of its interval or, of the tail, of its range."""


SPELLED = {
    "gpu": "GPU",
    "batch_size": "batch size",
    "sqnr_db": "SQNR (dB)",
    "tail_least": "p99 over median, lowest process",
    "tail_most": "p99 over median, highest process",
    "speedup_fp32": "speedup over eager-fp32",
    "speedup_fp32_low": "speedup over eager-fp32, low",
    "speedup_fp32_high": "speedup over eager-fp32, high",
    "pcie": "PCIe",
    "ecc": "ECC",
    "os": "operating system",
    "cpu": "processor",
}
"""Columns whose words do not follow from their names."""
UNITS = {
    "img_s": "img/s",
    "j_per_image": "J an image",
    "ms": "ms",
    "ns": "ns",
    "mib": "MiB",
    "gib": "GiB",
    "mhz": "MHz",
    "w": "W",
    "c": "°C",
    "db": "dB",
}
"""The ends of the names of columns that are their units."""
BYTES = "_bytes"
ROWS = ("families", "runs", "sessions", "fidelity", "coverage", "published")
"""What the page holds as rows of a table."""


def write_page(
    summary: Summary,
    specs: Mapping[str, Path],
    captions: Mapping[str, str],
    cells: Sequence[Path],
    template: Path,
    root: str,
    tables: Mapping[str, str] | None = None,
) -> str:
    """The page.

    Args:
        summary: the tidy tables.
        specs: Vega-Lite files of the paper's figures, by the figure's name.
        captions: their captions, by the figure's name.
        cells: the cell files, for the single calls; none where they are too many for a page.
        template: the jinja2 template of the page.
        root: where the project's root is, seen from the page: a prefix for links to cell files.
        tables: the LaTeX of the paper's tables, by their titles.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    modes = set(summary.families["mode"])
    runs = summary.runs if summary.runs.height <= MOST_RUNS else summary.runs.clear()
    content: dict[str, Any] = {
        "families": _in_order(summary, summary.families),
        "runs": _in_order(summary, runs),
        "calls": _calls(cells),
        "sessions": _by_gpu(summary, _rows(summary.sessions)),
        "fidelity": _in_order(summary, summary.fidelity),
        "coverage": _in_order(summary, summary.coverage.drop_nulls("model")),
        "published": _rows(table1_peaks(summary.published)),
        "flags": FLAGS,
        "quantities": QUANTITIES,
        "colours": PRECISION_COLOURS,
        "shapes": {mode: mode_mark(mode)[0] for mode in sorted(modes, key=by_mode)},
        "root": root,
    }
    first_rows = [rows[0] for name, rows in content.items() if name in ROWS and rows]
    content["words"] = {name: column_words(name) for row in first_rows for name in row}
    figures = [
        {"name": name, "caption": captions[name], "spec": json.loads(read_text(path))} for name, path in specs.items()
    ]
    return environment.from_string(read_text(template)).render(
        content=_script(content),
        figures=figures,
        tables=[(title, *read_tables(tex)) for title, tex in (tables or {}).items()],
        specs=_script([figure["spec"] for figure in figures]),
        library=_library(),
        cells=summary.coverage["found"].sum(),
        left_out=_left_out(summary, cells),
        gpus=", ".join(summary.order_gpus(set(summary.families["gpu"]))) or "no device",
    )


def column_words(name: str) -> str:
    """The name of a column in words, with its unit: `median low (ms)`."""
    if name in SPELLED:
        return SPELLED[name]
    for end, unit in UNITS.items():
        if name.endswith(f"_{end}"):
            return f"{name.removesuffix(end).strip('_').replace('_', ' ')} ({unit})"
    return name.replace("_", " ")


def _left_out(summary: Summary, cells: Sequence[Path]) -> str:
    """What the page does not hold, because it would be too slow, in a sentence."""
    if summary.runs.height > MOST_RUNS:
        return f"This page leaves out {summary.runs.height} runs and their calls; results/summary/runs has them."
    if not cells and summary.runs.height:
        return "This page leaves out the single calls; the files of the cells have them."
    return ""


def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that sets `vegaEmbed`."""
    snippet = "window.vegaEmbed = vegaEmbed;"
    return str(vl_convert.javascript_bundle(snippet)).replace("</script", "<\\/script")


def _script(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it can end the element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    large = [name for name in frame.columns if name.endswith(BYTES)]
    frame = frame.with_columns((pl.col(name) / 2**20).alias(name) for name in large).rename(
        {name: name.removesuffix(BYTES) + "_mib" for name in large}
    )
    floats = [name for name, dtype in frame.schema.items() if dtype == pl.Float64]
    finite = frame.with_columns(
        pl.when(pl.col(name).is_finite()).then(pl.col(name).round_sig_figs(DIGITS)).alias(name) for name in floats
    )
    return finite.to_dicts()


def _in_order(summary: Summary, frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows by GPU, model by depth, mode, batch size and threads."""
    rows = _rows(frame)
    rows.sort(
        key=lambda row: (
            summary.place_model(row["model"]),
            by_mode(row["mode"]),
            row.get("batch_size"),
            row.get("threads"),
        ),
    )
    return _by_gpu(summary, rows)


def _by_gpu(summary: Summary, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by GPU as in gpus.yaml, those without cells last."""
    measured, order = set(summary.families["gpu"]), list(summary.gpus)
    return sorted(rows, key=lambda row: (row["gpu"] not in measured, order.index(row["gpu"])))


def _calls(cells: Sequence[Path]) -> dict[str, list[list[Any]]]:
    """The latency calls of each cell by its file: run, and device time in milliseconds."""
    calls = {}
    for file in cells:
        rows = read_cell(file)[0].filter(pl.col("arm") == LATENCY)
        times = rows["device_ms"].round_sig_figs(DIGITS)
        calls[file.as_posix()] = [rows["run"].to_list(), times.to_list()]
    return calls
