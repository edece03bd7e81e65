"""The cudnn runtime computes what the Q/DQ graph says, times each convolution once, and tells what is wrong.

Where there is no GPU, whole networks run on their Triton kernels in Triton's interpreter, which must be asked for
before Triton is imported: this file is also a program that runs them there. Building is tested with candidates that
only say which they are.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepgap.build.engine_file import Engine, read_engine, write_engine
from deepgap.build.graph_file import write_graph
from deepgap.errors import EngineError, MissingLibraryError, UnsupportedError
from deepgap.runtimes import BuildRequest, load_runtimes
from deepgap.runtimes import cudnn as runtime
from deepgap.runtimes.cudnn import convolutions, search
from deepgap.runtimes.cudnn.convolutions import Shape, compile_plans, load_plan, load_tile, possible_tiles
from deepgap.runtimes.cudnn.layers import Layer, network_layers, pack_weight
from deepgap.runtimes.cudnn.lowering import INPUT, Convolution, Head, MaxPool, Program
from deepgap.runtimes.cudnn.running import load_forward
from tests.conftest import ROOT
from tests.unit.networks import BOTTLENECKS, SIZE, images
from tests.unit.test_lowering import emulate, features, lowered, run_exactly
from tests.unit.test_placement import qdq

pytestmark = pytest.mark.xdist_group("graphs")

needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

IDENTITY = {"gpu": "Tesla T4", "libraries": {"triton": "3.8.0"}}
BATCHES = {"resnet18": 2, BOTTLENECKS: 1}
"""The interpreter is slow."""


def scenes(count: int, seed: int) -> np.ndarray:
    """Noise on one colour an image: the logits of these small networks hardly tell one noise from another."""
    colours = np.random.default_rng(seed).uniform(-2.5, 2.5, (count, 3, 1, 1))
    return (0.3 * images(count, seed) + colours).astype(np.float32)


@pytest.fixture(scope="module")
def graph(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "resnet18.onnx"
    write_graph(path, qdq("resnet18"))
    return path


@pytest.fixture
def ask(graph, tmp_path):
    """Makes a request; `said` holds what its build shows."""
    said: list[str] = []

    def make(batch_size: int = 8, identity: dict[str, object] = IDENTITY) -> BuildRequest:
        cache = tmp_path / "cache/timing.npz"
        return BuildRequest(graph, "int8", SIZE, batch_size, {}, cache, said.append, identity)

    make.said = said
    return make


@pytest.fixture
def timed(monkeypatch) -> list[Shape]:
    """The shapes that were timed, by a double that has two kinds of candidates and needs no GPU."""
    shapes: list[Shape] = []

    def compile_all(unknown, processes, say):
        assert processes >= 1
        for shape in unknown:
            yield shape, {"plan": f"plan of {shape}".encode(), "slow": b"slow plan"}, None

    def fastest(shape, plans, reason, say):
        shapes.append(shape)
        assert plans["slow"] == b"slow plan"
        if shape.kernel == 3:
            return {"kernel": "cudnn", "name": "plan", "microseconds": 1.0}
        return {"kernel": "triton", "name": "tile", "tile": list(possible_tiles(shape)[0]), "microseconds": 2.0}

    monkeypatch.setattr(convolutions, "compile_all_plans", compile_all)
    monkeypatch.setattr(search, "_fastest", fastest)
    return shapes


# Options and libraries


def test_inferences_are_cuda_graphs_unless_asked_otherwise():
    assert load_runtimes()["cudnn"].fill_options({}) == {"cuda_graph": True}


@pytest.fixture
def installed(monkeypatch) -> dict[str, str]:
    """The packages that are installed; change it as the case needs."""
    packages = {"torch": "2.14.1", "triton": "3.8.0", "nvidia-cudnn-frontend": "1.24.1", "nvidia-cudnn-cu13": "9.24"}

    def version(name: str) -> str:
        if name not in packages:
            raise metadata.PackageNotFoundError(name)
        return packages[name]

    monkeypatch.setattr(metadata, "version", version)
    return packages


def test_an_engine_is_bound_to_the_libraries_that_built_it(installed):
    cuda = {"cuda": torch.version.cuda}
    assert runtime.libraries() == installed | cuda
    installed["nvidia-cudnn-cu12"] = "9.10.0"
    assert "nvidia-cudnn-cu12" not in runtime.libraries()
    del installed["nvidia-cudnn-cu13"]
    assert runtime.libraries() == installed | cuda
    del installed["nvidia-cudnn-cu12"]
    assert runtime.libraries() == {**installed, **cuda, "cudnn": "of the system"}


@pytest.mark.parametrize("package", ["torch", "nvidia-cudnn-frontend", "triton"])
def test_a_missing_library_is_named(installed, package):
    del installed[package]
    with pytest.raises(MissingLibraryError) as missing:
        load_runtimes()["cudnn"].libraries()
    assert f"needs the package {package}, which is not installed" in str(missing.value)
    assert str(missing.value).endswith(".")


# The packed image


@settings(max_examples=40, deadline=None)
@given(
    data=st.data(),
    height=st.integers(1, 7).map(lambda half: 2 * half),
    width=st.integers(1, 7).map(lambda half: 2 * half),
    filters=st.integers(1, 3),
)
def test_the_convolution_of_the_packed_image_is_that_of_the_image(data, height, width, filters):
    image = data.draw(hnp.arrays(np.int8, (2, height, width, 3)))
    weight = data.draw(hnp.arrays(np.int8, (filters, 7, 7, 3)))
    packed = np.zeros((2, height // 2 + 3, width // 2 + 3, 16))
    for dy in range(2):
        for dx in range(2):
            channels = slice(3 * (2 * dy + dx), 3 * (2 * dy + dx) + 3)
            packed[:, 2 : 2 + height // 2, 2 : 2 + width // 2, channels] = image[:, dy::2, dx::2]

    def convolve(x: np.ndarray, weight: np.ndarray, stride: int, padding: int) -> np.ndarray:
        x, weight = (torch.from_numpy(a.astype(np.float64)).permute(0, 3, 1, 2) for a in (x, weight))
        return torch.nn.functional.conv2d(x, weight, stride=stride, padding=padding).numpy()

    found = pack_weight(weight)
    assert (found.shape, found.dtype, found.flags["C_CONTIGUOUS"]) == ((filters, 4, 4, 16), np.int8, True)
    np.testing.assert_array_equal(convolve(packed, found, 1, 0), convolve(image, weight, 2, 3))


# Layers


def convolution(name: str, x: str, y: str, weight: tuple[int, ...], **changes: object) -> Convolution:
    filters = weight[0]
    given = {"skip": None, "skip_multiplier": 0.0, "stride": 1, "padding": 0, "relu": True} | changes
    ones = np.ones(filters, np.float32)
    return Convolution(name=name, x=x, y=y, weight=np.ones(weight, np.int8), multiplier=ones, offset=ones, **given)


STEM = convolution("stem", INPUT, "a", (64, 7, 7, 3), stride=2, padding=3)


def network(*steps: Convolution | MaxPool) -> Program:
    return Program(0.1, steps, Head(steps[-1].y, 1.0, np.ones((5, 64), np.float32), np.ones(5, np.float32)))


def test_layers_know_their_sizes():
    middle = MaxPool("pool", "a", "b")
    strided = convolution("c", "b", "c", (128, 3, 3, 64), stride=2, padding=1, relu=False)
    block = convolution("d", "c", "d", (128, 1, 1, 128), skip="c", skip_multiplier=0.5)
    stem, pool, third, last = network_layers(network(STEM, middle, strided, block), 50)
    assert stem.shape(3) == Shape(3, 28, 28, 16, 64, 4, 1, 0, False, True)
    assert (stem.x, stem.y) == ("packed", "a")
    assert (pool.op, pool.x, pool.y, pool.height, pool.width, pool.channels) == ("max_pool", "a", "b", 25, 25, 64)
    assert third.shape(1) == Shape(1, 13, 13, 64, 128, 3, 2, 1, False, False)
    assert last.shape(1) == Shape(1, 7, 7, 128, 128, 1, 1, 0, True, True)
    assert (last.skip, last.skip_multiplier) == ("c", 0.5)


@pytest.mark.parametrize(
    ("stem", "size"),
    [
        (STEM, 33),
        (convolution("stem", INPUT, "a", (64, 3, 3, 3), stride=2, padding=1), 32),
        (replace(STEM, stride=1), 32),
        (replace(STEM, padding=2), 32),
        (convolution("stem", INPUT, "a", (64, 7, 7, 1), stride=2, padding=3), 32),
    ],
    ids=["odd size", "3 x 3", "stride 1", "padding 2", "one channel"],
)
def test_another_first_convolution_is_unsupported(stem, size):
    with pytest.raises(
        UnsupportedError, match=r"^The convolution stem on the image is not 7 x 7 .* runtime needs\.$"
    ):
        list(network_layers(network(stem), size))


# Building


def test_an_engine_holds_what_its_choices_need(ask, timed):
    engine = runtime.build(ask(8))
    network = lowered("resnet18")
    steps = {step.name: step for step in network.steps if isinstance(step, Convolution)}
    assert engine.about["batch_size"] == 8
    assert engine.about["choices"].keys() == steps.keys()
    plans = set()
    for name, choice in engine.about["choices"].items():
        assert choice["kernel"] == ("cudnn" if steps[name].weight.shape[1] == 3 else "triton")
        if choice["kernel"] == "cudnn":
            plans.add(choice["plan"])
            plan = engine.parts[f"plan:{choice['plan']}"].tobytes().decode()
            assert plan.startswith("plan of Shape(batch=8, ")
    assert {name for name in engine.parts if name.startswith("plan:")} == {f"plan:{key}" for key in plans}
    assert engine.about["kernels"] == {"cudnn": 16, "triton": 4}
    assert engine.about["layers_by_precision"] == {"int8": 21, "fp16": 1}
    for name, step in steps.items():
        weight = pack_weight(step.weight) if name == "conv1" else step.weight
        np.testing.assert_array_equal(engine.parts[f"weight:{name}"], weight)
        np.testing.assert_array_equal(engine.parts[f"multiplier:{name}"], step.multiplier)
        np.testing.assert_array_equal(engine.parts[f"offset:{name}"], step.offset)
    assert engine.parts["head_weight"].dtype == np.float16
    np.testing.assert_array_equal(engine.parts["head_bias"], network.head.bias.astype(np.float16))


def test_each_shape_is_timed_once(ask, timed):
    engine = runtime.build(ask(8))
    layers = [Layer(**layer) for layer in engine.about["layers"]]
    shapes = {layer.shape(8) for layer in layers if layer.op == "convolution"}
    assert len(timed) == len(set(timed)) == len(shapes) < 20
    assert set(timed) == shapes
    assert ask.said[-1] == f"{len(shapes)} of {len(shapes)} convolutions are timed"


def test_the_timing_cache_spares_what_it_knows(ask, timed):
    first = runtime.build(ask(8))
    cache = ask().timing_cache
    assert [file.name for file in cache.parent.iterdir()] == [cache.name]
    written = cache.read_bytes()
    timed.clear()
    again = runtime.build(ask(8))
    assert timed == []
    assert cache.read_bytes() == written
    assert again.about == first.about
    assert again.parts.keys() == first.parts.keys()
    assert all(np.array_equal(again.parts[name], part) for name, part in first.parts.items())

    runtime.build(ask(2))
    assert {shape.batch for shape in timed} == {2}
    assert not any("not used" in line for line in ask.said)


def test_the_timing_cache_keeps_what_other_engines_needed(ask, timed):
    runtime.build(ask(1))
    runtime.build(ask(8))
    timed.clear()
    runtime.build(ask(1))
    assert timed == []


@pytest.mark.parametrize("damage", ["truncated", "foreign", "another identity"])
def test_a_timing_cache_that_cannot_be_used_is_made_again(ask, timed, damage):
    wanted = ask(1)
    runtime.build(ask(1, {**IDENTITY, "gpu": "NVIDIA L4"} if damage == "another identity" else IDENTITY))
    cache = wanted.timing_cache
    if damage == "truncated":
        cache.write_bytes(cache.read_bytes()[:-40])
    elif damage == "foreign":
        cache.write_text("not a cache", encoding="utf-8")
    count = len(timed)
    timed.clear()
    runtime.build(wanted)
    assert len(timed) == count > 0
    (told,) = [line for line in ask.said if "not used" in line]
    assert told.startswith("The timing cache is not used: ")
    assert told.endswith(".")
    reason = (
        "was built for gpu NVIDIA L4, but Tesla T4" if damage == "another identity" else "damaged or not an engine"
    )
    assert reason in told
    timed.clear()
    runtime.build(wanted)
    assert timed == []


@pytest.mark.parametrize("kind", ["no choices", "no plans"])
def test_a_timing_cache_without_its_content_is_made_again(ask, timed, kind):
    request = ask(1)
    runtime.build(request)
    about = {} if kind == "no choices" else read_engine(request.timing_cache, IDENTITY).about
    write_engine(request.timing_cache, Engine({}, about), IDENTITY)
    timed.clear()
    runtime.build(request)
    assert timed


def test_a_failed_build_leaves_no_cache(ask, monkeypatch, timed):
    def fail(*_: object) -> None:
        raise UnsupportedError("This device has no INT8 kernel.")

    monkeypatch.setattr(search, "_fastest", fail)
    with pytest.raises(UnsupportedError):
        runtime.build(ask())
    assert not ask().timing_cache.exists()


def test_a_graph_that_cannot_be_lowered_is_not_built(ask, timed, tmp_path):
    path = tmp_path / "graph.onnx"
    model = qdq("resnet18")
    convolution = next(node for node in model.graph.node if node.name == "conv1")
    next(attribute for attribute in convolution.attribute if attribute.name == "dilations").ints[:] = [2, 2]
    write_graph(path, model)
    with pytest.raises(UnsupportedError, match="Conv conv1 has strides"):
        runtime.build(replace(ask(), graph=path))
    assert timed == []


# Timing candidates, by a double of the GPU


class Bench:
    """Candidates that write a value and take a time, on the CPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plans: dict[bytes, tuple[object, float]] = {}
        self.tiles: dict[tuple[int, ...], tuple[object, float]] = {}
        self.said: list[str] = []
        self.clock = 0.0
        self.operands = SimpleNamespace(y=torch.zeros(40_000, dtype=torch.int8))
        monkeypatch.setattr(convolutions, "possible_tiles", lambda shape: list(self.tiles))
        monkeypatch.setattr(convolutions, "load_tile", lambda shape, tile: self.launch(*self.tiles[tile]))
        monkeypatch.setattr(convolutions, "load_plan", lambda plan, half: self.launch(*self.plans[plan]))
        monkeypatch.setattr(search, "_random_operands", lambda shape: self.operands)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
        monkeypatch.setattr("triton.testing.do_bench_cudagraph", self.time)

    def launch(self, result: object, milliseconds: float):
        def run(operands: SimpleNamespace) -> None:
            if isinstance(result, Exception):
                raise result
            if result is not None:
                operands.y.copy_(torch.as_tensor(result))
            self.clock = milliseconds

        return run

    def time(self, run, rep: float, return_mode: str) -> float:
        run()
        return self.clock

    def fastest(self, reason: str | None = None) -> dict[str, object]:
        plans = {plan.decode(): plan for plan in self.plans}
        shape = Shape(1, 8, 8, 64, 64, 3, 1, 1, False, True)
        return search._fastest(shape, plans, reason, self.said.append)


