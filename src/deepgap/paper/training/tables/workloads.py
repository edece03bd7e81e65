"""The published training steps, and the work in them by the layers of the networks."""

from __future__ import annotations

from typing import Any

from deepgap.analyse.training.summary import TrainingSummary
from deepgap.paper.latex import ABSENT, Latex, number, rounded
from deepgap.published.audit.training import CARD, LABELS, WORDS
from deepgap.published.democratizing import FRAMEWORKS, MODELS
from deepgap.published.training_networks import BATCH, SIDE, published_work

DIGITS = 3


def context(summary: TrainingSummary) -> dict[str, Any]:
    """A group of rows a model, a row a framework.

    Returns:
        models: with label, side, batch, printed and counted (parameters in 10^6), forward and step (10^9
            multiply-adds a sample) and rows: with framework, and of cpu and gpu ms, samples (a second) and rate
            (10^12 operations a second), share (percent of the card's FP32 peak) and speedup.
        card: whose peak it is.
    """
    return {"models": [_model(summary, model) for model in MODELS], "card": CARD}


def _model(summary: TrainingSummary, model: str) -> dict[str, Any]:
    work = published_work(model)
    printed = _value(summary, quantity="parameters", model=model)
    return {
        "label": LABELS[model],
        "side": SIDE[model],
        "batch": BATCH[model],
        "printed": ABSENT if printed is None else number(printed / 1e6),
        "counted": rounded(work.parameters / 1e6, DIGITS),
        "forward": rounded(work.forward / 1e9, DIGITS),
        "step": rounded(work.step / 1e9, DIGITS),
        "rows": [_row(summary, model, framework) for framework in FRAMEWORKS],
    }


def _row(summary: TrainingSummary, model: str, framework: str) -> dict[str, Any]:
    times = {
        device: _value(summary, quantity="time", model=model, framework=framework, device=device, phase="train")
        for device in ("cpu", "gpu")
    }
    cpu, gpu = (_speed(model, times[device]) for device in ("cpu", "gpu"))
    peak = summary.gpus[CARD].peak_tops.get("fp32") if CARD in summary.gpus else None
    rate = None if times["gpu"] is None else _operations(model) / times["gpu"] / 1e9
    both = times["cpu"] is not None and times["gpu"] is not None
    return {
        "framework": WORDS[framework],
        "cpu": cpu,
        "gpu": gpu,
        "share": ABSENT if rate is None or peak is None else rounded(100 * rate / peak, DIGITS),
        "speedup": rounded(times["cpu"] / times["gpu"], DIGITS) if both else ABSENT,  # type: ignore[operator]
    }


def _operations(model: str) -> float:
    """Of a step."""
    return 2.0 * BATCH[model] * published_work(model).step


def _speed(model: str, ms: float | None) -> dict[str, Latex]:
    if ms is None:
        return dict.fromkeys(("ms", "samples", "rate"), ABSENT)
    return {
        "ms": rounded(ms, 4),
        "samples": rounded(1000 * BATCH[model] / ms, DIGITS),
        "rate": rounded(_operations(model) / ms / 1e9, DIGITS),
    }


def _value(summary: TrainingSummary, **equal: str) -> float | None:
    """A published value; null where it is not printed."""
    found = summary.published.filter(**equal)["value"].drop_nulls()
    return None if found.is_empty() else float(found[0])
