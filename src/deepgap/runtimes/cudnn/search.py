"""The fastest way to run each convolution, found by timing every candidate on the device itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from deepgap.build.engine_file import Engine, read_engine, write_engine
from deepgap.errors import EngineError, UnsupportedError, first_line
from deepgap.runtimes import BuildRequest

if TYPE_CHECKING:
    import torch

    from deepgap.runtimes.cudnn.convolutions import Launch, Operands, Plans, Shape

BUILD_PROCESSES = 32
BENCH_MS = 2
"""Each candidate is timed in ten replays of a CUDA graph of this length."""

SAME_RESULT = 1e-4
"""Share of INT8 values that may differ, by rounding of exact ties, between two kernels of one convolution."""

HALF_TOLERANCE = 2**-9
"""Of two FP16 kernels: four units in the last place, or as much of one, since they sum in different orders."""


def choose(shapes: Sequence[Shape], request: BuildRequest) -> tuple[dict[Shape, dict[str, Any]], dict[str, bytes]]:
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