@pytest.fixture
def bench(monkeypatch) -> Bench:
    return Bench(monkeypatch)


def result(*changes: tuple[int, int]) -> torch.Tensor:
    value = torch.zeros(40_000, dtype=torch.int8)
    for place, difference in changes:
        value[place] = difference
    return value


def test_the_fastest_candidate_is_taken(bench):
    bench.tiles = {(32, 64): (result(), 0.003), (64, 64): (result(), 0.002)}
    bench.plans = {b"a": (result(), 0.0015), b"b": (result(), 0.004)}
    found = bench.fastest()
    assert (found["kernel"], found["name"]) == ("cudnn", "a")
    assert found["microseconds"] == pytest.approx(1.5)
    assert [entry[:2] for entry in found["timed"]] == [
        ["cudnn", "a"],
        ["triton", "tile (64, 64)"],
        ["triton", "tile (32, 64)"],
        ["cudnn", "b"],
    ]
    assert [entry[2] for entry in found["timed"]] == [1.5, 2.0, 3.0, 4.0]
    bench.tiles[32, 64] = (result(), 0.001)
    assert bench.fastest()["tile"] == (32, 64)
    assert bench.said == []


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (result((0, 1), (1, -1), (2, 1), (3, -1)), True),
        (result(*((place, 1) for place in range(5))), False),
        (result((0, 2)), False),
        (None, False),
    ],
    ids=["four ties of 40000", "five ties", "a step of two", "nothing written"],
)
def test_a_faster_candidate_with_another_result_is_left_out(bench, value, kept):
    bench.tiles = {(64, 64): (result(), 0.002)}
    bench.plans = {b"wrong": (value, 0.001)}
    assert (bench.fastest()["name"] == "wrong") == kept
    assert len(bench.said) == (0 if kept else 1)
    if not kept:
        assert "wrong of cudnn gives another result and is left out." in bench.said[0]


