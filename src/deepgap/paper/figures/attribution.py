"""What a gain in throughput comes from: one factor at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from deepgap.analyse.effects import FACTORS, Effect, find_effects, operating_batches, published_effects
from deepgap.analyse.schemas import MEASURED, PUBLISHED
from deepgap.analyse.summary import Summary
from deepgap.paper.charts.axes import log_axis
from deepgap.paper.charts.layout import Panel, Place, Row, inline, overlay, row_height
from deepgap.paper.charts.legend import Entry, common_entries, draw_legend
from deepgap.paper.charts.marks import HOLLOW_SIZE, PALE, failed_points, failure_note
from deepgap.paper.charts.panels import draw_grid, model_columns
from deepgap.paper.charts.theme import INK, PAGE_HEIGHT, QUIET, tint
from deepgap.study.words import by_mode

CAPTION = (
    "What a gain in throughput comes from. Each line is a pair of modes that differ in the factor above it with the "
    "others held: precision, layout of the activations, replay of a CUDA graph, fusion of layers, or engine. Its "
    "marks are the ratio of the later mode's throughput to the earlier one's at the smallest, the matched and the "
    "largest batch size of the GPU's sweep, logarithmic: the median over pairs of one sweep, session and card, with "
    "the exact order-statistic interval, at least 95 %. The grey line is no change. A pale mark has a flagged "
    "operand, such as one that launching bounds. All devices have one scale. Pairs that change several factors are "
    "left out, as are published devices and models that are not measured here. Hollow marks are published, from the "
    "approximate medians at that study's largest batch size; its FP32 left TF32 at its default."
)

NAMES_WIDTH = 122
"""Points for the names of the pairs."""
LINE, LEAST_LINE = 12.0, 5.0
"""Height of a pair's line in points where the page has room, and at least."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
SIZE = 17


def draw(summary: Summary) -> alt.VConcatChart:
    """Rows are GPUs, columns models; a line a pair of modes."""
    points = effect_points(summary)
    sizes = sorted({row["batch_size"] for row in points})
    failed = [row for row in failed_points(summary) if row["batch_size"] in sizes]
    failed = [row for row in failed if any(row["gpu"] == point["gpu"] for point in points)]
    columns = model_columns(summary, [*points, *failed], NAMES_WIDTH)
    lines = {gpu: pair_lines(points, gpu) for gpu in {row["gpu"] for row in points}}
    entries = [Entry(f"batch size {size}", INK, batch_shape(sizes, size), size=SIZE) for size in sizes]
    entries += common_entries(points, [])
    height = line_height(list(lines.values()), draw_legend(entries, columns.across)) if lines else LINE

    def panel(here: Sequence[Row], lost: Sequence[Row], scaled: Sequence[Row], place: Place) -> Panel:
        return draw_effects(here, lost, scaled, lines[here[0]["gpu"]], sizes, place, height)

    return draw_grid(summary, points, failed, panel, entries, "the attribution of gains", columns=columns)


def effect_points(summary: Summary) -> list[dict[str, Any]]:
    """A point an effect of one factor at the operating batch sizes: value, low and high are its ratio. Where any is
    measured the published ones are those of the measured devices and models."""
    measured = [effect for effect in find_effects(summary) if effect.batch_size in _operating(summary, effect.gpu)]
    models, gpus = set(summary.families["model"]), set(summary.families["gpu"])
    published = [effect for effect in published_effects(summary) if effect.is_pure]
    stated = [effect for effect in published if not gpus or (effect.model in models and effect.gpu in gpus)]
    return [effect_point(effect) for effect in [*measured, *stated]]


def effect_point(effect: Effect) -> dict[str, Any]:
    return {
        **{"gpu": effect.gpu, "model": effect.model, "batch_size": effect.batch_size, "source": effect.source},
        **{"factor": effect.factors[0], "start": effect.start, "mode": effect.mode},
        **{"pair": f"{effect.start} → {effect.mode}"},
        **{"value": effect.ratio.ratio, "low": effect.ratio.low, "high": effect.ratio.high},
        **{"primary": effect.primary, "fill": INK if effect.primary else tint(INK, PALE)},
    }


def _operating(summary: Summary, gpu: str) -> list[int]:
    swept = set(summary.measured.filter(gpu=gpu)["batch_size"])
    return operating_batches(swept, summary.reporting["matched_batch_size"])


def pair_lines(points: Sequence[Row], gpu: str) -> list[str]:
    """The lines of a GPU's row from the top: each factor, and under it its pairs by their modes."""
    here = [row for row in points if row["gpu"] == gpu]
    lines: list[str] = []
    for factor in FACTORS:
        pairs = {
            row["pair"]: (by_mode(row["start"]), by_mode(row["mode"])) for row in here if row["factor"] == factor
        }
        lines += [f"{factor}:", *sorted(pairs, key=lambda pair: pairs[pair])] if pairs else []
    return lines


def line_height(rows: Sequence[Sequence[str]], legend: Panel) -> float:
    """Height of a line in points, the same in all rows, so that they fit on a page."""
    room = len(rows) * row_height(len(rows), [legend], most=PAGE_HEIGHT)
    return max(LEAST_LINE, min(LINE, room / sum(map(len, rows))))


def batch_shape(sizes: Sequence[int], size: int) -> str:
    return SHAPES[sizes.index(size) % len(SHAPES)]


def draw_effects(
    here: Sequence[Row],
    lost: Sequence[Row],
    scaled: Sequence[Row],
    lines: Sequence[str],
    sizes: Sequence[int],
    place: Place,
    height: float,
) -> Panel:
    """The ratios of a panel to the right, a line a pair, in it a mark a batch size."""
    levels = [row[key] for row in scaled for key in ("value", "low", "high")]
    x = log_axis("Ratio of throughputs", [1.0, *levels], horizontal=True).at(place)
    y = alt.Y(
        "pair:N",
        title=None,
        scale=alt.Scale(domain=list(lines), paddingInner=0.2, paddingOuter=0.1),
        axis=alt.Axis(labels=not place.inner, ticks=False, grid=False, labelLimit=NAMES_WIDTH, labelPadding=3),
    )
    shown = [size for size in sizes if any(row["batch_size"] == size for row in scaled)]
    offset = alt.YOffset("batch_size:N", scale=alt.Scale(domain=shown))
    shape = alt.Shape(
        "batch_size:N",
        legend=None,
        scale=alt.Scale(domain=shown, range=[batch_shape(sizes, size) for size in shown]),
    )
    fill = alt.Color("fill:N", scale=None, legend=None)
    base = alt.Chart(inline([{"value": 1.0}])).mark_rule(color=QUIET, strokeWidth=0.8)
    layers: list[alt.Chart] = [base.encode(x.x("value", "~g"))]
    spans = [row for row in here if row["low"] is not None]
    if spans:
        rules = alt.Chart(inline(spans)).mark_rule(strokeWidth=0.8)
        layers.append(rules.encode(x.x("low", "~g"), alt.X2("high:Q"), y, offset, fill))
    for source in (MEASURED, PUBLISHED):
        some = [row for row in here if row["source"] == source]
        look: dict[str, Any] = {"filled": True, "size": SIZE}
        if source == PUBLISHED:
            look = {"filled": False, "size": HOLLOW_SIZE, "strokeWidth": 1.2}
        if some:
            marks = alt.Chart(inline(some)).mark_point(opacity=1, **look)
            layers.append(marks.encode(x.x("value", "~g"), y, offset, fill, shape))
    if lost:
        layers.append(failure_note(lost))
    return overlay(layers, place.width, max(16, round(len(lines) * height)))
