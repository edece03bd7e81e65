"""From a source to a call: the inputs on the device, the runtime's preparation, the first call, and the answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepgap.build.engine_file import UNSUPPORTED as UNSUPPORTED_ENGINE
from deepgap.errors import UnsupportedError
from deepgap.measure.arms.timer import INPUT_BUFFERS
from deepgap.measure.bench import RefusedError
from deepgap.measure.fidelity import compare_logits
from deepgap.measure.precision import form_of, synchronise
from deepgap.measure.runs import Phases
from deepgap.measure.source import Reference, Source
from deepgap.runtimes import Call, Runtime

if TYPE_CHECKING:
    import torch

INPUT_SEED = 0
FIDELITY_CALLS = 64
"""Most calls that a cell spends on the held-out images: small batches are checked on fewer of them."""


@dataclass(frozen=True)
class Prepared:
    """A call, and the input buffers that it reads."""

    call: Call
    inputs: list[torch.Tensor]


def prepare(
    source: Source,
    recipe: Mapping[str, Any],
    runtime: Runtime,
    on_gpu: bool,
    observed: dict[str, Any],
    phases: Phases,
) -> Prepared:
    """Make the inputs and the call, and time the preparation and the first call into `observed`.

    Raises:
        UnsupportedError: the runtime or the device cannot run the model.
        RefusedError: the first answers are not finite, or not of the batch's size.
    """
    import torch

    device = torch.device("cuda" if on_gpu else "cpu")
    dtype, memory_format = form_of(runtime, recipe).torch
    value = source.value
    if runtime.source == "engine" and UNSUPPORTED_ENGINE in value.about:
        raise UnsupportedError(value.about[UNSUPPORTED_ENGINE])
    with phases("load"):
        if runtime.source == "module":
            value = value.to(device)
        inputs = make_inputs(recipe["batch_size"], recipe["image_size"], device, dtype, memory_format)
        synchronise(on_gpu)
    with phases("prepare"):
        runtime.convert(value, inputs, recipe["precision"])
        call = runtime.prepare(value, inputs, recipe["options"])
    with phases("first_call"):
        logits = call(0)
        synchronise(on_gpu)
    observed["prepare_ms"] = phases.seconds["prepare"] * 1000
    observed["first_call_ms"] = phases.seconds["first_call"] * 1000
    if logits.shape[0] != recipe["batch_size"]:
        raise RefusedError(f"the first call gave {logits.shape[0]} answers for {recipe['batch_size']} images")
    if not bool(torch.isfinite(logits).all()):
        raise RefusedError("the first call gave logits that are not finite")
    return Prepared(call, inputs)


def make_inputs(
    batch_size: int, image_size: int, device: torch.device, dtype: torch.dtype, memory_format: torch.memory_format
) -> list[torch.Tensor]:
    """`INPUT_BUFFERS` distinct tensors of random normal values, shape (batch, 3, size, size), on the device."""
    import torch

    generator = torch.Generator(device).manual_seed(INPUT_SEED)
    shape = (batch_size, 3, image_size, image_size)
    return [
        torch.randn(shape, generator=generator, device=device).to(dtype=dtype, memory_format=memory_format)
        for _ in range(INPUT_BUFFERS)
    ]


def check_answers(prepared: Prepared, reference: Reference) -> dict[str, Any]:
    """`observed.fidelity` of a footer: the logits of held-out images through the timed call, against the reference.

    The first input buffer is overwritten, a batch at a time; the last images of a batch that is not full are of the
    timed run.
    """
    import torch

    buffer = prepared.inputs[0]
    count = min(len(reference.logits), FIDELITY_CALLS * len(buffer))
    answers: list[np.ndarray] = []
    for start in range(0, count, len(buffer)):
        chunk = torch.from_numpy(reference.images[start : min(count, start + len(buffer))])
        buffer[: len(chunk)].copy_(chunk)
        answers.append(prepared.call(0)[: len(chunk)].float().cpu().numpy().copy())
    labels = None if reference.labels is None else reference.labels[:count]
    return asdict(compare_logits(np.concatenate(answers), reference.logits[:count], labels))
