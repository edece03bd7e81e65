"""TensorRT: an engine of fused kernels, chosen by timing them on the GPU that will run it."""

from __future__ import annotations

from dataclasses import dataclass, field

from deepgap.runtimes import Runtime
from deepgap.runtimes.options import between
from deepgap.runtimes.packages import pytorch_cuda
from deepgap.runtimes.tensorrt.library import Library

TESTED = "11.4.0.106"
"""The version in envs/tensorrt.txt."""


def _packages() -> str:
    on_cuda12 = (pytorch_cuda() or "").startswith("12.")
    return f"tensorrt-cu12=={TESTED}" if on_cuda12 else "-r envs/tensorrt.txt"


LIBRARY = Library(
    runtime="tensorrt",
    title="TensorRT",
    module="tensorrt",
    packages=("tensorrt-cu13", "tensorrt-cu12", "tensorrt"),
    # The first with `device_memory_size_v2`.
    oldest=(10, 1),
    remedy=_packages,
    ahead_of_time=False,
)


@dataclass(frozen=True)
class Options:
    """
    - `optimization_level`: how long the builder searches for kernels;
    - `workspace_gib`: scratch memory that a kernel may use, in GiB;
    - `cuda_graph`: replay each inference as one CUDA graph.
    """

    optimization_level: int = field(default=3, metadata=between(0, 5))
    workspace_gib: float = field(default=4, metadata=between(2**-10, 2**20))
    cuda_graph: bool = False


RUNTIME = Runtime(
    precisions=frozenset({"fp32", "tf32", "fp16", "int8"}),
    devices=frozenset({"cuda"}),
    prepare=LIBRARY.prepare,
    libraries=LIBRARY.versions,
    source="engine",
    options=Options,
    types={"int8": "float16"},
    quantised_forms={"int8": "qdq_fp16"},
    build=LIBRARY.build,
)
