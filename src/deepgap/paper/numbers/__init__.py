r"""The numbers of the prose, as LaTeX macros: one `\newcommand` a line, with the rows that it comes from.

A name is made of the words of its key, digits spelled: the peak of ResNet-50 in eager-fp16 on the H100 is
`\PeakHOneZeroZeroResnetFiveZeroEagerFpOneSix`. A number that the data do not have is `\notmeasured`: a
sentence inside `\told` that holds one is left out, so that the prose compiles and is true whatever was measured.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import polars as pl

from deepgap.analyse.summary import Summary
from deepgap.paper.latex import escape, number
from deepgap.paper.numbers.conditions import anchor_numbers, condition_numbers, hardware_numbers
from deepgap.paper.numbers.families import (
    design_numbers,
    family_sizes,
    fidelity_numbers,
    flag_numbers,
    session_numbers,
)
from deepgap.paper.numbers.macro import Number, macro_name
from deepgap.paper.numbers.measured import energies, measured_numbers, ratio_numbers, spread_numbers, top_ratios
from deepgap.paper.numbers.published import audit_numbers, published_numbers
from deepgap.paper.numbers.residency import residency_numbers

FAMILY = re.compile(
    "(?:Anchor|Audit|Bandwidth|Cache|Calibration|Calls|Caption|Cards|Cells|Clock|Cores|Curves|Design|Devices|Effect|"
    "Energy|Families|Fidelity|Flagged|Hosts|Largest|Latency|Launch|Layout|Load|Matched|Measured|Peak|Power|"
    "Published|Rate|Ratio|Sessions|Spread|Sqnr|Sweeps|TopRatio)"
    "[A-Z][A-Za-z]*$"
)
"""How the names of these macros begin."""


def write_numbers(summary: Summary, captions: Mapping[str, str], used: Iterable[str]) -> str:
    r"""The content of numbers.tex, in a fixed order.

    Args:
        captions: of the figures, by name.
        used: the macros that the text uses; those of `FAMILY` that these data do not give print as not measured.
    """
    numbers = [
        *count_cells(summary),
        *measured_numbers(summary),
        *energies(summary),
        *ratio_numbers(summary),
        *top_ratios(summary),
        *condition_numbers(summary),
        *anchor_numbers(summary),
        *hardware_numbers(summary),
        *spread_numbers(summary),
        *session_numbers(summary),
        *family_sizes(summary),
        *design_numbers(summary),
        *flag_numbers(summary),
        *fidelity_numbers(summary),
        *residency_numbers(summary),
        *published_numbers(summary),
        *audit_numbers(summary),
        *caption_texts(captions),
    ]
    lines = [f"\\newcommand{{\\{item.name}}}{{{item.text}}} % {item.rows}" for item in numbers]
    absent = sorted(set(filter(FAMILY.match, used)) - {item.name for item in numbers})
    lines += [
        rf"\newcommand{{\{name}}}{{\notmeasured}} % used by the text, not given by these data" for name in absent
    ]
    return "".join(f"{line}\n" for line in lines)


def count_cells(summary: Summary) -> Iterator[Number]:
    """Cells found, by GPU and in all, and the devices that have any."""
    found = {gpu.key: 0 for gpu in summary.kinds}
    found |= {
        str(gpu): int(count) for gpu, count in summary.coverage.group_by("gpu").agg(pl.col("found").sum()).iter_rows()
    }
    order = summary.order_gpus(set(found))
    for gpu in order:
        yield Number(macro_name("Cells", gpu), number(found[gpu]), f"coverage: gpu={gpu}, sum of found")
    yield Number("CellsMeasured", number(sum(found.values())), "coverage: sum of found")
    present = [gpu for gpu in order if found[gpu]]
    listed = " and ".join([", ".join(present[:-1]), present[-1]] if len(present) > 1 else present) or "no device"
    yield Number("DevicesMeasured", escape(listed), "coverage: gpus with found above 0")
    yield Number("MatchedBatch", number(summary.reporting["matched_batch_size"]), "config: reporting")
    yield Number("MatchedLatency", number(summary.reporting["matched_latency_ms"]), "config: reporting")


def caption_texts(captions: Mapping[str, str]) -> Iterator[Number]:
    """The captions of the figures, so that each stands in one place only."""
    for name, caption in captions.items():
        yield Number(macro_name("Caption", name), escape(caption), f"deepgap.paper.figures.{name}")
