"""The engine on cuDNN and Triton in FP16: the same steps as in INT8, close to PyTorch."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from deepgap.build.engine_file import read_engine, write_engine
from deepgap.build.export import export_onnx
from deepgap.build.quantize.network import read_graph
from deepgap.errors import GraphError
from deepgap.runtimes import BuildRequest, cudnn, load_runtimes
from deepgap.runtimes.cudnn.convolutions import possible_tiles
from deepgap.runtimes.cudnn.lowering import Convolution, lower_half
from deepgap.runtimes.cudnn.running import load_forward
from tests.conftest import ROOT
from tests.unit.networks import BOTTLENECKS, SIZE, images, small_graph, small_network

pytestmark = pytest.mark.xdist_group("half")

IDENTITY = {"device": "test"}
NETWORKS = {"resnet18": 1, BOTTLENECKS: 2}
needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here"),
]


@cache
def half_export(name: str, folder: Path) -> Path:
    path = folder / f"{name}.onnx"
    export_onnx(small_network(name), path, "fp16", SIZE)
    return path


def exact(name: str, inputs: np.ndarray) -> np.ndarray:
    """The network in FP32, on the FP16 images that the engine gets."""
    with torch.inference_mode():
        return small_network(name).eval()(torch.from_numpy(inputs).half().float()).numpy()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_addition_is_fused_into_the_convolution_of_the_main_path(name, tmp_path):
    program = lower_half(read_graph(half_export(name, tmp_path)))
    graph = onnx.load(half_export(name, tmp_path)).graph
    convolutions = [step for step in program.steps if isinstance(step, Convolution)]
    counts = {kind: sum(node.op_type == kind for node in graph.node) for kind in ("Conv", "Add")}
    assert len(convolutions) == counts["Conv"]
    with_skip = [step for step in convolutions if step.skip is not None]
    assert len(with_skip) == counts["Add"]
    assert not any("downsample" in step.name for step in with_skip)
    assert {step.weight.dtype for step in convolutions} == {np.dtype(np.float16)}
    made = {"input"}
    for step in program.steps:
        assert {step.x, getattr(step, "skip", None)} <= {*made, None}, "a step reads what was made before it"
        made.add(step.y)


def test_a_graph_in_fp32_is_refused():
    with pytest.raises(GraphError, match="is not FP16; start from the FP16 export"):
        lower_half(small_graph("resnet18"))


def run_in_interpreter(folder: Path) -> None:
    """Build each graph of a folder with one tile a convolution and run it on its images."""
    torch.set_num_threads(1)

    def choose(shapes, request):
        largest = {shape: max(possible_tiles(shape), key=lambda tile: tile[0] * tile[1]) for shape in shapes}
        return {shape: {"kernel": "triton", "tile": tile} for shape, tile in largest.items()}, {}

    cudnn.choose = choose
    results = {}
    for graph in sorted(folder.glob("*.onnx")):
        inputs = torch.from_numpy(np.load(graph.with_suffix(".npy"))).half()
        request = BuildRequest(graph, "fp16", SIZE, len(inputs), {}, folder / "timing.npz", print)
        write_engine(folder / "engine.npz", cudnn.build(request), IDENTITY)
        engine = read_engine(folder / "engine.npz", IDENTITY)
        results[graph.stem] = load_forward(engine, inputs.device)(inputs).numpy()
    np.savez(folder / "results.npz", **results)


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("half")
    for name, batch in NETWORKS.items():
        half_export(name, folder)
        np.save(folder / f"{name}.npy", images(batch, seed=5))
    command = [sys.executable, "-m", "tests.unit.test_cudnn_half", str(folder)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    with np.load(folder / "results.npz") as results:
        return {name: results[name] for name in results.files}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_computes_the_logits_of_pytorch(interpreted, name):
    expected = exact(name, images(NETWORKS[name], seed=5))
    found = interpreted[name]
    assert found.dtype == np.float16
    assert np.linalg.norm(found - expected) < 5e-3 * np.linalg.norm(expected)


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs_gpu) for name in NETWORKS])
@pytest.mark.parametrize("batch", [1, 8, 32])
def test_on_a_gpu_every_chosen_kernel_agrees_with_pytorch(name, batch, tmp_path):
    inputs = images(batch, seed=6)
    request = BuildRequest(half_export(name, tmp_path), "fp16", SIZE, batch, {}, tmp_path / "timing", print, IDENTITY)
    engine = cudnn.build(request)
    print(name, batch, engine.about["kernels"])
    buffers = [torch.from_numpy(inputs).cuda().half() for _ in range(2)]
    with torch.inference_mode(), torch.cuda.stream(torch.cuda.Stream()):
        call = load_runtimes()["cudnn"].prepare(engine, buffers, {"cuda_graph": True})
        found = call(1).float().cpu().numpy()
    expected = exact(name, inputs)
    assert np.linalg.norm(found - expected) < 5e-3 * np.linalg.norm(expected)


if __name__ == "__main__":
    run_in_interpreter(Path(sys.argv[1]))
