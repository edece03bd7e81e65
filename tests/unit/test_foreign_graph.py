"""Graphs of other programs: brought to the project's form where they can be, else a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deepgap.build.facts import count_facts
from deepgap.build.foreign_graph import adopt_graph
from deepgap.build.graph_file import load_graph, read_weights_hash
from deepgap.build.images.imagesets import write_held_out
from deepgap.build.quantize.network import read_graph
from deepgap.build.quantize.placement import calibrated_tensors
from deepgap.build.quantize.u8s8 import insert_u8s8
from deepgap.build.reference import write_reference
from deepgap.errors import GraphError, UnsupportedError
from deepgap.study.models import parse_models
from tests.unit.networks import run_graph

SIZE, CLASSES = 16, 7


def foreign(path: Path, batch: int | str = "N", **changes: object) -> Path:
    """A classifier that no exporter of this project wrote: Conv, Relu, pool, Reshape to a fixed shape, Gemm."""
    asked = {"channels": 3, "size": SIZE, "kind": TensorProto.FLOAT, "head": True, "outputs": 1} | changes
    random = np.random.default_rng(0)
    weights = {
        # Names that are this project's for other tensors.
        "logits": random.standard_normal((4, asked["channels"], 3, 3)).astype(np.float32),
        "fc": random.standard_normal((4, CLASSES)).astype(np.float32),
        "bias": random.standard_normal(CLASSES).astype(np.float32),
    }
    rows = batch if isinstance(batch, int) else -1
    shape = numpy_helper.from_array(np.array([rows, 4], np.int64))
    image = [batch, asked["channels"], asked["size"], asked["size"]]
    nodes = [
        helper.make_node("Conv", ["data", "logits"], ["input"], pads=[1, 1, 1, 1], doc_string="here"),
        helper.make_node("Relu", ["input"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Constant", [], ["shape"], value=shape),
        helper.make_node("Reshape", ["p", "shape"], ["flat"]),
        helper.make_node("Gemm", ["flat", "fc", "bias"], ["out"]),
    ]
    result = "out" if asked["head"] else "r"
    outputs = [result, "flat"][: asked["outputs"]]
    graph = helper.make_graph(
        nodes,
        "theirs",
        [helper.make_tensor_value_info("data", asked["kind"], image)],
        [helper.make_tensor_value_info(name, asked["kind"], None) for name in outputs],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="other", ir_version=8)
    onnx.save(model, path)
    return path


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, 3, SIZE, SIZE)).astype(np.float32)


@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_a_foreign_graph_gets_this_projects_form(tmp_path, batch):
    source = foreign(tmp_path / "theirs.onnx", batch)
    adopt_graph(source, tmp_path / "graph.onnx", "fp32", SIZE)
    model = load_graph(tmp_path / "graph.onnx")
    assert len(read_weights_hash(tmp_path / "graph.onnx")) == 64
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["input", "logits"]
    assert not {"Constant"} & {node.op_type for node in model.graph.node}
    assert [node.name for node in model.graph.node] == [node.output[0] for node in model.graph.node]
    assert b"here" not in (tmp_path / "graph.onnx").read_bytes()
    # Any batch, and each image as in the graph that was given.
    whole = foreign(tmp_path / "dynamic.onnx")
    session_input = images(5)
    expected = onnx.load(whole)
    expected.graph.input[0].name = expected.graph.node[0].input[0] = "image"
    import onnxruntime

    session = onnxruntime.InferenceSession(expected.SerializeToString(), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"image": session_input})
    (found,) = run_graph(model, session_input)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_an_old_graph_is_brought_to_a_version_that_can_be_quantised(tmp_path):
    source = foreign(tmp_path / "old.onnx", 1)
    model = onnx.load(source)
    model.opset_import[0].version, model.ir_version = 11, 6
    onnx.save(model, source)
    adopt_graph(source, tmp_path / "graph.onnx", "fp32", SIZE)
    graph = read_graph(tmp_path / "graph.onnx")
    quantised = insert_u8s8(graph, dict.fromkeys(calibrated_tensors(graph), 0.1))
    (logits,) = run_graph(quantised, images(2))
    assert logits.shape == (2, CLASSES)


def test_an_old_graph_that_cannot_be_converted_is_not_quantised(tmp_path):
    source = foreign(tmp_path / "old.onnx")
    model = onnx.load(source)
    model.opset_import[0].version, model.ir_version = 11, 6
    # The converter knows no such operator, and ONNX Runtime has it.
    model.graph.node[1].op_type, model.graph.node[1].domain = "Gelu", "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, source)
    adopt_graph(source, tmp_path / "graph.onnx", "fp32", SIZE)
    with pytest.raises(UnsupportedError, match="of ONNX's version 11, and a scale a channel needs 13"):
        calibrated_tensors(load_graph(tmp_path / "graph.onnx"))


def test_the_facts_of_a_foreign_graph_are_counted(tmp_path):
    adopt_graph(foreign(tmp_path / "theirs.onnx"), tmp_path / "graph.onnx", "fp32", SIZE)
    facts = count_facts(tmp_path / "graph.onnx")
    assert facts.multiply_adds == 4 * 27 * SIZE**2 + 4 * CLASSES
    assert (facts.classes, facts.blocks) == (CLASSES, 0)


def test_an_fp16_form_is_fp16_throughout(tmp_path):
    adopt_graph(foreign(tmp_path / "theirs.onnx"), tmp_path / "graph.onnx", "fp16", SIZE)
    graph = load_graph(tmp_path / "graph.onnx").graph
    types = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    assert types == {TensorProto.FLOAT16}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"channels": 1}, r"takes a tensor of \? x 1 x 16 x 16, and not images"),
        ({"head": False}, r"gives a tensor of shape \(3, 4, 16, 16\), and not \(batch, classes\)"),
        ({"outputs": 2}, "has 1 inputs and 2 outputs"),
        ({"kind": TensorProto.DOUBLE}, "takes double and not float32"),
    ],
)
def test_what_is_no_classifier_of_images_says_why(tmp_path, changes, told):
    source = foreign(tmp_path / "theirs.onnx", **changes)
    with pytest.raises(UnsupportedError, match=told):
        adopt_graph(source, tmp_path / "graph.onnx", "fp32", SIZE)
    assert not (tmp_path / "graph.onnx").exists()


def test_a_batch_that_stays_fixed_says_why(tmp_path):
    source = foreign(tmp_path / "theirs.onnx", 2)
    model = onnx.load(source)
    # The images of a batch are mixed: no other size can mean the same.
    model.graph.node[4].input[0] = "mixed"
    model.graph.node.insert(4, helper.make_node("ReduceMean", ["p"], ["mean"], axes=[0], keepdims=1))
    model.graph.node.insert(5, helper.make_node("Add", ["p", "mean"], ["mixed"]))
    onnx.save(model, source)
    with pytest.raises(UnsupportedError, match="is made for batches of 2 and gives something else for 3 images"):
        adopt_graph(source, tmp_path / "graph.onnx", "fp32", SIZE)


def test_another_image_size_asks_for_it(tmp_path):
    source = foreign(tmp_path / "theirs.onnx")
    with pytest.raises(GraphError, match=r"takes images of 16 x 16, and the study asks for 32 .* image_size: 16\}"):
        adopt_graph(source, tmp_path / "graph.onnx", "fp32", 32)


def test_files_that_are_no_graph_are_told(tmp_path):
    source = tmp_path / "theirs.onnx"
    source.write_bytes(b"\x08\x08broken")
    with pytest.raises(GraphError, match=r"theirs\.onnx is not an ONNX model"):
        adopt_graph(source, tmp_path / "graph.onnx", "fp32", SIZE)
    model = onnx.load(foreign(source))
    onnx.save(model, source, save_as_external_data=True, size_threshold=0, location="weights.bin")
    with pytest.raises(UnsupportedError, match="keeps weights in files beside it"):
        adopt_graph(source, tmp_path / "graph.onnx", "fp32", SIZE)


def test_the_reference_of_a_graph_has_labels_only_where_they_mean_something(tmp_path):
    source = foreign(tmp_path / "theirs.onnx")
    (spec,) = parse_models(
        [{"model": f"onnx:{source}", "image_size": SIZE}], {"source": "seeded", "seed": 0}, "models"
    )
    adopt_graph(source, tmp_path / "graph.onnx", "fp32", SIZE)
    write_held_out(tmp_path / "images.npz", 5, SIZE)
    for accuracy, mean in ((None, False), ({"images": "folder"}, True)):
        write_reference(tmp_path / "r.npz", spec, tmp_path / "graph.onnx", tmp_path / "images.npz", accuracy)
        with np.load(tmp_path / "r.npz") as found:
            assert found["logits"].shape == (5, CLASSES) and bool(found["labels_mean"]) is mean
            assert str(found["weights_sha256"]) == read_weights_hash(tmp_path / "graph.onnx")
