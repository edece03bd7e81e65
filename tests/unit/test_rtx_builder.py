"""NVIDIA's own builder takes the INT8 graphs, for GPUs of three generations, on a machine without any."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from deepgap.build.export import export_onnx
from deepgap.build.quantize.qdq import insert_qdq, insert_qdq_fp8, insert_qdq_fp16
from deepgap.errors import first_line
from tests.unit import networks
from tests.unit.general_networks import NETWORKS, general_graph, general_images
from tests.unit.rtx_builder import CAPABILITIES, build_engine
from tests.unit.test_general_placement import max_scales

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (envs/rtx.txt)")
pytestmark = pytest.mark.xdist_group("graphs")


def network(name: str):
    if name == "residual":
        graph, images = networks.small_graph("resnet18"), networks.images(2)
    else:
        graph, images = general_graph(name), general_images(2)
    return graph, lambda attention=False: max_scales(graph, images, attention)


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("name", ["residual", *sorted(NETWORKS)])
def test_int8_with_fp16_is_built_for_every_generation(name, capability):
    graph, scales = network(name)
    assert len(build_engine(insert_qdq_fp16(graph, scales()), capability)) > 10_000


@pytest.mark.parametrize("name", ["residual", *sorted(NETWORKS)])
def test_fp8_is_built_for_ada_and_refused_before_it(name):
    graph, scales = network(name)
    fp8 = insert_qdq_fp8(graph, scales())
    assert len(build_engine(fp8, "SM89")) > 10_000
    with pytest.raises(ValueError, match="fp8_e4m3"):
        build_engine(fp8, "SM86")


def test_products_of_attention_are_built_too():
    graph, scales = network("transformer")
    for capability in CAPABILITIES:
        assert build_engine(insert_qdq_fp16(graph, scales(attention=True), attention=True), capability)


def test_turing_refuses_fp32_products_in_a_sentence():
    """Why the other type of TensorRT's INT8 graph is FP16."""
    graph, scales = network("transformer")
    with pytest.raises(ValueError, match="FP32 GEMM is not supported") as refused:
        build_engine(insert_qdq(graph, scales()), "SM75")
    assert len(first_line(refused.value)) < 500
    assert build_engine(insert_qdq(graph, scales()), "SM89")


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_weights_in_the_engine_are_int8(capability):
    """Kernels and all else are less than 5 MB; in FP16 the weights alone would be twice as large."""
    graph, scales = network("residual")
    elements = sum(numpy_helper.to_array(tensor).size for tensor in graph.graph.initializer if len(tensor.dims) == 4)
    classifier = 2 * 512 * 1000
    size = len(build_engine(insert_qdq_fp16(graph, scales()), capability))
    assert elements < size - classifier < elements + 5_000_000 < 2 * elements


def test_what_the_parser_refuses_is_told_by_its_text():
    graph, scales = network("mobile")
    model = insert_qdq_fp16(graph, scales())
    scale = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("_scale"))
    scale.CopyFrom(numpy_helper.from_array(np.float16(-1), scale.name))
    with pytest.raises(ValueError, match=r"\w{5,}"):
        build_engine(model, "SM89")


# Models of the study at their own size


@pytest.fixture(scope="module", params=["resnet18", "vit_b_16"])
def exported(request, tmp_path_factory) -> dict[str, onnx.ModelProto]:
    """The export of a seeded model in FP16, and its INT8 graph."""
    torch.manual_seed(0)
    model, folder = networks.bare_model(request.param), tmp_path_factory.mktemp("exported")
    # A fresh ViT has a head of zeros.
    torch.nn.init.normal_(
        next(m for m in reversed(list(model.modules())) if isinstance(m, torch.nn.Linear)).weight, 0, 0.02
    )
    for precision in ("fp32", "fp16"):
        export_onnx(model, folder / f"{precision}.onnx", precision, 224)
    fp32 = onnx.load(folder / "fp32.onnx")
    images = np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype(np.float32)
    return {"fp16": onnx.load(folder / "fp16.onnx"), "int8": insert_qdq_fp16(fp32, max_scales(fp32, images))}


@pytest.mark.full
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_models_of_the_study_are_built_and_their_int8_weights_are_half_as_large(exported, capability):
    half, eight = (len(build_engine(exported[precision], capability)) for precision in ("fp16", "int8"))
    elements = sum(numpy_helper.to_array(tensor).size for tensor in exported["fp16"].graph.initializer)
    assert 2 * elements < half < 2 * elements + 10_000_000
    assert elements < eight < 1.3 * elements + 10_000_000
