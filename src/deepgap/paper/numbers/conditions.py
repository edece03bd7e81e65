"""Where launching, power and the edge of a sweep limit what was measured, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import polars as pl

from deepgap.analyse.effects import FACTORS, find_effects
from deepgap.analyse.peaks import find_peaks
from deepgap.analyse.summary import Summary
from deepgap.paper.latex import Latex, escape, number
from deepgap.paper.numbers.macro import NOT_AVAILABLE, PUBLISHED_DIGITS, Number, low_and_high, macro_name
from deepgap.paper.wording import prose_gpus
from deepgap.published.anchors import MODEL, OFFLINE, PRECISION
from deepgap.study.words import model_label

CALL_ENDS = 1.96 * 1.2533
"""Half the width of the usual 95 % interval of a median of independent normal calls, over their standard error."""


def condition_numbers(summary: Summary) -> Iterator[Number]:
    """For each GPU of the prose: where launching bounds, where the power limit holds the clocks, how many curves peak
    at the edge, where the layout tells, how often the usual interval of one process holds the others."""
    for gpu in prose_gpus(summary):
        here = summary.measured.filter(gpu=gpu)
        rows = f"families: gpu={gpu}"
        for name, flag in (("LaunchBoundModes", "launch_bound"), ("PowerHeldModes", "power_held")):
            flagged = here.filter(pl.col("flags").list.contains(flag))
            yield Number(macro_name(name, gpu), _listed(flagged), f"{rows}, {flag}, by mode")
        peaks = [peak for key, peak in find_peaks(here).items() if key[0] == gpu]
        yield Number(macro_name("Curves", gpu), number(len(peaks)), f"{rows}, curves over batch sizes")
        edge = sum(peak.at_edge for peak in peaks)
        yield Number(macro_name("CurvesAtEdge", gpu), number(edge), f"{rows}, curves that peak at the edge")
        primary = here.filter("primary").height
        yield Number(macro_name("FamiliesPrimary", gpu), number(primary), f"{rows}, primary")
        held = here.filter("primary")["sm_clock_share"].drop_nulls().to_list()
        yield from low_and_high(
            macro_name("Clock", gpu), [100 * share for share in held], 3, f"{rows}, primary, sm_clock_share in %"
        )
        yield from _layout(summary, gpu)
        yield from _calls(summary, gpu)
        yield from _effects(summary, gpu)


def _listed(rows: pl.DataFrame) -> Latex:
    """`eager-fp32 at 1, 8; eager-fp16 at 1`, with the model where several are measured."""
    if rows.is_empty():
        return Latex("no mode")
    several = rows["model"].n_unique() > 1
    clauses = []
    for (model, mode), curve in rows.group_by("model", "mode", maintain_order=True):
        sizes = ", ".join(map(str, sorted(curve["batch_size"])))
        clauses.append(f"{model_label(str(model)) + ' ' if several else ''}{mode} at {sizes}")
    return escape("; ".join(clauses))


def _layout(summary: Summary, gpu: str) -> Iterator[Number]:
    """At which batch sizes the interval of the layout's effect leaves 1, of how many."""
    known = summary.ratios.filter(
        pl.col("low").is_not_null(), gpu=gpu, numerator="eager-fp16", denominator="eager-fp16-nchw"
    )
    told = known.filter((pl.col("low") > 1) | (pl.col("high") < 1))
    rows = f"ratios: gpu={gpu}, eager-fp16 over eager-fp16-nchw"
    sizes = escape(", ".join(map(str, sorted(set(told["batch_size"])))) or "none")
    yield Number(macro_name("LayoutTold", gpu), sizes, f"{rows}, batch sizes whose interval leaves 1")


def _calls(summary: Summary, gpu: str) -> Iterator[Number]:
    """Of how many processes the usual interval over their own calls holds the median of the family's other ones."""
    runs = summary.runs.filter(pl.col("std_ms").is_not_null(), pl.col("median_ms").is_not_null(), gpu=gpu)
    primary = summary.families.filter("primary").select("gpu", "model", "mode", "batch_size", "threads")
    held, count = 0, 0
    for _, family in runs.join(primary, on=primary.columns, how="semi").group_by(
        primary.columns, maintain_order=True
    ):
        rows = family.select("median_ms", "std_ms", "samples").rows()
        for place, (median, std, samples) in enumerate(rows):
            others = [row[0] for index, row in enumerate(rows) if index != place]
            if others and samples:
                count += 1
                held += abs(_median(others) - median) <= CALL_ENDS * std / samples**0.5
    rows_of = f"runs: gpu={gpu}, primary families, usual interval of a process against the others' median"
    share = Latex(rf"\num{{{100 * held / count:.0f}}}") if count else NOT_AVAILABLE
    yield Number(macro_name("CallsHold", gpu), share, f"{rows_of}, share in %")
    yield Number(macro_name("CallsProcesses", gpu), number(count), f"{rows_of}, processes")


def _median(values: list[float]) -> float:
    return float(pl.Series(values).median())  # type: ignore[arg-type]


def _effects(summary: Summary, gpu: str) -> Iterator[Number]:
    """The range of each factor's effect over models, batch sizes and pairs of modes that launching does not bound."""
    found = [
        effect
        for effect in find_effects(summary)
        if effect.gpu == gpu and effect.ratio.paired and not effect.launch_bound
    ]
    for factor in FACTORS:
        ratios = [effect.ratio.ratio for effect in found if effect.factors == (factor,) and effect.ratio.ratio]
        rows = f"ratios: gpu={gpu}, pairs that differ in {factor}, not launch_bound"
        yield from low_and_high(macro_name("Effect", gpu, factor), ratios, 3, rows)


def anchor_numbers(summary: Summary) -> Iterator[Number]:
    """MLPerf's record of each card, highest round, and the share of it that the fastest INT8 mode reaches."""
    offline = summary.anchors.filter(pl.col("note").fill_null("").str.contains("350").not_(), quantity=OFFLINE)
    for gpu in dict.fromkeys(offline["gpu"]):
        best = max(offline.filter(gpu=gpu)["high"])
        rows = f"anchors: gpu={gpu}, {OFFLINE}"
        yield Number(macro_name("Anchor", gpu.replace(" ", "-")), number(best), f"{rows}, highest")
        yield from low_and_high(
            macro_name("AnchorShare", gpu.replace(" ", "-")), _shares(summary, gpu, best), PUBLISHED_DIGITS, rows
        )


def _shares(summary: Summary, gpu: str, record: float) -> list[float]:
    here = summary.measured.filter(gpu=gpu, model=MODEL, precision=PRECISION)
    peaks: Iterable[float] = (peak.point.throughput for peak in find_peaks(here).values())
    top = max(peaks, default=None)
    return [] if top is None else [100 * top / record]
