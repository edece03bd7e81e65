"""TensorRT for RTX builds the project's engines for GPUs that are not here, by its real builder.

Running them takes a GPU of those generations: nothing here does.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from onnx import numpy_helper

from deepgap.build.engine_file import UNSUPPORTED, read_engine
from deepgap.build.graph_file import WEIGHTS_HASH, load_graph, write_graph
from deepgap.build.quantize.qdq import insert_qdq_fp16
from deepgap.errors import EngineError, GraphError
from deepgap.runtimes import load_runtimes
from deepgap.runtimes.engine_builder import build_engine
from deepgap.study.gpus import Device
from tests.unit import networks
from tests.unit.test_general_placement import max_scales

pytestmark = pytest.mark.xdist_group("graphs")
RTX = load_runtimes()["rtx"]
CAPABILITIES = ["7.5", "8.6", "8.9"]


@pytest.fixture(scope="module")
def graphs(tmp_path_factory) -> dict[str, Path]:
    """A small residual network in FP32 and as INT8 with FP16."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (envs/rtx.txt)")
    folder = tmp_path_factory.mktemp("graphs")
    fp32 = networks.small_graph("resnet18")
    models = {"fp32": fp32, "int8": insert_qdq_fp16(fp32, max_scales(fp32, networks.images(2)))}
    for name, model in models.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = WEIGHTS_HASH, "a" * 64
        write_graph(folder / f"{name}.onnx", model)
    return {name: folder / f"{name}.onnx" for name in models}


def of_capability(capability: str, name: str = "NVIDIA L4") -> Device:
    return Device(-1, "", name, capability)


def recipe(**changes: object) -> dict[str, object]:
    return {"batch_size": 2, "image_size": networks.SIZE, "options": RTX.fill_options({}), **changes}


def build(graph: Path, path: Path, capability: str, precision: str = "int8", **changes: object) -> None:
    build_engine(
        "rtx", precision, recipe(**changes), graph, path / "timing", path / "engine", of_capability(capability), print
    )


def test_it_runs_on_no_hopper_and_has_no_fp32_on_turing(gpus):
    assert RTX.skip("resnet50", "int8", 8, gpus["T4"]) is None
    assert RTX.skip("resnet50", "fp32", 8, gpus["L4"]) is None
    for key in ("H100", "H200"):
        assert f"and the {key} has 9.0." in RTX.skip("resnet50", "int8", 8, gpus[key])
    at_a_site = replace(gpus["H200"], key="H200@lab2")
    assert "and the H200 has 9.0." in RTX.skip("resnet50", "int8", 8, at_a_site)
    assert RTX.skip("resnet50", "fp32", 8, gpus["T4"]) == "TensorRT for RTX has no FP32 matrix product on Turing."
    assert RTX.skip("resnet50", "fp8", 8, gpus["L4"]) is None
    for key in ("T4", "A100"):
        assert RTX.skip("resnet50", "fp8", 8, gpus[key]).startswith("Tensor cores multiply FP8 since")


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_an_engine_is_built_without_a_gpu_and_holds_int8_weights(graphs, tmp_path, capability):
    build(graphs["int8"], tmp_path, capability)
    engine = read_engine(tmp_path / "engine", RTX.engine_identity(of_capability(capability, "Any card"), recipe()))
    elements = sum(
        numpy_helper.to_array(tensor).size
        for tensor in load_graph(graphs["int8"]).graph.initializer
        if len(tensor.dims) == 4
    )
    # The classifier is FP16, kernels are less than 5 MB.
    assert elements < engine.parts["plan"].size - 2 * 512 * 1000 < elements + 5_000_000 < 2 * elements
    assert engine.about["weights_sha256"] == "a" * 64
    assert engine.about["batch_size"] == 2
    assert not (tmp_path / "timing").exists()


def test_an_engine_of_another_capability_version_or_batch_is_refused(graphs, tmp_path):
    build(graphs["int8"], tmp_path, "8.9")
    path = tmp_path / "engine"

    def refusal(runtime=RTX, capability: str = "8.9", **changes: object) -> str:
        with pytest.raises(EngineError) as refused:
            read_engine(path, runtime.engine_identity(of_capability(capability), recipe(**changes)))
        assert str(refused.value).endswith("delete it and run Snakemake again.")
        return str(refused.value)

    assert "was built for compute_capability 8.9, but 7.5 is needed here" in refusal(capability="7.5")
    assert "was built for libraries" in refusal(replace(RTX, libraries=lambda: {"tensorrt_rtx": "9.9"}))
    assert "was built for recipe" in refusal(batch_size=3)
    path.write_bytes(path.read_bytes()[:100_000])
    assert "is damaged or not an engine" in refusal()


def test_what_turing_lacks_becomes_an_engine_that_says_so(graphs, tmp_path):
    build(graphs["fp32"], tmp_path, "7.5", precision="fp32")
    engine = read_engine(tmp_path / "engine", RTX.engine_identity(of_capability("7.5"), recipe()))
    assert "FP32 GEMM is not supported" in engine.about[UNSUPPORTED]
    assert not engine.parts
    build(graphs["fp32"], tmp_path, "8.9", precision="fp32")
    assert read_engine(tmp_path / "engine", RTX.engine_identity(of_capability("8.9"), recipe())).parts


def test_a_capability_that_it_does_not_know_is_unsupported(graphs, tmp_path):
    build(graphs["int8"], tmp_path, "9.0")
    engine = read_engine(tmp_path / "engine", RTX.engine_identity(of_capability("9.0"), recipe()))
    assert engine.about[UNSUPPORTED] == "TensorRT for RTX builds no engines for compute capability 9.0."


def test_a_graph_that_is_refused_is_told_in_a_sentence(graphs, tmp_path):
    graph = tmp_path / "graph.onnx"
    graph.write_bytes(graphs["int8"].read_bytes()[:-100])
    with pytest.raises(GraphError, match=r"graph\.onnx .*run Snakemake again"):
        build(graph, tmp_path, "8.9")
    with pytest.raises(EngineError, match=r"takes images of 3 x 64 x 64, but those of the study are 3 x 32 x 32"):
        build(graphs["int8"], tmp_path, "8.9", image_size=32)
    assert [file.name for file in tmp_path.iterdir()] == ["graph.onnx"]
    model = load_graph(graphs["int8"])
    model.graph.node[3].op_type = "NoSuchOperator"
    write_graph(graph, model)
    build(graph, tmp_path, "8.9")
    engine = read_engine(tmp_path / "engine", RTX.engine_identity(of_capability("8.9"), recipe()))
    assert engine.about[UNSUPPORTED].startswith("TensorRT for RTX cannot read the graph (")
    assert "NoSuchOperator" in engine.about[UNSUPPORTED]
