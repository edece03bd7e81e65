"""The Triton kernels compute what their docstrings say, and the arithmetic around a convolution is right.

The kernels run in Triton's interpreter, which must be asked for before Triton is imported: this file is also a
program that runs all cases there. Scales are powers of two, so that float32 is exact and results are equal, not near.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepgap.errors import EngineError
from deepgap.runtimes.cudnn import convolutions
from deepgap.runtimes.cudnn.convolutions import TILES, Operands, Shape, load_candidate, load_tile, possible_tiles
from tests.conftest import ROOT

pytestmark = pytest.mark.xdist_group("kernels")

needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

UNTOUCHED = 77
"""What every output holds before a kernel writes it."""


def integers(rng: np.random.Generator, *size: int) -> np.ndarray:
    return rng.integers(-128, 128, size).astype(np.int8)


def saturate(value: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(value), -128, 127).astype(np.int8)


@dataclass(frozen=True)
class Convolve:
    """A convolution on one tile, with numbers that depend on nothing but the shape."""

    shape: Shape
    tile: tuple[int, ...]
    skip_factor: float = 0.375

    def arrays(self) -> dict[str, np.ndarray]:
        """x, skip and the result NHWC; half of the filters meet many ties and both ends of int8."""
        s, rng = self.shape, np.random.default_rng(self.shape.channels)
        finest = int(np.log2(s.channels * s.kernel**2)) // 2 + 7
        return {
            "x": integers(rng, s.batch, s.height, s.width, s.channels),
            "weight": integers(rng, s.filters, s.kernel, s.kernel, s.channels),
            "multiplier": 2.0 ** -rng.integers(finest - 3, finest + 2, s.filters).astype(np.float32),
            "offset": rng.integers(-64, 64, s.filters).astype(np.float32) / 2,
            "skip": integers(rng, s.batch, s.out_height, s.out_width, s.filters),
        }

    def expected(self) -> np.ndarray:
        s, a = self.shape, self.arrays()
        x, weight = (torch.from_numpy(a[name].astype(np.float64)).permute(0, 3, 1, 2) for name in ("x", "weight"))
        sums = torch.nn.functional.conv2d(x, weight, stride=s.stride, padding=s.padding)
        value = sums.permute(0, 2, 3, 1).numpy() * a["multiplier"] + a["offset"]
        if s.skip:
            value = value + a["skip"] * self.skip_factor
        return saturate(np.maximum(value, 0) if s.relu else value)

    def run(self, device: str) -> np.ndarray:
        s = self.shape
        a = {name: torch.from_numpy(values).to(device) for name, values in self.arrays().items()}
        y = torch.full((s.batch, s.out_height, s.out_width, s.filters), UNTOUCHED, dtype=torch.int8, device=device)
        factor = torch.full((1,), self.skip_factor, device=device)
        skip = a["skip"] if s.skip else None
        operands = Operands(a["x"], a["weight"], a["multiplier"], a["offset"], skip, factor, self.skip_factor, y)
        load_candidate({"kernel": "triton", "tile": list(self.tile)}, s, {})(operands)
        return y.cpu().numpy()


@dataclass(frozen=True)
class Rounding:
    """Every half in and around the range of int8: one product a value, so that the result is x / 2 + offset."""

    relu: bool = False

    def arrays(self) -> dict[str, np.ndarray]:
        x = np.zeros((1, 16, 16, 64), np.int8)
        x[..., 0] = np.arange(-128, 128).reshape(1, 16, 16)
        weight = np.zeros((64, 1, 1, 64), np.int8)
        weight[:, :, :, 0] = 1
        offset = np.linspace(-96, 94.5, 64, dtype=np.float32).round()
        return {"x": x, "weight": weight, "multiplier": np.full(64, 0.5, np.float32), "offset": offset}

    def expected(self) -> np.ndarray:
        a = self.arrays()
        value = a["x"][..., :1] * 0.5 + a["offset"]
        return saturate(np.maximum(value, 0) if self.relu else value)

    def run(self, device: str) -> np.ndarray:
        a = {name: torch.from_numpy(values).to(device) for name, values in self.arrays().items()}
        y = torch.full((1, 16, 16, 64), UNTOUCHED, dtype=torch.int8, device=device)
        shape = Shape(1, 16, 16, 64, 64, 1, 1, 0, False, self.relu)
        unused = torch.zeros(1, device=device)
        operands = Operands(a["x"], a["weight"], a["multiplier"], a["offset"], None, unused, 0.0, y)
        load_tile(shape, (64, 64, 64, 4, 3))(operands)
        return y.cpu().numpy()


@dataclass(frozen=True)
class Pack:
    batch: int
    height: int
    width: int
    inverse_scale: float = 32.0

    def images(self) -> np.ndarray:
        """Many halves of a step, and values beyond both ends."""
        rng = np.random.default_rng(self.width)
        steps = rng.integers(-300, 300, (self.batch, 3, self.height, self.width)) / 2
        return (steps / self.inverse_scale).astype(np.float32)

    def expected(self) -> np.ndarray:
        steps = saturate(self.images() * self.inverse_scale)
        packed = np.zeros((self.batch, self.height // 2 + 3, self.width // 2 + 3, 16), np.int8)
        for y, x, colour in product(range(self.height), range(self.width), range(3)):
            packed[:, 2 + y // 2, 2 + x // 2, (y % 2 * 2 + x % 2) * 3 + colour] = steps[:, colour, y, x]
        return packed

    def run(self, device: str) -> np.ndarray:
        from deepgap.runtimes.cudnn import kernels

        shape = (self.batch, self.height // 2 + 3, self.width // 2 + 3, 16)
        packed = torch.full(shape, UNTOUCHED, dtype=torch.int8, device=device)
        kernels.pack(torch.from_numpy(self.images()).to(device), packed, self.inverse_scale)
        return packed.cpu().numpy()


@dataclass(frozen=True)
class Maximum:
    batch: int
    height: int
    width: int
    channels: int
    largest: int = 127

    def x(self) -> np.ndarray:
        rng = np.random.default_rng(self.height)
        size = (self.batch, self.height, self.width, self.channels)
        return rng.integers(-128, self.largest + 1, size).astype(np.int8)

    def expected(self) -> np.ndarray:
        out_height, out_width = (self.height + 1) // 2, (self.width + 1) // 2
        found = np.empty((self.batch, out_height, out_width, self.channels), np.int8)
        for line, column in product(range(out_height), range(out_width)):
            rows = slice(max(0, 2 * line - 1), 2 * line + 2)
            columns = slice(max(0, 2 * column - 1), 2 * column + 2)
            found[:, line, column] = self.x()[:, rows, columns].max((1, 2))
        return found

    def run(self, device: str) -> np.ndarray:
        from deepgap.runtimes.cudnn import kernels

        shape = (self.batch, (self.height + 1) // 2, (self.width + 1) // 2, self.channels)
        y = torch.full(shape, UNTOUCHED, dtype=torch.int8, device=device)
        kernels.pool_maximum(torch.from_numpy(self.x()).to(device), y)
        return y.cpu().numpy()


@dataclass(frozen=True)
class Average:
    batch: int
    height: int
    width: int
    channels: int
    scale: float = 0.0371

    def x(self) -> np.ndarray:
        rng = np.random.default_rng(self.channels)
        x = integers(rng, self.batch, self.height, self.width, self.channels)
        x[..., 0] = -128
        return x

    def expected(self) -> np.ndarray:
        """float64: the kernel's float16 is near it."""
        return self.x().astype(np.float64).mean((1, 2)) * self.scale

    def run(self, device: str) -> np.ndarray:
        from deepgap.runtimes.cudnn import kernels

        y = torch.full((self.batch, self.channels), float("nan"), dtype=torch.float16, device=device)
        kernels.pool_average(torch.from_numpy(self.x()).to(device), y, self.scale)
        return y.cpu().numpy()


