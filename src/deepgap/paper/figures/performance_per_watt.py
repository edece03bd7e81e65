"""Images per joule over batch size, with and without the idle power."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import polars as pl

from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import batch_axis, log_axis
from deepgap.paper.charts.layout import (
    APART,
    GAP,
    GRID_WIDTH,
    Panel,
    Place,
    Row,
    add_heading,
    draw_notes,
    nothing_at_all,
    row_height,
    words,
)
from deepgap.paper.charts.legend import Entry, common_entries, draw_legend, mode_entries
from deepgap.paper.charts.marks import failed_points, measured_points
from deepgap.paper.charts.panels import draw_series, model_columns, published_without_cells, why_empty
from deepgap.paper.charts.theme import CONFIG
from deepgap.study.words import model_label

SHOWS = ("measured",)
CAPTION = (
    "Performance per watt over batch size: images per joule, which is throughput over power (Eq. 1 of the published "
    "study), both axes logarithmic. Upper row of a GPU: all of the device's energy. Lower row: less the power of the "
    "idle device with a context, times the time. The sensor is the driver's total energy counter, between two of its "
    "own updates inside the run that gives the throughput; every cell has one. Points are medians over sweeps; bars "
    "in the upper row are their exact order-statistic intervals, at least 95 %, which six sweeps or more have. The "
    "published study gives no values."
)

SENTENCE_HEIGHT = 46
"""Height of the row of a device without energy, its title and the gap above it, in points."""
ROWS = {
    "images_per_joule": "Images/J",
    "images_per_joule_above_idle": "Images/J",
}


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are GPUs and in each the two energies, columns models."""
    families = summary.measured.with_columns(images_per_joule_above_idle=1 / pl.col("energy_above_idle_j_per_image"))
    intervals = {"images_per_joule": ("images_per_joule_low", "images_per_joule_high")}
    points = {
        name: measured_points(families, name, *intervals.get(name, (None, None)), "energy_sweeps") for name in ROWS
    }
    everything = [row for rows in points.values() for row in rows]
    failed = failed_points(summary)
    named = summary.published.filter(pl.col("gpu").is_in(list(summary.gpus)))["gpu"]
    gpus = summary.order_gpus(set(summary.families["gpu"]) | set(named))
    if not gpus:
        return nothing_at_all("images per joule")
    known = {row["gpu"] for row in everything}
    columns = model_columns(summary, [*everything, *failed])
    lowest = max((gpus.index(gpu) for gpu in known), default=-1)
    entries: list[Entry] = [*mode_entries(everything), *common_entries(everything, failed if everything else [])]
    legend = [draw_legend(entries)] if entries else []
    measured = set(summary.families["gpu"])
    below = draw_notes(published_without_cells(summary))
    sentences = SENTENCE_HEIGHT * len(measured - known)
    height = row_height(max(1, len(ROWS) * len(known)), [*legend, *below], extra=sentences)
    charts: list[alt.HConcatChart] = []
    headed = False
    for gpu in filter(measured.__contains__, gpus):
        if gpu not in known:
            charts.append(_sentence(summary, gpu))
            continue
        for name, axis in ROWS.items():
            in_row = [row for row in points[name] if row["gpu"] == gpu]
            last = gpus.index(gpu) == lowest and name == list(ROWS)[-1]
            panels: list[Panel] = []
            for model, heading in columns.headings.items():
                here = [row for row in in_row if row["model"] == model]
                lost = [row for row in failed if row["gpu"] == gpu and row["model"] == model]
                place = Place(inner=bool(panels), bottom=last, height=height)
                if here:
                    x = batch_axis(summary, [*everything, *failed], gpu).at(place)
                    y = log_axis(axis, [row[key] for row in in_row for key in ("value", "low", "high")]).at(place)
                    panel = draw_series(here, lost, x, y, height)
                else:
                    panel = words(_why(summary, gpu, model, lost), height=height)
                panels.append(panel if headed else add_heading(panel, heading))
            headed = True
            title = alt.Title(_title(gpu, name, points, in_row), anchor="start", frame="group", offset=5)
            charts.append(alt.hconcat(*panels, spacing=GAP, title=title, bounds="flush", resolve=APART))
    return alt.vconcat(*legend, *charts, *below, spacing=7, resolve=APART, config=CONFIG)


def _title(gpu: str, name: str, points: Mapping[str, Sequence[Row]], rows: Sequence[Row]) -> str:
    if name != "images_per_joule":
        lost = sum(row["gpu"] == gpu for row in points["images_per_joule"]) - len(rows)
        why = f"; {lost} point{'' if lost == 1 else 's'} without, the idle power is not known" if lost else ""
        return f"{gpu}: measured, less the idle power{why}"
    counts = sorted({row["energy_sweeps"] for row in rows})
    low, high = counts[0], counts[-1]
    sweeps = f"{low}" if low == high else f"{low} to {high}"
    return f"{gpu}: measured, energy of {sweeps} sweep{'' if high == 1 else 's'} a point"


def _sentence(summary: Summary, gpu: str) -> alt.HConcatChart:
    """The row of a device with cells and without energy."""
    title, why = f"{gpu}: measured, without energy", f"{reasons(summary, gpu)}."
    heading = alt.Title(title, anchor="start", frame="group", offset=5)
    return alt.hconcat(words(why, width=GRID_WIDTH, height=16), title=heading, bounds="flush", resolve=APART)


def reasons(summary: Summary, gpu: str, model: str | None = None) -> str:
    """Why families have no energy, each reason once."""
    here = summary.families.filter(pl.col("gpu") == gpu, pl.col("energy_note").is_not_null())
    if model is not None:
        here = here.filter(pl.col("model") == model)
    return "; ".join(here["energy_note"].unique().sort()) or "no reason was recorded"


def _why(summary: Summary, gpu: str, model: str, lost: Sequence[Row]) -> str:
    notes = summary.measured.filter(pl.col("gpu") == gpu, pl.col("model") == model)
    if notes.is_empty():
        return why_empty(summary, gpu, "model", model, model_label(model), lost)
    return f"{model_label(model)}: {reasons(summary, gpu, model)}."
