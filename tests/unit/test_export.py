"""An exported graph is the model, and nothing but the model."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
import torch

from deepgap.build.export import export_onnx
from deepgap.build.graph_file import load_graph, read_weights_hash, write_graph, write_unsupported_graph
from deepgap.errors import GraphError, UnsupportedError
from tests.unit.networks import SIZE, images, run_graph, small_graph, small_network, write_small_graph

pytestmark = pytest.mark.xdist_group("graphs")


@pytest.fixture(scope="module")
def model():
    return small_network("resnet18")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_small_graph("resnet18", tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def half_path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("half") / "resnet18.onnx"
    export_onnx(model, path, "fp16", SIZE)
    return path


@pytest.mark.parametrize("batch_size", [1, 5])
def test_the_graph_computes_what_the_model_does_at_any_batch_size(model, path, batch_size):
    inputs = images(batch_size)
    with torch.inference_mode():
        expected = model(torch.from_numpy(inputs)).numpy()
    (logits,) = run_graph(onnx.load(path), inputs)
    assert logits.shape == (batch_size, 1000)
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())


def test_equal_models_give_equal_bytes_without_traces_of_this_machine(path, tmp_path):
    export_onnx(small_network("resnet18"), tmp_path / "again.onnx", "fp32", SIZE)
    content = path.read_bytes()
    assert (tmp_path / "again.onnx").read_bytes() == content
    for trace in (b"site-packages", b"torchvision", b"pkg.torch"):
        assert trace not in content


def test_tensors_have_names_that_tell_their_place(path):
    graph = onnx.load(path).graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["input", "logits"]
    produced = [node.output[0] for node in graph.node]
    assert produced[:4] == ["conv1", "relu", "max_pool", "layer1.0.conv1"]
    assert produced[-4:] == ["relu_16", "global_pool", "flatten", "logits"]
    assert "layer2.0.downsample.0" in produced and "add_7" in produced
    assert [node.name for node in graph.node] == produced
    weights = {tensor.name for tensor in graph.initializer}
    assert {"conv1.weight", "conv1.bias", "fc.weight", "fc.bias"} <= weights
    assert all(re.fullmatch(r"(layer\d\.\d\.)?(conv\d|downsample\.0|fc)\.(weight|bias)", name) for name in weights)


def test_the_graph_has_one_global_pool_and_a_symbolic_batch(path):
    model = onnx.load(path)
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("GlobalAveragePool") == operators.count("Flatten") == 1
    assert set(operators) == {"Conv", "Relu", "MaxPool", "Add", "GlobalAveragePool", "Flatten", "Gemm"}
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = [*inferred.input, *inferred.output, *inferred.value_info]
    assert len(values) == len(operators) + 1
    assert {value.type.tensor_type.shape.dim[0].dim_param for value in values} == {"batch"}


def test_an_fp16_graph_is_fp16_throughout_and_close_to_the_model(model, half_path):
    graph = onnx.load(half_path).graph
    types = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    assert types | {tensor.data_type for tensor in graph.initializer} == {onnx.TensorProto.FLOAT16}
    assert "Cast" not in {node.op_type for node in graph.node}
    inputs = images(2)
    with torch.inference_mode():
        expected = model(torch.from_numpy(inputs)).numpy()
    (logits,) = run_graph(onnx.load(half_path), inputs.astype(np.float16))
    assert logits.dtype == np.float16
    assert np.linalg.norm(logits - expected) < 0.05 * np.linalg.norm(expected)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


class Otherwise(torch.nn.Module):
    """A network that exports something else than it computes."""

    def __init__(self, model: torch.nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x) if torch.compiler.is_exporting() else self.factor * self.model(x)


def test_a_graph_that_differs_from_the_model_is_refused_and_not_written(model, tmp_path):
    path = tmp_path / "resnet18.onnx"
    path.write_bytes(b"an earlier graph")
    with pytest.raises(UnsupportedError, match=r"resnet18\.onnx differ .* by 1\.0e-03 where 1e-04 is allowed"):
        export_onnx(Otherwise(model, 1.001), path, "fp32", SIZE)
    assert path.read_bytes() == b"an earlier graph"
    assert list(tmp_path.iterdir()) == [path]


def test_an_edited_graph_is_refused(path, tmp_path):
    content, edited = path.read_bytes(), tmp_path / "edited.onnx"
    for place in (100, len(content) // 2, len(content) - 1):
        edited.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(GraphError, match=r"edited\.onnx (was edited or damaged after|is damaged or not)"):
            load_graph(edited)
    # Another program keeps the properties of a graph whose weights it changes.
    model = onnx.load(path)
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    onnx.save(model, edited)
    with pytest.raises(GraphError, match=r"edited\.onnx was edited or damaged after it was made; delete it"):
        load_graph(edited)


def test_a_graph_made_of_another_is_whole_and_keeps_what_it_tells(path, tmp_path):
    model = load_graph(path)
    onnx.helper.set_model_props(model, {"weights_sha256": "0" * 64, **{e.key: e.value for e in model.metadata_props}})
    del model.graph.output[0].type.tensor_type.shape.dim[1]
    before = model.SerializeToString(deterministic=True)
    write_graph(tmp_path / "made.onnx", model)
    assert model.SerializeToString(deterministic=True) == before
    made = load_graph(tmp_path / "made.onnx")
    assert made.graph == model.graph
    assert read_weights_hash(tmp_path / "made.onnx") == "0" * 64


def test_a_graph_of_another_program_has_no_seal_and_tells_no_weights(tmp_path):
    model = small_graph("resnet18")
    del model.metadata_props[:]
    model.producer_name = "another"
    onnx.save(model, tmp_path / "foreign.onnx")
    assert load_graph(tmp_path / "foreign.onnx") == model
    with pytest.raises(GraphError, match=r"foreign\.onnx does not say of which weights it is; delete it"):
        read_weights_hash(tmp_path / "foreign.onnx")


def test_a_graph_that_lost_its_seal_is_refused(tmp_path):
    """What is left of a file that was cut short may be a graph too."""
    model = small_graph("resnet18")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "cut.onnx")
    with pytest.raises(GraphError, match=r"cut\.onnx was edited or damaged"):
        load_graph(tmp_path / "cut.onnx")


class Tokens(torch.nn.Module):
    """Products with weights on three axes, of which one makes another's constants equal."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = torch.nn.Conv2d(3, 8, 8, 8)
        self.mix = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 8))
        self.norm = torch.nn.LayerNorm(8)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.mix(self.norm(x))
        return self.head(x.mean(1))


