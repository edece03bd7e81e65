"""INT8 and FP16 without TensorRT: a residual network as one fused kernel a convolution, chosen by timing, in one CUDA
graph. Both precisions have the same steps, candidates and search, so that their ratio is that of the precision.

Each convolution runs the fastest of cuDNN's execution plans and of the tiles of a Triton kernel, found for each batch
size on the device itself. Pooling and the quantisation of the input are Triton kernels; the classifier is an FP16
matrix product of PyTorch.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from deepgap.build.engine_file import Engine, read_engine, write_engine
from deepgap.errors import EngineError, UnsupportedError, first_line
from deepgap.runtimes import BuildRequest, Call, Inputs, Runtime
from deepgap.runtimes.capture import capture
from deepgap.runtimes.packages import pytorch

if TYPE_CHECKING:
    import torch

    Forward = Callable[[torch.Tensor], torch.Tensor]

    from deepgap.runtimes.cudnn.convolutions import Launch, Operands, Plans, Shape
    from deepgap.runtimes.cudnn.lowering import Program

BUILD_PROCESSES = 32
BENCH_MS = 2
"""Each candidate is timed in ten replays of a CUDA graph of this length."""

SAME_RESULT = 1e-4
"""Share of INT8 values that may differ, by rounding of exact ties, between two kernels of one convolution."""

HALF_TOLERANCE = 2**-9
"""Of two FP16 kernels: four units in the last place, or as much of one, since they sum in different orders."""

PACKED_CHANNELS = 16
PACKED_KERNEL = 4


@dataclass(frozen=True)
class Options:
    """cuda_graph: replay each inference as one CUDA graph."""

    cuda_graph: bool = True


def libraries() -> dict[str, str]:
    return pytorch("cudnn", "nvidia-cudnn-frontend", "triton")


@dataclass(frozen=True)
class Layer:
    """A step of the network with its geometry for one image."""

    op: str
    name: str
    x: str
    skip: str | None
    y: str
    height: int
    width: int
    channels: int
    filters: int
    kernel: int
    stride: int
    padding: int
    relu: bool
    skip_multiplier: float
    precision: str = "int8"

    def shape(self, batch: int) -> Shape:
        from deepgap.runtimes.cudnn.convolutions import Shape

        return Shape(
            batch,
            self.height,
            self.width,
            self.channels,
            self.filters,
            self.kernel,
            self.stride,
            self.padding,
            self.skip is not None,
            self.relu,
            self.precision,
        )


def preload() -> None:
    import cudnn  # noqa: F401

    import deepgap.runtimes.cudnn.convolutions  # noqa: F401
    import deepgap.runtimes.cudnn.kernels  # noqa: F401


def build(request: BuildRequest) -> Engine:
    """Lower the graph, compile and time every candidate of every convolution, keep the fastest.

    Raises:
        GraphError: the graph is damaged, or neither quantised nor in FP16.
        UnsupportedError: it is not a residual network, or a convolution has no kernel on this device.
    """
    from deepgap.build.quantize.network import read_graph
    from deepgap.runtimes.cudnn.lowering import Convolution, lower, lower_half

    half = request.precision == "fp16"
    network = (lower_half if half else lower)(read_graph(request.graph))
    layers = list(_layers(network, request.image_size, request.precision))
    shapes = {layer.name: layer.shape(request.batch_size) for layer in layers if layer.op == "convolution"}
    found, plans = _choose(list(dict.fromkeys(shapes.values())), request)
    choices = {name: found[shape] for name, shape in shapes.items()}

    parts: dict[str, np.ndarray] = {
        "head_weight": network.head.weight.astype(np.float16),
        "head_bias": network.head.bias.astype(np.float16),
    }
    for step, layer in zip(network.steps, layers, strict=True):
        if isinstance(step, Convolution):
            packed = _pack_weight(step.weight) if layer.x == "packed" else step.weight
            parts |= {
                f"weight:{step.name}": packed,
                f"multiplier:{step.name}": step.multiplier,
                f"offset:{step.name}": step.offset,
            }
    used = {choice["plan"] for choice in choices.values() if choice["kernel"] == "cudnn"}
    parts |= {f"plan:{key}": np.frombuffer(plans[key], np.uint8) for key in used}
    about = {
        "layers": [asdict(layer) for layer in layers],
        "input_scale": network.input_scale,
        "head": {"x": network.head.x, "scale": network.head.scale},
        "image_size": request.image_size,
        "batch_size": request.batch_size,
        "choices": choices,
        "precision": request.precision,
        "layers_by_precision": {"fp16": len(layers) + 1} if half else {"int8": len(layers), "fp16": 1},
        "kernels": dict(sorted(Counter(choice["kernel"] for choice in choices.values()).items())),
    }
    return Engine(parts, about)


def _layers(network: Program, image_size: int, precision: str = "int8") -> Iterator[Layer]:
    """The network's steps with the sizes of their inputs. The first convolution reads the packed image."""
    from deepgap.runtimes.cudnn.lowering import INPUT, Convolution

    sizes: dict[str, tuple[int, int]] = {INPUT: (image_size, 3)}
    for step in network.steps:
        size, channels = sizes[step.x]
        if not isinstance(step, Convolution):
            sizes[step.y] = ((size + 2 - 3) // 2 + 1, channels)
            yield Layer(
                "max_pool",
                step.name,
                step.x,
                None,
                step.y,
                size,
                size,
                channels,
                channels,
                3,
                2,
                1,
                False,
                0,
                precision,
            )
            continue
        filters, kernel, _, weight_channels = step.weight.shape
        sizes[step.y] = ((size + 2 * step.padding - kernel) // step.stride + 1, filters)
        x, stride, padding = step.x, step.stride, step.padding
        if x == INPUT:
            if (kernel, stride, padding, weight_channels) != (7, 2, 3, 3) or size % 2:
                raise UnsupportedError(
                    f"The convolution {step.name} on the image is not 7 x 7 with stride 2 on 3 channels of even "
                    "size, as the cudnn runtime needs."
                )
            x, stride, padding, kernel = "packed", 1, 0, PACKED_KERNEL
            size, channels = size // 2 + PACKED_KERNEL - 1, PACKED_CHANNELS
        yield Layer(
            "convolution", step.name, x, step.skip, step.y, size, size, channels, filters, kernel, stride, padding,
            step.relu, step.skip_multiplier, precision,
        )  # fmt: skip


def _pack_weight(weight: np.ndarray) -> np.ndarray:
    """The 7 x 7 x 3 weight as the 4 x 4 x 16 weight for images packed by `kernels.pack_input`, (filters, 4, 4, 16).

    A leading zero row and column make the kernel 8 x 8, of which each 2 x 2 becomes 12 channels.
    """
    filters = len(weight)
    padded = np.pad(weight, ((0, 0), (1, 0), (1, 0), (0, 0)))
    blocks = padded.reshape(filters, 4, 2, 4, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(filters, 4, 4, 12)
    return np.ascontiguousarray(np.pad(blocks, ((0, 0), (0, 0), (0, 0), (0, PACKED_CHANNELS - 12))))


def _choose(shapes: Sequence[Shape], request: BuildRequest) -> tuple[dict[Shape, dict[str, Any]], dict[str, bytes]]:
    """The fastest candidate of each shape, and the serialised cuDNN plans by their key.

    Shapes that the timing cache knows are not timed again; the others are added to it.
    """
    from deepgap.host import host_threads
    from deepgap.runtimes.cudnn.convolutions import compile_all_plans

    known, plans = _read_timing_cache(request)
    unknown = [shape for shape in shapes if str(shape) not in known]
    # All compiling comes first, because it would disturb the timing.
    compiled = list(compile_all_plans(unknown, min(host_threads(), BUILD_PROCESSES), request.say))
    for done, (shape, found, reason) in enumerate(compiled, 1):
        choice = _fastest(shape, found, reason, request.say)
        if choice["kernel"] == "cudnn":
            plan = found[choice["name"]]
            choice["plan"] = hashlib.sha256(plan).hexdigest()[:16]
            plans[choice["plan"]] = plan
        known[str(shape)] = choice
        if done % 20 == 0 or done == len(compiled):
            request.say(f"{done} of {len(compiled)} convolutions are timed")
    if unknown:
        parts = {f"plan:{key}": np.frombuffer(plan, np.uint8) for key, plan in plans.items()}
        write_engine(request.timing_cache, Engine(parts, {"choices": known}), request.identity)
    return {shape: known[str(shape)] for shape in shapes}, plans


def _read_timing_cache(request: BuildRequest) -> tuple[dict[str, dict[str, Any]], dict[str, bytes]]:
    if not request.timing_cache.exists():
        return {}, {}
    try:
        cache = read_engine(request.timing_cache, request.identity)
    except EngineError as error:
        request.say(f"The timing cache is not used: {error}")
        return {}, {}
    plans = {name.removeprefix("plan:"): part.tobytes() for name, part in cache.parts.items()}
    choices = dict(cache.about.get("choices", {}))
    return {shape: choice for shape, choice in choices.items() if choice.get("plan") in {None, *plans}}, plans


def _fastest(shape: Shape, plans: Plans, reason: str | None, say: Callable[[str], None]) -> dict[str, Any]:
    """Time all candidates of a shape on random operands and return the fastest, with the times of all.

    Raises:
        UnsupportedError: nothing on this device can run it.
    """
    import torch
    from triton.testing import do_bench_cudagraph

    from deepgap.runtimes.cudnn.convolutions import load_plan, load_tile, possible_tiles

    reasons = [] if reason is None else [reason]
    launches: list[tuple[dict[str, Any], Launch]] = [
        ({"kernel": "triton", "name": f"tile {tile}", "tile": tile}, load_tile(shape, tile))
        for tile in possible_tiles(shape)
    ]
    launches += [({"kernel": "cudnn", "name": name}, load_plan(plan, shape.half)) for name, plan in plans.items()]

    operands = _random_operands(shape)
    tiles = [launch for candidate, launch in launches if candidate["kernel"] == "triton"]
    # The first launch of a tile compiles it, which threads can do side by side.
    with ThreadPoolExecutor(BUILD_PROCESSES) as pool:
        list(pool.map(lambda launch: _failure(partial(launch, operands)), tiles))
    torch.cuda.synchronize()

    expected: torch.Tensor | None = None
    timed: list[tuple[float, dict[str, Any]]] = []
    for candidate, launch in launches:
        run = partial(launch, operands)
        operands.y.fill_(77)
        failure = _failure(run)
        if failure is not None:
            reasons.append(f"{candidate['name']} failed ({failure})")
            continue
        if expected is None:
            expected = operands.y.clone()
        elif not _same(operands.y, expected):
            say(f"{shape}: {candidate['name']} of {candidate['kernel']} gives another result and is left out.")
            continue
        timed.append((do_bench_cudagraph(run, rep=BENCH_MS, return_mode="median") * 1e3, candidate))
    if not timed:
        raise UnsupportedError(
            f"This device has no {shape.precision} kernel for the convolution {shape}: {'; '.join(reasons)}."
        )
    timed.sort(key=lambda entry: entry[0])
    return timed[0][1] | {
        "microseconds": timed[0][0],
        "timed": [[candidate["kernel"], candidate["name"], round(us, 3)] for us, candidate in timed],
    }


def _failure(run: Callable[[], None]) -> str | None:
    """Run once; why it could not, in a line."""
    try:
        run()
    except Exception as error:
        return first_line(error)
    return None


def _same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether two kernels agree, in INT8 up to the rounding of ties, in FP16 up to that of sums."""
    import torch

    if found.dtype == torch.float16:
        allowed = HALF_TOLERANCE * expected.float().abs().clamp(min=1)
        return bool(((found.float() - expected.float()).abs() <= allowed).all())
    difference = (found.to(torch.int16) - expected.to(torch.int16)).abs()
    return bool(difference.max() <= 1) and bool((difference > 0).float().mean() <= SAME_RESULT)


def _random_operands(shape: Shape) -> Operands:
    """Operands whose results use the range of int8 without saturating much, or are of unit size in FP16."""
    import torch

    from deepgap.runtimes.cudnn.convolutions import Operands

    generator = torch.Generator("cuda").manual_seed(0)

    def values(*size: int) -> torch.Tensor:
        if shape.half:
            return torch.randn(size, device="cuda", generator=generator).half()
        return torch.randint(-127, 128, size, dtype=torch.int8, device="cuda", generator=generator)

    taps = shape.channels * shape.kernel**2
    spread = 127 * 127 / 3 * taps**0.5
    weight = values(shape.filters, shape.kernel, shape.kernel, shape.channels)
    ones = torch.ones(shape.filters, device="cuda")
    out = (shape.batch, shape.out_height, shape.out_width, shape.filters)
    return Operands(
        x=values(shape.batch, shape.height, shape.width, shape.channels),
        weight=weight / taps**0.5 if shape.half else weight,
        multiplier=ones * (40 / spread),
        offset=ones,
        skip=values(*out) if shape.skip else None,
        skip_multiplier=torch.full((1,), 0.37, device="cuda"),
        skip_factor=0.37,
        y=torch.empty(out, dtype=weight.dtype, device="cuda"),
    )


def prepare(engine: Engine, inputs: Inputs, options: Mapping[str, Any]) -> Call:
    """Load the engine's kernels for the batch size of `inputs` (contiguous) and capture a graph for each.

    Raises:
        EngineError: the engine was built for another batch size.
    """
    batch, built = inputs[0].shape[0], engine.about["batch_size"]
    if batch != built:
        raise EngineError(f"The engine was built for batch size {built}, but {batch} was asked for; build it anew.")
    forward = load_forward(engine, inputs[0].device)
    return capture(forward, inputs) if Options(**options).cuda_graph else lambda index: forward(inputs[index])


def load_forward(engine: Engine, device: torch.device) -> Forward:
    """The whole network at its batch size: images of shape (batch, 3, size, size), float32 for INT8 and float16 for
    FP16, to float16 logits."""
    import torch

    from deepgap.runtimes.cudnn import kernels
    from deepgap.runtimes.cudnn.convolutions import Operands, load_candidate

    about = engine.about
    layers = [Layer(**layer) for layer in about["layers"]]
    batch, choices = about["batch_size"], about["choices"]
    plans = {name.removeprefix("plan:"): part.tobytes() for name, part in engine.parts.items() if name[:5] == "plan:"}
    arrays = {
        name: torch.from_numpy(part.copy()).to(device) for name, part in engine.parts.items() if name[:5] != "plan:"
    }
    launches = {}
    for layer in layers:
        if layer.op == "convolution" and layer.shape(batch) not in launches:
            launches[layer.shape(batch)] = load_candidate(choices[layer.name], layer.shape(batch), plans)
    factors = {
        layer.name: torch.full((1,), layer.skip_multiplier, device=device)
        for layer in layers
        if layer.skip is not None
    }
    unused = torch.zeros(1, device=device)
    last_use = {
        tensor: place for place, layer in enumerate(layers) for tensor in (layer.x, layer.skip) if tensor is not None
    }
    last_use[about["head"]["x"]] = len(layers)
    size = about["image_size"]
    packed_size = size // 2 + PACKED_KERNEL - 1

    own_type = torch.float16 if about["precision"] == "fp16" else torch.int8

    def empty(*shape: int, dtype: torch.dtype = own_type) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    def forward(images: torch.Tensor) -> torch.Tensor:
        values = {"packed": empty(batch, packed_size, packed_size, PACKED_CHANNELS)}
        kernels.pack(images, values["packed"], 1 / about["input_scale"])
        for place, layer in enumerate(layers):
            x = values[layer.x]
            if layer.op == "max_pool":
                y = empty(batch, (layer.height - 1) // 2 + 1, (layer.width - 1) // 2 + 1, layer.channels)
                kernels.pool_maximum(x, y)
            else:
                shape = layer.shape(batch)
                y = empty(batch, shape.out_height, shape.out_width, layer.filters)
                operands = Operands(
                    x=x,
                    weight=arrays[f"weight:{layer.name}"],
                    multiplier=arrays[f"multiplier:{layer.name}"],
                    offset=arrays[f"offset:{layer.name}"],
                    skip=None if layer.skip is None else values[layer.skip],
                    skip_multiplier=factors.get(layer.name, unused),
                    skip_factor=layer.skip_multiplier,
                    y=y,
                )
                launches[shape](operands)
            values[layer.y] = y
            for tensor in (layer.x, layer.skip):
                if tensor is not None and last_use[tensor] == place:
                    del values[tensor]
        features = empty(batch, arrays["head_weight"].shape[1], dtype=torch.float16)
        kernels.pool_average(values[about["head"]["x"]], features, about["head"]["scale"])
        return torch.nn.functional.linear(features, arrays["head_weight"], arrays["head_bias"])

    return forward


RUNTIME = Runtime(
    precisions=frozenset({"fp16", "int8"}),
    devices=frozenset({"cuda"}),
    prepare=prepare,
    source="engine",
    build=build,
    options=Options,
    preload=preload,
    libraries=libraries,
)
