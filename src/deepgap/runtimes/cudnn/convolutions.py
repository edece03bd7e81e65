"""INT8 and FP16 convolutions on a GPU: every way to run one, by cuDNN's execution plans or by our Triton kernel.

A convolution is the fused step of `lowering.Convolution` at one batch size. A candidate is a way to run it, as JSON
values: `{"kernel": "cudnn", "plan": ..., "name": ...}` or `{"kernel": "triton", "tile": [...], ...}`.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from deepgap.errors import EngineError, first_line

if TYPE_CHECKING:
    import torch

WIDTH_MULTIPLE = 32
"""The Triton kernel takes channels in steps of at least this many bytes."""

SHARE = 6
"""Most convolutions that one process compiles; fewer where there are processes for all."""

TILES = (
    # rows, filters, channels of a tile, warps, stages
    (32, 64, 128, 4, 4),
    (64, 64, 64, 4, 3),
    (64, 64, 128, 4, 4),
    (64, 128, 64, 4, 3),
    (64, 128, 128, 4, 3),
    (64, 256, 64, 4, 3),
    (128, 64, 64, 4, 3),
    (128, 64, 128, 4, 4),
    (128, 128, 64, 4, 3),
    (128, 128, 128, 4, 3),
    (128, 128, 128, 8, 3),
    (128, 256, 64, 8, 3),
    (256, 64, 64, 8, 3),
)

HALF = "fp16"
HALF_TILES = tuple((rows, filters, channels // 2, warps, stages) for rows, filters, channels, warps, stages in TILES)
"""Of FP16: as many bytes."""

X, WEIGHT, MULTIPLIER, OFFSET, SKIP, SKIP_MULTIPLIER, Y = range(1, 8)
"""The tensors of a cuDNN graph."""


@dataclass(frozen=True)
class Shape:
    """The geometry of a fused convolution: NHWC, square kernel, stride and padding on both axes alike.

    precision: int8 or fp16, of x, weight, skip and y.
    """

    batch: int
    height: int
    width: int
    channels: int
    filters: int
    kernel: int
    stride: int
    padding: int
    skip: bool
    relu: bool
    precision: str = "int8"

    @property
    def half(self) -> bool:
        return self.precision == HALF

    @property
    def out_height(self) -> int:
        return (self.height + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def out_width(self) -> int:
        return (self.width + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def rows(self) -> int:
        """Pixels of the output over the batch: the rows of the matrix product."""
        return self.batch * self.out_height * self.out_width

    @property
    def operations(self) -> int:
        """Multiplications and additions of the convolution."""
        return 2 * self.rows * self.filters * self.channels * self.kernel**2

    @property
    def bytes(self) -> int:
        """The least memory traffic: every pixel that is used read once, the skip too, the result written once."""
        step = self.stride if self.kernel == 1 else 1
        read = self.batch * (self.height // step) * (self.width // step) * self.channels
        weights = self.filters * self.channels * self.kernel**2
        elements = read + weights + self.rows * self.filters * (2 if self.skip else 1)
        return elements * (2 if self.half else 1)


@dataclass(frozen=True)
class Operands:
    """Device tensors of one convolution: NHWC x, skip and y, (filters, kernel, kernel, channels) weight, all in its
    precision; float32 multiplier and offset of shape (filters,), float32 skip_multiplier of shape (1,), of which FP16
    uses the offset alone."""

    x: torch.Tensor
    weight: torch.Tensor
    multiplier: torch.Tensor
    offset: torch.Tensor
    skip: torch.Tensor | None
    skip_multiplier: torch.Tensor
    skip_factor: float
    y: torch.Tensor


Launch = Callable[[Operands], None]
"""Enqueue the convolution on the current stream."""


Plans = dict[str, bytes]
"""Serialised cuDNN plans by their names."""


def compile_plans(shape: Shape) -> tuple[Plans, str | None]:
    """All execution plans that cuDNN offers for a convolution, or why there are none.

    Needs a CUDA device and starts a context on it. Source: cuDNN's documentation of the graph API, runtime fusion
    engines.
    """
    import cudnn

    handle = _handle()
    try:
        graph = _build_graph(cudnn, handle, shape)
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.B, cudnn.heur_mode.FALLBACK])
    except (RuntimeError, cudnn.cudnnGraphNotSupportedError) as error:
        return {}, f"cuDNN has no {shape.precision} plan for it ({first_line(error)})"
    plans = {}
    for index in range(graph.get_execution_plan_count()):
        try:
            graph.build_plan_at_index(index)
            plans[graph.get_plan_name_at_index(index)] = bytes(graph.serialize())
        except (RuntimeError, cudnn.cudnnGraphNotSupportedError):
            continue
    return plans, None if plans else f"none of cuDNN's {shape.precision} plans for it could be built"


def compile_all_plans(
    shapes: Sequence[Shape], processes: int, say: Callable[[str], None]
) -> Iterator[tuple[Shape, Plans, str | None]]:
    """`compile_plans` of many shapes in processes of their own: cuDNN's compiler keeps one core busy a process."""
    processes = max(1, processes)
    share = min(SHARE, -(-len(shapes) // processes) or 1)
    shares = [shapes[start : start + share] for start in range(0, len(shapes), share)]
    done = 0
    with ThreadPoolExecutor(processes) as pool:
        for compiled, results in zip(shares, pool.map(_compile_share, shares), strict=True):
            done += len(compiled)
            say(f"cuDNN: plans of {done} of {len(shapes)} convolutions are compiled")
            for shape, (plans, reason) in zip(compiled, results, strict=True):
                yield shape, {name: base64.b64decode(plan) for name, plan in plans.items()}, reason


def _compile_share(shapes: Sequence[Shape]) -> list[tuple[dict[str, str], str | None]]:
    """Compile in a new interpreter: a fork of this one could not use CUDA once this one has."""
    request = json.dumps([asdict(shape) for shape in shapes])
    command = [sys.executable, "-m", "deepgap.runtimes.cudnn.convolutions"]
    answer = subprocess.run(command, input=request, capture_output=True, encoding="utf-8")
    if answer.returncode:
        last_line = (answer.stderr.strip() or "no message").splitlines()[-1]
        raise EngineError(f"cuDNN's plans could not be compiled ({last_line}); check the driver and cuDNN.")
    results: list[tuple[dict[str, str], str | None]] = json.loads(answer.stdout.splitlines()[-1])
    return results


def _serve_share() -> None:
    results = []
    for shape in json.load(sys.stdin):
        plans, reason = compile_plans(Shape(**shape))
        results.append(({name: base64.b64encode(plan).decode() for name, plan in plans.items()}, reason))
    print(json.dumps(results))


def _build_graph(cudnn: Any, handle: Any, shape: Shape) -> Any:
    types = cudnn.data_type
    io, sum_type = (types.HALF, types.FLOAT) if shape.half else (types.INT8, types.INT32)
    graph = cudnn.pygraph(
        handle=handle,
        io_data_type=io,
        intermediate_data_type=types.FLOAT,
        compute_data_type=types.FLOAT,
    )

    def nhwc(name: str, uid: int, batch: int, channels: int, height: int, width: int, kind: Any) -> Any:
        stride = [height * width * channels, 1, width * channels, channels]
        return graph.tensor(name=name, uid=uid, dim=[batch, channels, height, width], stride=stride, data_type=kind)

    s = shape
    x = nhwc("x", X, s.batch, s.channels, s.height, s.width, io)
    weight = nhwc("weight", WEIGHT, s.filters, s.channels, s.kernel, s.kernel, io)
    offset = nhwc("offset", OFFSET, 1, s.filters, 1, 1, types.FLOAT)

    def as_float(tensor: Any) -> Any:
        tensor.set_data_type(types.FLOAT)
        return tensor

    sums = graph.conv_fprop(
        image=x,
        weight=weight,
        padding=[s.padding, s.padding],
        stride=[s.stride, s.stride],
        dilation=[1, 1],
        compute_data_type=sum_type,
    )
    sums.set_data_type(sum_type)
    value = sums
    if not s.half:
        multiplier = nhwc("multiplier", MULTIPLIER, 1, s.filters, 1, 1, types.FLOAT)
        value = as_float(graph.mul(value, multiplier, compute_data_type=types.FLOAT))
    value = as_float(graph.add(value, offset, compute_data_type=types.FLOAT))
    if s.skip:
        skip = nhwc("skip", SKIP, s.batch, s.filters, s.out_height, s.out_width, io)
        if not s.half:
            factor = nhwc("skip_multiplier", SKIP_MULTIPLIER, 1, 1, 1, 1, types.FLOAT)
            skip = as_float(graph.mul(skip, factor, compute_data_type=types.FLOAT))
        value = as_float(graph.add(value, skip, compute_data_type=types.FLOAT))
    if s.relu:
        value = graph.relu(value, compute_data_type=types.FLOAT)
    y_stride = [s.out_height * s.out_width * s.filters, 1, s.out_width * s.filters, s.filters]
    value.set_output(True).set_data_type(io).set_uid(Y)
    value.set_dim([s.batch, s.filters, s.out_height, s.out_width]).set_stride(y_stride)
    return graph


@cache
def _handle() -> Any:
    """This process's cuDNN handle."""
    import cudnn

    return cudnn.create_handle()


def load_plan(plan: bytes, half: bool = False) -> Launch:
    """A serialised cuDNN plan as a launch. The plan is of this device and this cuDNN; `half`: it is of FP16."""
    import cudnn
    import torch

    handle = _handle()
    graph = cudnn.pygraph(handle=handle)
    graph.deserialize(handle, list(plan))
    workspace = torch.empty(max(1, graph.get_workspace_size()), dtype=torch.uint8, device="cuda")

    def launch(operands: Operands) -> None:
        cudnn.set_stream(handle=handle, stream=torch.cuda.current_stream().cuda_stream)
        tensors = {
            X: operands.x,
            WEIGHT: operands.weight,
            OFFSET: operands.offset,
            Y: operands.y,
        }
        if not half:
            tensors[MULTIPLIER] = operands.multiplier
        if operands.skip is not None:
            tensors[SKIP] = operands.skip
            if not half:
                tensors[SKIP_MULTIPLIER] = operands.skip_multiplier
        graph.execute(tensors, workspace, handle=handle)

    return launch


def possible_tiles(shape: Shape) -> list[tuple[int, ...]]:
    """The tiles of the Triton kernel that fit a convolution; none when its channels are too few or odd."""
    shape = _merge_width(shape)
    return [
        tile
        for tile in (HALF_TILES if shape.half else TILES)
        if shape.filters % tile[1] == 0 and shape.channels % tile[2] == 0 and tile[0] < 2 * max(shape.rows, 32)
    ]


def load_tile(shape: Shape, tile: Sequence[int]) -> Launch:
    """The Triton kernel with one tile as a launch."""
    import torch

    from deepgap.runtimes.cudnn.kernels import SUMS, convolve

    merged = _merge_width(shape)
    row_tile, filter_tile, channel_tile, warps, stages = tile
    grid = (-(-shape.rows // row_tile) * (shape.filters // filter_tile),)
    pixel_stride = shape.channels
    row_stride = shape.width * pixel_stride
    geometry = (
        shape.rows, shape.out_height, shape.out_width, shape.height, shape.width,
        shape.height * row_stride, row_stride, pixel_stride,
    )  # fmt: skip
    constants = {
        "N": shape.filters,
        "C": merged.channels,
        "R": shape.kernel,
        "S": shape.kernel * shape.channels // merged.channels,
        "STRIDE": shape.stride,
        "PAD": shape.padding,
        "SKIP": shape.skip,
        "RELU": shape.relu,
        "DENSE": shape.kernel == 1 and shape.stride == 1,
        "HALF": shape.half,
        "SUM": SUMS[torch.float16 if shape.half else torch.int8],
        "BLOCK_M": row_tile,
        "BLOCK_N": filter_tile,
        "BLOCK_K": channel_tile,
        "num_warps": warps,
        "num_stages": stages,
    }

    def launch(o: Operands) -> None:
        skip = o.x if o.skip is None else o.skip
        convolve[grid](o.x, o.weight, o.multiplier, o.offset, skip, o.skip_factor, o.y, *geometry, **constants)

    return launch


def _merge_width(shape: Shape) -> Shape:
    """Without padding, a row of the kernel reads contiguous bytes: its taps can stand as channels of one tap."""
    if shape.padding == 0 and shape.channels < WIDTH_MULTIPLE:
        return replace(shape, channels=shape.channels * shape.kernel)
    return shape


def load_candidate(candidate: Mapping[str, Any], shape: Shape, plans: Mapping[str, bytes]) -> Launch:
    """The launch of a candidate; `plans` holds the serialised cuDNN plans by their key."""
    if candidate["kernel"] == "triton":
        return load_tile(shape, candidate["tile"])
    return load_plan(plans[candidate["plan"]], shape.half)


if __name__ == "__main__":
    _serve_share()