def test_products_with_weights_have_the_names_of_their_modules(tmp_path):
    torch.manual_seed(0)
    export_onnx(Tokens().eval(), tmp_path / "tokens.onnx", "fp32", SIZE)
    graph = load_graph(tmp_path / "tokens.onnx").graph
    produced = {node.output[0]: node.op_type for node in graph.node}
    assert produced["patch"] == "Conv" and produced["mix.0"] == produced["mix.2"] == "MatMul"
    assert {"mix.0.weight", "mix.0.bias", "head.weight", "norm.weight"} <= {t.name for t in graph.initializer}
    assert not any(name.startswith("val_") for name in (*produced, *(t.name for t in graph.initializer)))
    assert len(produced) == len(graph.node)


def test_any_operator_is_exported(tmp_path):
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Sigmoid(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    ).eval()
    export_onnx(network, tmp_path / "network.onnx", "fp32", SIZE)
    assert "Sigmoid" in {node.op_type for node in load_graph(tmp_path / "network.onnx").graph.node}


class Uneven(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[0:1] if float(x.sum()) > 0 else x


def test_what_the_exporter_cannot_express_is_told_in_a_line_and_not_written(tmp_path):
    with pytest.raises(UnsupportedError, match="cannot be exported to ONNX") as caught:
        export_onnx(Uneven().eval(), tmp_path / "network.onnx", "fp32", SIZE)
    assert "\n" not in str(caught.value)
    assert not any(tmp_path.iterdir())


def test_a_file_in_place_of_a_graph_says_why_there_is_none(tmp_path):
    path = tmp_path / "graph.onnx"
    write_unsupported_graph(path, "Nothing could be made.")
    for read in (load_graph, read_weights_hash):
        with pytest.raises(UnsupportedError, match=r"^Nothing could be made\.$"):
            read(path)
    path.write_bytes(path.read_bytes()[:-1] + b"0")
    with pytest.raises(GraphError, match="edited or damaged"):
        load_graph(path)
