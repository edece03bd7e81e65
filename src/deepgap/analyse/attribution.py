"""How much of a gain in throughput is runtime and how much is precision: chains of modes, and the steps between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, TypeAlias

import polars as pl

from deepgap.analyse.schemas import MEASURED, PUBLISHED
from deepgap.analyse.summary import Summary
from deepgap.published.values import median_latencies, sweep_batch_sizes
from deepgap.study.cell import ALL_THREADS
from deepgap.study.words import by_mode, mode_parts

RUNTIME, PRECISION, BOTH = "runtime", "precision", "runtime and precision"
KINDS = (PRECISION, RUNTIME, BOTH)

LAUNCH_BOUND = "launch_bound"

CUDNN_CHAIN = ("eager-fp32", "eager-tf32", "eager-fp16", "graph-fp16", "compile-fp16", "cudnn-int8")
TENSORRT_CHAIN = ("eager-fp32", "eager-tf32", "eager-fp16", "tensorrt-fp16", "tensorrt-int8")
ORT_CHAIN = ("eager-fp32", "ort-fp32", "ort-int8")
CHAINS = (CUDNN_CHAIN, TENSORRT_CHAIN, ORT_CHAIN)
"""Modes from eager FP32 to INT8, each a change of the runtime or of the precision from the one before where such a
mode exists."""

Ratio: TypeAlias = Mapping[str, Any]
"""A row of `summary.RATIOS`, or its likeness from published values."""


@dataclass(frozen=True)
class Step:
    """From one mode to the next of a chain: their ratio of throughputs at one batch size.

    start: the last mode before that was measured; the step spans those between. Null, as all below, where the mode or
        any before it was not measured.
    low, high: 95 % interval of the ratio; null with fewer than three runs and for published values.
    cells: the files of both operands, without their ending.
    launch_bound: either operand's calls are bound by launching them (`deepgap.analyse.flags`).
    """

    mode: str
    kind: str
    start: str | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    cells: tuple[str, ...] = ()
    launch_bound: bool = False
    neighbour: bool = True
    """The start is the mode before in the chain."""
    present: bool = True
    """The mode was measured; with no start it is where the product begins."""


@dataclass(frozen=True)
class Attribution:
    """A gain at one gpu, model and batch size, in steps.

    steps: one for each mode of the chain but the first, measured or not.
    whole: from the first measured mode of the chain to the last; null with fewer than two.
    complete: it spans the whole chain.
    """

    gpu: str
    model: str
    batch_size: int
    chain: tuple[str, ...]
    steps: tuple[Step, ...]
    whole: Step | None
    source: str

    @property
    def complete(self) -> bool:
        return self.whole is not None and (self.whole.start, self.whole.mode) == (self.chain[0], self.chain[-1])

    @property
    def measured(self) -> tuple[Step, ...]:
        """The steps that have a ratio."""
        return tuple(step for step in self.steps if step.ratio is not None)

    def part(self, kind: str) -> float | None:
        """The product of the steps of one kind; null where there is none."""
        ratios = [step.ratio for step in self.steps if step.ratio is not None and step.kind == kind]
        return prod(ratios) if ratios else None

    @property
    def launch_bound(self) -> bool:
        return any(step.launch_bound for step in self.steps)


def attribute(summary: Summary) -> list[Attribution]:
    """The measured gains of every gpu and model at the smallest, the matched and the largest batch size of the gpu's
    sweep, then the published ones; a chain is taken where a mode that only it has was measured or tried."""
    ratios: dict[tuple[Any, ...], Ratio] = {}
    for row in summary.ratios.filter(pl.col("threads") == ALL_THREADS).iter_rows(named=True):
        place = (row["gpu"], row["model"], row["batch_size"])
        ratios[*place, row["numerator"], row["denominator"]] = row
    flags = {
        (row["gpu"], row["model"], row["batch_size"], row["mode"]): row["flags"]
        for row in summary.measured.iter_rows(named=True)
    }
    tried = pl.concat(
        [frame.select("gpu", "model", "mode", "batch_size") for frame in (summary.measured, summary.failed)]
    )
    found = []
    for gpu in summary.order_gpus(set(tried["gpu"])):
        here = tried.filter(pl.col("gpu") == gpu)
        batch_sizes = operating_batches(set(here["batch_size"]), summary.reporting["matched_batch_size"])
        for chain in _chains(summary, gpu, set(here["mode"])):
            for model in summary.order_models(here["model"]):
                for batch_size in batch_sizes:
                    place = (gpu, model, batch_size)
                    bound = {mode for mode in chain if LAUNCH_BOUND in (flags.get((*place, mode)) or ())}
                    at = {key[3:]: row for key, row in ratios.items() if key[:3] == place}
                    found.append(_attribution(place, chain, at, bound, MEASURED))
    return found + published_attributions(summary)


def outside_chains(summary: Summary) -> dict[str, list[str]]:
    """The measured modes of each gpu that stand in none of the chains that are taken there, so that no step leads to
    them; without the gpus that have none."""
    found = {}
    for gpu in summary.order_gpus(set(summary.measured["gpu"])):
        modes = set(summary.measured.filter(pl.col("gpu") == gpu)["mode"])
        outside = modes.difference(*_chains(summary, gpu, modes))
        if outside:
            found[gpu] = sorted(outside, key=by_mode)
    return found


def operating_batches(swept: set[int], matched: int) -> list[int]:
    """The smallest and the largest of a sweep and the one at which all is compared, ascending."""
    return sorted({min(swept), matched, max(swept)})


def _chains(summary: Summary, gpu: str, modes: set[str]) -> list[tuple[str, ...]]:
    """The chains that these modes ask for, without the precisions that the device does not have."""
    profile = summary.gpus[gpu]
    possible = [
        tuple(mode for mode in chain if mode_parts(mode).precision in profile.peak_tops)
        for chain in CHAINS
        if (chain == ORT_CHAIN) == (profile.device == "cpu")
    ]
    own = [chain for chain in possible if any(mode in modes for mode in chain if not mode.startswith("eager-"))]
    return own or possible[-1:]


def published_attributions(summary: Summary) -> list[Attribution]:
    """The published gains at the largest batch size, the only one at which the study states medians of all its modes:
    throughput is in inverse proportion to them. Only values that are not bounds count."""
    values = summary.published
    sweep = sweep_batch_sizes(values)
    if not sweep:
        return []
    medians = median_latencies(values.filter(pl.col("approx") == "approx")).filter(pl.col("batch_size") == max(sweep))
    found = []
    for (gpu, model), rows in medians.group_by("gpu", "model", maintain_order=True):
        latency = {f"{r['runtime']}-{r['precision']}": r["median_ms"] for r in rows.iter_rows(named=True)}
        known = summary.gpus[str(gpu)].peak_tops if gpu in summary.gpus else {}
        chain = tuple(mode for mode in TENSORRT_CHAIN if mode_parts(mode).precision in known)
        ratios: dict[tuple[str, ...], Ratio] = {
            (top, bottom): {"ratio": latency[bottom] / latency[top], "low": None, "high": None}
            for bottom, top in _pairs([mode for mode in chain if mode in latency])
        }
        place = (str(gpu), str(model), max(sweep))
        found.append(_attribution(place, chain, ratios, set(), PUBLISHED))
    gpus = summary.order_gpus({item.gpu for item in found})
    return sorted(found, key=lambda item: (gpus.index(item.gpu), summary.place_model(item.model)))


def _pairs(modes: Sequence[str]) -> list[tuple[str, str]]:
    return [(earlier, later) for index, earlier in enumerate(modes) for later in modes[index + 1 :]]


def _attribution(
    place: tuple[str, str, int],
    chain: tuple[str, ...],
    ratios: Mapping[tuple[str, ...], Ratio],
    bound: set[str],
    source: str,
) -> Attribution:
    """Walk a chain; `ratios` by numerator and denominator, `bound`: the modes whose calls are launch-bound."""
    present = {mode for pair in ratios for mode in pair}
    steps: list[Step] = []
    last = chain[0] if chain[0] in present else None
    for before, mode in pairwise(chain):
        if mode not in present:
            steps.append(Step(mode, kind_of(before, mode), present=False))
        elif last is None:
            steps.append(Step(mode, kind_of(before, mode)))
            last = mode
        else:
            steps.append(_step(last, mode, ratios, bound, neighbour=last == before))
            last = mode
    measured = [mode for mode in chain if mode in present]
    whole = _step(measured[0], measured[-1], ratios, bound, neighbour=False) if len(measured) > 1 else None
    return Attribution(*place, chain, tuple(steps), whole, source)


def _step(start: str, mode: str, ratios: Mapping[tuple[str, ...], Ratio], bound: set[str], neighbour: bool) -> Step:
    row = ratios[mode, start]
    cells = (*row.get("denominator_cells", ()), *row.get("numerator_cells", ()))
    return Step(
        mode,
        kind_of(start, mode),
        start,
        row["ratio"],
        row["low"],
        row["high"],
        cells,
        launch_bound=bool({start, mode} & bound),
        neighbour=neighbour,
    )


def kind_of(start: str, mode: str) -> str:
    """What changes between two modes."""
    before, after = mode_parts(start), mode_parts(mode)
    if before.runtime == after.runtime:
        return PRECISION
    return RUNTIME if before.precision == after.precision else BOTH