def test_a_candidate_that_fails_is_left_out(bench):
    bench.tiles = {(64, 64): (RuntimeError("out of shared memory\nmore"), 0.001)}
    bench.plans = {b"a": (result(), 0.002)}
    found = bench.fastest()
    assert found["name"] == "a"
    assert len(found["timed"]) == 1


def test_a_shape_without_candidates_is_unsupported_with_all_reasons(bench):
    bench.tiles = {(64, 64): (RuntimeError("out of shared memory\nmore"), 0.001)}
    with pytest.raises(UnsupportedError) as refused:
        bench.fastest("cuDNN has no INT8 plan for it (engine)")
    text = str(refused.value)
    assert "Shape(batch=1, " in text
    assert "cuDNN has no INT8 plan for it (engine); tile (64, 64) failed (out of shared memory)." in text


# Preparing


def test_an_engine_of_another_batch_size_is_refused(ask, timed):
    engine = runtime.build(ask(8))
    buffers = [torch.zeros(4, 3, SIZE, SIZE)] * 2
    with pytest.raises(EngineError, match=r"^The engine was built for batch size 8, but 4 was asked for; build"):
        load_runtimes()["cudnn"].prepare(engine, buffers, {})


def test_the_runtime_says_what_it_is():
    found = load_runtimes()["cudnn"]
    assert found.precisions == {"fp16", "int8"}
    assert found.devices == {"cuda"}
    assert (found.source, found.graph_form("int8")) == ("engine", "qdq")