SMALL, WIDE, DEEP = (32, 64, 64, 4, 3), (64, 128, 64, 4, 3), (32, 64, 128, 4, 4)


def shape(
    *, batch: int = 2, size: tuple[int, int] = (6, 9), channels: int = 64, filters: int = 64, kernel: int = 1,
    stride: int = 1, padding: int = 0, skip: bool = False, relu: bool = False,
) -> Shape:  # fmt: skip
    return Shape(batch, *size, channels, filters, kernel, stride, padding, skip, relu)


# The rows of the outputs are no multiple of a tile's, so that every case has a tile that hangs over.
CONVOLUTIONS = {
    "1x1": Convolve(shape(channels=128, filters=128), SMALL),
    "1x1 in one step": Convolve(shape(channels=128), DEEP),
    "1x1 on one row block": Convolve(shape(batch=1, size=(3, 3)), SMALL),
    "1x1 with skip": Convolve(shape(channels=128, skip=True), SMALL),
    "1x1 with skip and relu": Convolve(shape(filters=256, skip=True, relu=True), WIDE),
    "1x1 stride 2": Convolve(shape(size=(6, 10), stride=2, filters=128), SMALL),
    "1x1 stride 2 on an odd image": Convolve(shape(size=(7, 9), stride=2, channels=128), SMALL),
    "3x3": Convolve(shape(kernel=3, padding=1), SMALL),
    "3x3 with relu": Convolve(shape(kernel=3, padding=1, channels=128, filters=128, relu=True), SMALL),
    "3x3 with skip and relu": Convolve(shape(kernel=3, padding=1, channels=128, skip=True, relu=True), DEEP),
    "3x3 stride 2": Convolve(shape(size=(8, 10), kernel=3, padding=1, stride=2, filters=128), WIDE),
    "3x3 stride 2 on an odd image": Convolve(shape(batch=3, size=(9, 7), kernel=3, padding=1, stride=2), SMALL),
    "3x3 on one pixel": Convolve(shape(size=(1, 1), kernel=3, padding=1), SMALL),
    "3x3 without padding": Convolve(shape(size=(6, 7), kernel=3), SMALL),
    "stem": Convolve(shape(size=(9, 12), channels=16, kernel=4, relu=True), SMALL),
    "stem in a row of tiles": Convolve(shape(batch=3, size=(8, 11), channels=16, filters=128, kernel=4), WIDE),
    "skip of a small factor": Convolve(shape(skip=True), SMALL, skip_factor=2.0**-9),
}
EXACT = {
    **{f"convolve {name}": case for name, case in CONVOLUTIONS.items()},
    "round": Rounding(),
    "round with relu": Rounding(relu=True),
    "pack": Pack(2, 10, 14),
    "pack over two blocks": Pack(1, 4, 134),
    "pack one block and its border": Pack(2, 2, 122),
    "pack the smallest image": Pack(3, 2, 2, inverse_scale=0.25),
    "maximum": Maximum(2, 6, 10, 64),
    "maximum of an odd image": Maximum(3, 7, 5, 16),
    "maximum of negative values": Maximum(2, 5, 8, 32, largest=-100),
    "maximum of the least value": Maximum(1, 4, 4, 16, largest=-128),
    "maximum of one pixel": Maximum(2, 1, 1, 16),
}
NEAR = {
    "average of 49": Average(2, 7, 7, 128),
    "average of unequal sides": Average(3, 2, 5, 96),
    "average of one pixel": Average(2, 1, 1, 64),
    "average of a power of two": Average(1, 8, 4, 32, scale=2.5),
}


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory) -> dict[str, np.ndarray]:
    """What each case gives in the interpreter; one program runs all, because it imports PyTorch once more."""
    path = tmp_path_factory.mktemp("kernels") / "results.npz"
    command = [sys.executable, "-m", "tests.unit.test_kernels", str(path)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    with np.load(path) as results:
        return {name: results[name] for name in results.files}


@pytest.mark.parametrize("name", EXACT)
def test_a_kernel_gives_exactly_the_reference(interpreted, name):
    expected = EXACT[name].expected()
    assert interpreted[name].dtype == np.int8
    np.testing.assert_array_equal(interpreted[name], expected)


@pytest.mark.parametrize("name", NEAR)
def test_the_average_is_the_nearest_float16(interpreted, name):
    assert interpreted[name].dtype == np.float16
    np.testing.assert_allclose(interpreted[name].astype(float), NEAR[name].expected(), rtol=2**-10, atol=1e-6)


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs_gpu) for name in EXACT])
def test_a_kernel_gives_exactly_the_reference_on_a_gpu(name):
    np.testing.assert_array_equal(EXACT[name].run("cuda"), EXACT[name].expected())


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs_gpu) for name in NEAR])
def test_the_average_is_the_nearest_float16_on_a_gpu(name):
    np.testing.assert_allclose(NEAR[name].run("cuda").astype(float), NEAR[name].expected(), rtol=2**-10, atol=1e-6)


