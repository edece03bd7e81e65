"""A gain in throughput over eager FP32 as the product of steps of precision and of runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepgap.analyse.attribution import KINDS, Attribution, Step, attribute, outside_chains
from deepgap.analyse.schemas import PUBLISHED
from deepgap.analyse.summary import Summary
from deepgap.paper.latex import ABSENT, Latex, interval, rounded
from deepgap.paper.wording import gpu_label
from deepgap.study.words import model_label

DIGITS = 3


def context(summary: Summary) -> dict[str, Any]:
    """A block a source and chain of modes.

    Returns:
        blocks: with published (or measured), start (the chain's first mode), modes (all later ones), kinds (what
            changes in each step) and rows: platform, model, batch, spans (the modes of the end-to-end ratio), and as
            LaTeX ratios (of the steps and end to end), their intervals, and parts, the products of the steps of each
            of `KINDS`.
        kinds: `KINDS`.
        outside: platform and modes of each gpu that has measured modes to which no step leads.
    """
    blocks: dict[tuple[bool, tuple[str, ...]], list[Attribution]] = {}
    for found in attribute(summary):
        blocks.setdefault((found.source == PUBLISHED, found.chain), []).append(found)
    return {
        "kinds": KINDS,
        "blocks": [_block(published, chain, found) for (published, chain), found in blocks.items()],
        "outside": [
            {"platform": gpu_label(gpu), "modes": ", ".join(modes)} for gpu, modes in outside_chains(summary).items()
        ],
    }


def _block(published: bool, chain: tuple[str, ...], found: Sequence[Attribution]) -> dict[str, Any]:
    rows = [_row(item) for item in found]
    before: dict[str, Any] = {}
    for row in rows:
        row["show_platform"] = row["platform"] != before.get("platform")
        row["show_model"] = row["show_platform"] or row["model"] != before.get("model")
        before = row
    return {"published": published, "start": chain[0], "modes": chain[1:], "rows": rows}


def _row(found: Attribution) -> dict[str, Any]:
    return {
        "platform": gpu_label(found.gpu),
        "model": model_label(found.model),
        "batch": found.batch_size,
        "ratios": [*map(_ratio, found.steps), ABSENT if found.whole is None else rounded(found.whole.ratio, DIGITS)],
        "intervals": [interval(step.low, step.high, DIGITS) for step in found.steps] + [_interval(found.whole)],
        "spans": _spans(found),
        "parts": [rounded(found.part(kind), DIGITS) for kind in KINDS],
    }


def _ratio(step: Step) -> Latex:
    """A ratio. L: launch-bound; the double dagger: from before modes that were not measured."""
    if step.ratio is None:
        return Latex("start") if step.present else ABSENT
    signs = ("L" if step.launch_bound else "") + ("" if step.neighbour else r"\ddagger")
    return Latex(rounded(step.ratio, DIGITS) + (rf"\rlap{{$^{{\mathrm{{{signs}}}}}$}}" if signs else ""))


def _interval(whole: Step | None) -> Latex:
    return Latex("") if whole is None else interval(whole.low, whole.high, DIGITS)


def _spans(found: Attribution) -> str:
    if found.whole is None:
        return "fewer than two of these modes measured"
    return "all" if found.complete else f"{found.whole.start} to {found.whole.mode}"