# Whole networks, in the interpreter


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory) -> dict[str, np.ndarray]:
    """Features and logits of each network; one program runs all, because it imports PyTorch once more."""
    folder = tmp_path_factory.mktemp("networks")
    for name, batch in BATCHES.items():
        write_graph(folder / f"{name}.onnx", qdq(name))
        np.save(folder / f"{name}.npy", scenes(batch, seed=7))
    command = [sys.executable, "-m", "tests.unit.test_cudnn", str(folder)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "results.npz") as results:
        return {name: results[name] for name in results.files}


def run_in_interpreter(folder: Path) -> None:
    """Build each graph of a folder with one tile a convolution, write it, read it, and run it on its images.

    The classifier gets a unit matrix beside its own, so that what it reads comes out as well.
    """
    torch.set_num_threads(1)

    def choose(shapes, request):
        largest = {shape: max(possible_tiles(shape), key=lambda tile: tile[0] * tile[1]) for shape in shapes}
        return {shape: {"kernel": "triton", "tile": tile} for shape, tile in largest.items()}, {}

    runtime.choose = choose
    results = {}
    for graph in sorted(folder.glob("*.onnx")):
        inputs = torch.from_numpy(np.load(graph.with_suffix(".npy")))
        request = BuildRequest(graph, "int8", SIZE, len(inputs), {}, folder / "timing.npz", print)
        built = runtime.build(request)
        width = built.parts["head_weight"].shape[1]
        parts = dict(built.parts)
        parts["head_weight"] = np.concatenate([parts["head_weight"], np.eye(width, dtype=np.float16)])
        parts["head_bias"] = np.concatenate([parts["head_bias"], np.zeros(width, np.float16)])
        write_engine(folder / "engine.npz", replace(built, parts=parts), IDENTITY)
        engine = read_engine(folder / "engine.npz", IDENTITY)
        found = load_forward(engine, inputs.device)(inputs).numpy()
        results[f"{graph.stem} logits"], results[f"{graph.stem} features"] = found[:, :-width], found[:, -width:]
    np.savez(folder / "results.npz", **results)


