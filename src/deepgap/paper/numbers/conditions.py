"""Where launching, power and the edge of a sweep limit what was measured, in words."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from deepgap.analyse.effects import FACTORS, find_effects
from deepgap.analyse.peaks import find_peaks
from deepgap.analyse.summary import Summary
from deepgap.paper.latex import Latex, escape, number, rounded
from deepgap.paper.numbers.macro import (
    NOT_AVAILABLE,
    PUBLISHED_DIGITS,
    Number,
    exact,
    low_and_high,
    macro_name,
    rounded_or_not,
    span,
)
from deepgap.paper.tables.hardware import best_shares
from deepgap.paper.wording import prose_gpus
from deepgap.published.anchors import MODEL, OFFLINE, PRECISION
from deepgap.published.values import table1_peaks
from deepgap.study.words import MEASURED, model_label

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
        clocks = span([100 * share for share in held], lambda share: rounded(share, 3))
        yield Number(macro_name("Clock", gpu), clocks, f"{rows}, primary, sm_clock_share in %")
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


def hardware_numbers(summary: Summary) -> Iterator[Number]:
    """For each card of gpus.yaml: its bandwidth, the gain of each precision's peak rate over FP32's, its L2 cache
    over the T4's; and the least and most share of a peak that the best modes of a GPU reached, in percent."""
    cards = [gpu for gpu in summary.kinds if gpu.device == "cuda"]
    small = next((gpu.l2_cache_mib for gpu in cards if gpu.key == "T4"), None)
    for gpu in cards:
        rows = f"gpus.yaml: {gpu.key}"
        yield Number(macro_name("BandwidthOf", gpu.key), exact(gpu.memory_bandwidth_gb_s), f"{rows}, GB/s")
        base = gpu.peak_tops.get("fp32")
        for precision, rate in gpu.peak_tops.items():
            gain = None if rate is None or not base else rate / base
            yield Number(
                macro_name("RateGain", gpu.key, precision), rounded_or_not(gain, 3), f"{rows}, {precision} over fp32"
            )
        ratio = None if not small or gpu.l2_cache_mib is None else gpu.l2_cache_mib / small
        yield Number(macro_name("CacheOverTFour", gpu.key), rounded_or_not(ratio, 2), f"{rows}, l2_cache_mib over T4")
    for key in prose_gpus(summary):
        shares = [row["share"] for row in best_shares(summary) if (row["gpu"], row["source"]) == (key, MEASURED)]
        yield from low_and_high(macro_name("PeakShare", key), shares, 2, f"table of hardware: {key}, measured, share")


def anchor_numbers(summary: Summary) -> Iterator[Number]:
    """MLPerf's record of each card, highest round, and the share of it that the fastest INT8 mode reaches."""
    offline = summary.anchors.filter(pl.col("note").fill_null("").str.contains("350").not_(), quantity=OFFLINE)
    for gpu in dict.fromkeys(offline["gpu"]):
        best = max(offline.filter(gpu=gpu)["high"])
        rows = f"anchors: gpu={gpu}, {OFFLINE}"
        yield Number(macro_name("Anchor", gpu.replace(" ", "-")), number(best), f"{rows}, highest")
        share = rounded_or_not(_share(summary, gpu, best), PUBLISHED_DIGITS)
        yield Number(macro_name("AnchorShare", gpu.replace(" ", "-")), share, f"{rows}, our highest peak of it in %")
        printed = table1_peaks(summary.published).filter(gpu=gpu, model=MODEL, precision=PRECISION)
        for speed in printed["throughput_img_s"]:
            yield Number(
                macro_name("AnchorPublished", gpu),
                rounded(100 * speed / best, 3),
                f"{rows}, published peak of it in %",
            )


def _share(summary: Summary, gpu: str, record: float) -> float | None:
    here = summary.measured.filter(gpu=gpu, model=MODEL, precision=PRECISION)
    tops = [100 * peak.point.throughput / record for peak in find_peaks(here).values()]
    return max(tops, default=None)