def test_the_cases_reach_both_ends_and_every_tie():
    """What the references hold; otherwise equality would show little."""
    for name, case in CONVOLUTIONS.items():
        share = np.mean(np.abs(case.expected()) > 126)
        assert 0 < share < 0.5, name
        assert len(np.unique(case.expected())) > 40, name
    rounded = Rounding().expected()
    assert {-128, -127, 126, 127} <= set(rounded.ravel().tolist())
    images = np.concatenate(
        [case.images().ravel() * case.inverse_scale for case in EXACT.values() if hasattr(case, "images")]
    )
    assert {0.5, 1.5, -0.5, -1.5, 126.5, 127.5, -127.5, -128.5, 149.5, -150.0} <= set(images.tolist())


# The geometry of a convolution

sides = st.integers(1, 9)


@st.composite
def shapes(draw: st.DrawFn, kernels: tuple[int, ...] = (1, 2, 3, 4, 7)) -> Shape:
    kernel = draw(st.sampled_from(kernels))
    padding = draw(st.integers(0, kernel // 2))
    height, width = (draw(st.integers(max(1, kernel - 2 * padding), 12)) for _ in range(2))
    return Shape(
        draw(st.integers(1, 3)), height, width, draw(st.integers(1, 4)), draw(st.integers(1, 4)), kernel,
        draw(st.sampled_from((1, 2))), padding, draw(st.booleans()), draw(st.booleans()),
    )  # fmt: skip


def windows(size: int, s: Shape) -> list[list[int]]:
    """The pixels of an axis that each output reads; None stands for padding."""
    padded = [None] * s.padding + list(range(size)) + [None] * s.padding
    starts = range(0, len(padded) - s.kernel + 1, s.stride)
    return [padded[start : start + s.kernel] for start in starts]


@given(shapes())
def test_sizes_and_operations_are_those_of_the_sum(s):
    rows, columns = windows(s.height, s), windows(s.width, s)
    assert (s.out_height, s.out_width) == (len(rows), len(columns))
    assert s.rows == s.batch * len(rows) * len(columns)
    products = s.rows * s.filters * sum(1 for _ in product(rows[0], columns[0], range(s.channels)))
    assert s.operations == 2 * products


@given(shapes((1, 2, 3, 7)).filter(lambda s: s.kernel > 1 or s.stride == 1 or s.height % 2 == s.width % 2 == 0))
def test_bytes_are_those_of_the_pixels_that_are_used(s):
    def used(size: int) -> int:
        return len({pixel for window in windows(size, s) for pixel in window} - {None})

    # A 2 x 2 or 3 x 3 kernel may leave the last row out; its bytes come with their neighbours all the same.
    height, width = (used(s.height), used(s.width)) if s.kernel == 1 else (s.height, s.width)
    read = s.batch * height * width * s.channels
    written = s.batch * s.out_height * s.out_width * s.filters
    weights = s.filters * s.kernel * s.kernel * s.channels
    assert s.bytes == read + weights + written + (written if s.skip else 0)


def test_a_shape_of_resnet50():
    """layer2.0.conv2 at batch 8: 3 x 3, stride 2, 56 x 56 x 128."""
    s = shape(batch=8, size=(56, 56), channels=128, filters=128, kernel=3, stride=2, padding=1, relu=True)
    assert (s.out_height, s.out_width, s.rows) == (28, 28, 6272)
    assert s.operations == 1_849_688_064
    assert s.bytes == 3_211_264 + 147_456 + 802_816


# Tiles


def test_tiles_must_divide_filters_and_channels():
    s = shape(batch=8, size=(56, 56), channels=64, filters=64)
    assert {tile[:3] for tile in possible_tiles(s)} == {(64, 64, 64), (128, 64, 64), (256, 64, 64)}
    assert {tile[1] for tile in possible_tiles(replace(s, filters=128))} == {64, 128}
    assert {tile[2] for tile in possible_tiles(replace(s, channels=128))} == {64, 128}
    assert possible_tiles(replace(s, filters=96)) == []
    assert possible_tiles(replace(s, channels=96)) == []
    assert possible_tiles(replace(s, channels=3, kernel=7, padding=3)) == []
    assert possible_tiles(replace(s, channels=256, filters=256)) == list(TILES)


def test_the_stem_takes_its_width_as_channels():
    s = shape(batch=8, size=(115, 115), channels=16, kernel=4)
    assert {tile[2] for tile in possible_tiles(s)} == {64}
    assert possible_tiles(replace(s, padding=1)) == []


@pytest.mark.parametrize(
    ("rows", "tallest"), [(1, 32), (32, 32), (33, 64), (64, 64), (65, 128), (128, 128), (129, 256)]
)
def test_a_tile_is_not_twice_as_tall_as_the_output(rows, tallest):
    s = shape(batch=1, size=(1, rows), channels=128, filters=256)
    assert max(tile[0] for tile in possible_tiles(s)) == tallest


@pytest.mark.parametrize(
    ("s", "tile", "grid", "geometry", "constants"),
    [
        (
            shape(batch=2, size=(6, 9), channels=128, filters=256),
            (32, 64, 128, 4, 2),
            4 * 4,
            (108, 6, 9, 6, 9, 6 * 9 * 128, 9 * 128, 128),
            {"N": 256, "C": 128, "R": 1, "S": 1, "STRIDE": 1, "PAD": 0, "DENSE": True, "num_stages": 2},
        ),
        (
            shape(batch=2, size=(6, 9), stride=2),
            (32, 64, 64, 4, 3),
            1,
            (30, 3, 5, 6, 9, 6 * 9 * 64, 9 * 64, 64),
            {"C": 64, "R": 1, "S": 1, "STRIDE": 2, "PAD": 0, "DENSE": False},
        ),
        (
            shape(batch=1, size=(8, 8), kernel=3, padding=1, skip=True, relu=True),
            (32, 64, 64, 8, 3),
            2,
            (64, 8, 8, 8, 8, 8 * 8 * 64, 8 * 64, 64),
            {"C": 64, "R": 3, "S": 3, "PAD": 1, "DENSE": False, "SKIP": True, "RELU": True, "num_warps": 8},
        ),
        (
            shape(batch=1, size=(11, 13), channels=16, kernel=4),
            (32, 64, 64, 4, 3),
            3,
            (80, 8, 10, 11, 13, 11 * 13 * 16, 13 * 16, 16),
            {"C": 64, "R": 4, "S": 1, "PAD": 0, "DENSE": False, "SKIP": False, "RELU": False},
        ),
    ],
    ids=["1x1", "1x1 stride 2", "3x3", "stem"],
)
def test_the_kernel_is_told_the_geometry(monkeypatch, s, tile, grid, geometry, constants):
    from deepgap.runtimes.cudnn import kernels

    told = {}

    class Recorder:
        def __getitem__(self, launched):
            def record(*arguments, **constants):
                told.update(grid=launched, arguments=arguments, constants=constants)

            return record

    monkeypatch.setattr(kernels, "convolve", Recorder())
    names = ("x", "weight", "multiplier", "offset", "skip", "skip_multiplier", "y")
    tensors = {name: torch.zeros(1) for name in names}
    tensors["skip"] = tensors["skip"] if s.skip else None
    load_tile(s, tile)(Operands(**tensors, skip_factor=0.25))
    x, weight, multiplier, offset, skip, factor, y, *rest = told["arguments"]
    assert told["grid"] == (grid,)
    assert tuple(rest) == geometry
    assert constants.items() <= told["constants"].items()
    assert [told["constants"][f"BLOCK_{axis}"] for axis in "MNK"] == list(tile[:3])
    assert factor == 0.25
    # A pointer is needed even where no skip is read.
    assert skip is (tensors["skip"] if s.skip else x)
    given_tensors = (x, weight, multiplier, offset, y)
    wanted = (tensors[name] for name in ("x", "weight", "multiplier", "offset", "y"))
    assert all(found is tensor for found, tensor in zip(given_tensors, wanted, strict=True))


# Compiling plans in processes


def test_plans_come_back_in_order_and_in_shares(monkeypatch):
    asked, said = [], []

    def compile_share(share):
        asked.append(len(share))
        return [({"a": "AP8="}, None) if s.batch % 2 else ({}, f"no plan for {s.batch}") for s in share]

    monkeypatch.setattr(convolutions, "_compile_share", compile_share)
    wanted = [shape(batch=batch) for batch in range(1, 15)]
    found = list(convolutions.compile_all_plans(wanted, 2, said.append))
    assert sorted(asked) == [2, 6, 6]
    assert [entry[0] for entry in found] == wanted
    assert found[0][1:] == ({"a": b"\x00\xff"}, None)
    assert found[13][1:] == ({}, "no plan for 14")
    assert said[-1] == "cuDNN: plans of 14 of 14 convolutions are compiled"


def test_nothing_is_started_for_no_shapes(monkeypatch):
    monkeypatch.setattr(subprocess, "run", None)
    assert list(convolutions.compile_all_plans([], 0, print)) == []


def test_a_process_is_asked_in_json_and_its_failure_is_told_in_a_sentence(monkeypatch):
    asked = []

    def run(command, **given):
        asked.append(given["input"])
        if len(asked) == 1:
            return subprocess.CompletedProcess(command, 0, 'a warning\n[[{"a": "AP8="}, null]]\n', "")
        return subprocess.CompletedProcess(command, 1, "", "Traceback\nRuntimeError: no driver\n")

    monkeypatch.setattr(subprocess, "run", run)
    share = [shape(batch=3, kernel=3, padding=1, skip=True)]
    assert convolutions._compile_share(share) == [[{"a": "AP8="}, None]]
    (told,) = convolutions.json.loads(asked[0])
    assert Shape(**told) == share[0]
    with pytest.raises(EngineError, match=r"^cuDNN's plans could not be compiled \(RuntimeError: no driver\); .*\.$"):
        convolutions._compile_share(share)


def main(path: Path) -> None:
    """Run every case in the interpreter."""
    torch.set_num_threads(1)
    with path.open("wb") as file:
        np.savez(file, **{name: case.run("cpu") for name, case in (EXACT | NEAR).items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