@pytest.mark.parametrize("name", BATCHES)
def test_a_network_computes_exactly_its_integers(interpreted, name):
    network = lowered(name)
    expected = features(network, emulate(network, scenes(BATCHES[name], seed=7)))
    found = interpreted[f"{name} features"]
    assert found.dtype == np.float16
    assert np.ptp(expected, axis=1).min() > 0.5
    np.testing.assert_allclose(found.astype(float), expected, rtol=2**-10, atol=1e-6)


@pytest.mark.parametrize(("name", "error"), [("resnet18", 0.01), (BOTTLENECKS, 0.015)])
def test_a_network_computes_the_logits_of_onnx_runtime(interpreted, name, error):
    """Loose, because a value that ONNX Runtime rounds to its other neighbour spreads."""
    expected = run_exactly(qdq(name), scenes(BATCHES[name], seed=7))["logits"]
    found = interpreted[f"{name} logits"].astype(float)
    assert found.shape == expected.shape
    assert np.linalg.norm(found - expected) < error * np.linalg.norm(expected)


# On a GPU


@pytest.fixture(scope="module", params=[1, 8, 32])
def on_gpu(request: pytest.FixtureRequest, tmp_path_factory) -> Engine:
    folder = tmp_path_factory.mktemp("gpu")
    write_graph(folder / "graph.onnx", qdq("resnet18"))
    graph, cache = folder / "graph.onnx", folder / "timing.npz"
    asked = BuildRequest(graph, "int8", SIZE, request.param, {}, cache, print, IDENTITY)
    write_engine(folder / "engine.npz", runtime.build(asked), IDENTITY)
    assert (folder / "timing.npz").exists()
    return read_engine(folder / "engine.npz", IDENTITY)


