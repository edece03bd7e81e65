"""How PyTorch computes in a mode: the type and layout of tensors, its switches, and the stream of the work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

    from deepgap.runtimes import Runtime

MEMORY_FORMATS = {"nchw": "contiguous_format", "nhwc": "channels_last"}


class Form(NamedTuple):
    """The type and the memory format of images, and of a PyTorch model's weights, by PyTorch's names."""

    dtype: str
    memory_format: str

    @property
    def torch(self) -> tuple[torch.dtype, torch.memory_format]:
        """PyTorch's objects of these names."""
        import torch

        return getattr(torch, self.dtype), getattr(torch, self.memory_format)


def form_of(runtime: Runtime, recipe: Mapping[str, Any]) -> Form:
    """The form of a cell's images."""
    return Form(runtime.input_type(recipe["precision"]), MEMORY_FORMATS[recipe["layout"]])


def set_precision(precision: str) -> None:
    """Set how FP32 convolutions and matrix products are computed on CUDA: IEEE, or TF32 for `tf32`.

    PyTorch lets cuDNN use TF32 unless told otherwise (PyTorch notes, CUDA semantics, TensorFloat-32).
    """
    import torch

    mode = "tf32" if precision == "tf32" else "ieee"
    torch.backends.cudnn.conv.fp32_precision = mode  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn.fp32_precision = mode  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = mode


@contextmanager
def work_stream(on_gpu: bool) -> Iterator[None]:
    """A stream of the work's own: graph capture may not use the default stream."""
    import torch

    if not on_gpu:
        yield
        return
    with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        yield


def synchronise(on_gpu: bool) -> None:
    """Wait until the device has done all its work."""
    import torch

    if on_gpu:
        torch.cuda.synchronize()
