"""What an engine's inspector tells of its layers."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

TYPES = {
    "int8": r"\bint8",
    "fp8": r"\bfp8",
    "bf16": r"bf16|bfloat",
    "fp16": r"fp16|half|\bfloat16",
    "fp32": r"fp32|float",
    "other": r"int|bool",
}
"""Types as the engine inspector writes them ("Half", "Row major linear FP32"), the narrowest first."""


def describe_layers(information: str) -> dict[str, Any]:
    """The layers of an engine, from the engine inspector's JSON, and how many there are of each precision.

    The precision of a layer is the narrowest type that it reads, or writes where it reads nothing: a convolution
    that reads int8 computes in int8 whatever it writes. An entry may be a bare name, whose precision is `unknown`. Of
    an engine that lists its layers once for each profile, those of the first.
    """
    try:
        found = json.loads(information)
    except ValueError:
        found = []
    entries = found.get("Layers") if isinstance(found, dict) else found
    layers = [_describe_layer(entry) for entry in entries] if isinstance(entries, list) else []
    layers = [layer for layer in layers if not re.search(r"\[profile [1-9]", layer["name"])]
    return {"layers": layers, "layers_by_precision": dict(Counter(layer["precision"] for layer in layers))}


def _describe_layer(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        return {"name": str(entry), "precision": "unknown"}
    inputs, outputs = (
        [
            str(tensor.get("Format/Datatype", "")) if isinstance(tensor, dict) else ""
            for tensor in entry.get(key) or []
        ]
        for key in ("Inputs", "Outputs")
    )
    described = {
        "name": str(entry.get("Name", "")),
        "type": entry.get("LayerType"),
        "precision": _narrowest(inputs) or _narrowest(outputs) or "unknown",
        "outputs": outputs,
        "tactic": entry.get("TacticName"),
    }
    return {key: value for key, value in described.items() if value is not None}


def _narrowest(formats: list[str]) -> str | None:
    text = "\n".join(formats)
    return next((name for name, pattern in TYPES.items() if re.search(pattern, text, re.IGNORECASE)), None)