@pytest.mark.parametrize("cuda_graph", [pytest.param(value, marks=needs_gpu) for value in (True, False)])
def test_the_runtime_computes_the_logits_of_onnx_runtime(on_gpu, cuda_graph):
    arrays = [scenes(on_gpu.about["batch_size"], seed=seed) for seed in (8, 9)]
    buffers = [torch.from_numpy(array).cuda() for array in arrays]
    with torch.inference_mode(), torch.cuda.stream(torch.cuda.Stream()):
        call = load_runtimes()["cudnn"].prepare(on_gpu, buffers, {"cuda_graph": cuda_graph})
        expected = [run_exactly(qdq("resnet18"), array)["logits"] for array in arrays]
        assert np.linalg.norm(expected[0] - expected[1]) > 0.018 * np.linalg.norm(expected[0])
        for index in (0, 1, 0):
            error = call(index).double().cpu().numpy() - expected[index]
            assert np.linalg.norm(error) < 0.01 * np.linalg.norm(expected[index])
        # A call reads its buffer when it is called.
        buffers[0].copy_(buffers[1])
        torch.testing.assert_close(call(0).clone(), call(1).clone(), rtol=0, atol=0)


SHAPES = {
    "stem": Shape(2, 35, 35, 16, 64, 4, 1, 0, False, True),
    "1x1 with skip": Shape(2, 14, 14, 64, 256, 1, 1, 0, True, True),
    "1x1 stride 2": Shape(2, 14, 14, 256, 512, 1, 2, 0, False, False),
    "3x3": Shape(3, 7, 7, 128, 128, 3, 1, 1, True, True),
    "3x3 stride 2": Shape(2, 14, 14, 128, 128, 3, 2, 1, False, True),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs_gpu) for name in SHAPES])
def test_every_candidate_computes_the_convolution(name):
    shape = SHAPES[name]
    o = search._random_operands(shape)
    x, weight = (tensor.cpu().double().permute(0, 3, 1, 2) for tensor in (o.x, o.weight))
    sums = torch.nn.functional.conv2d(x, weight, stride=shape.stride, padding=shape.padding).permute(0, 2, 3, 1)
    value = sums * o.multiplier.cpu().double() + o.offset.cpu().double()
    if o.skip is not None:
        value = value + o.skip.cpu().double() * float(np.float32(o.skip_factor))
    expected = (value.clamp(min=0) if shape.relu else value).round().clamp(-128, 127)
    assert expected.unique().numel() > 60

    plans, reason = compile_plans(shape)
    assert bool(plans) == (reason is None)
    launches = {f"tile {tile}": load_tile(shape, tile) for tile in possible_tiles(shape)}
    launches |= {plan_name: load_plan(plan) for plan_name, plan in plans.items()}
    assert any(launch.startswith("tile ") for launch in launches)
    wrong, failed = [], []
    for candidate, launch in launches.items():
        o.y.fill_(77)
        failure = search._failure(lambda launch=launch: launch(o))
        torch.cuda.synchronize()
        if failure is not None:
            failed.append(candidate)
            continue
        difference = (o.y.cpu().double() - expected).abs()
        if difference.max() > 1 or (difference > 0).double().mean() > search.SAME_RESULT:
            wrong.append(candidate)
    assert wrong == []
    # A tile may need more shared memory than the device has.
    assert len(failed) < len(launches)


if __name__ == "__main__":
    run_in_interpreter(Path(sys.argv[1]))
