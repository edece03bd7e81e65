"""End to end: from a batch in the host's memory to logits in the host's memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deepgap.measure.arms.stopping import Collected, Rule
from deepgap.measure.arms.timer import TimedCall, Timer

if TYPE_CHECKING:
    import torch

    from deepgap.runtimes import Call


def time_end_to_end(call: TimedCall, timer: Timer, rule: Rule) -> Collected:
    """A span a call of `with_copies` until the rule is met."""
    return rule.collect(lambda count: timer.each(call, count))


def with_copies(call: Call, inputs: Sequence[torch.Tensor]) -> TimedCall:
    """The call with a copy of its batch to the device before it and of its logits to the host behind it.

    The host's batches are pinned, in the type and layout that the device wants, so that the copy is one transfer; the
    logits go to pinned memory in their own type. On a processor there is nothing to copy from or to but memory.
    """
    import torch

    on_gpu = inputs[0].is_cuda
    batches = [_on_host(tensor, on_gpu) for tensor in inputs]
    logits = _on_host(call(0), on_gpu)
    if on_gpu:
        torch.cuda.current_stream().synchronize()

    def end_to_end(index: int) -> torch.Tensor:
        inputs[index].copy_(batches[index], non_blocking=True)
        return logits.copy_(call(index), non_blocking=True)

    return end_to_end


def _on_host(tensor: torch.Tensor, pinned: bool) -> torch.Tensor:
    """A copy in the host's memory with the same strides."""
    import torch

    copy = torch.empty_like(tensor, device="cpu", memory_format=torch.preserve_format, pin_memory=pinned)
    return copy.copy_(tensor)
