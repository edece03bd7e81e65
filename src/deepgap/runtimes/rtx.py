"""TensorRT for RTX: NVIDIA's builder from public packages, which builds for a GPU that is not here.

An engine is of one compute capability; its kernels are compiled on the GPU when it first runs, and kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepgap.runtimes import Runtime
from deepgap.runtimes.tensorrt.library import Library

if TYPE_CHECKING:
    from deepgap.study.gpus import Gpu

LIBRARY = Library(
    runtime="rtx",
    title="TensorRT for RTX",
    module="tensorrt_rtx",
    packages=("tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx"),
    oldest=(1, 3),
    remedy=lambda: "-r envs/rtx.txt",
    ahead_of_time=True,
)
CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""Those that it builds for (its `ComputeCapability`). An engine on an H100 names nearly the same in its refusal."""
LEAST_FOR_FP8 = 8.9


@dataclass(frozen=True)
class Options:
    """cuda_graph: replay each inference as one CUDA graph."""

    cuda_graph: bool = False


def skip(model: str, precision: str, batch_size: int, gpu: Gpu) -> str | None:
    if gpu.compute_capability not in CAPABILITIES:
        return (
            f"TensorRT for RTX runs on compute capability {', '.join(CAPABILITIES)}, and the {gpu.kind} has "
            f"{gpu.compute_capability}."
        )
    if gpu.compute_capability == "7.5" and precision == "fp32":
        return "TensorRT for RTX has no FP32 matrix product on Turing."
    if precision == "fp8" and float(gpu.compute_capability) < LEAST_FOR_FP8:
        return (
            f"Tensor cores multiply FP8 since compute capability {LEAST_FOR_FP8}, and the {gpu.kind} has "
            f"{gpu.compute_capability}."
        )
    return None


RUNTIME = Runtime(
    precisions=frozenset({"fp32", "tf32", "fp16", "int8", "fp8"}),
    devices=frozenset({"cuda"}),
    prepare=LIBRARY.prepare,
    libraries=LIBRARY.versions,
    source="engine",
    options=Options,
    types={"int8": "float16", "fp8": "float16"},
    quantised_forms={"int8": "qdq_fp16", "fp8": "qdq_fp8"},
    ahead_of_time=True,
    build=LIBRARY.build,
    skip=skip,
)
