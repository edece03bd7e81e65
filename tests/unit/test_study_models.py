"""What an entry of `models` means, told without importing torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from deepgap.errors import ConfigError
from deepgap.sources import Place, load_source, source_names
from deepgap.study.models import ModelSpec, parse_models, refuse_clashes
from tests.unit.test_foreign_graph import foreign

WEIGHTS = {"source": "seeded", "seed": 3}
FACTORY = "import torch\n\ndef tiny():\n    return torch.nn.Identity()\n"


def parse(*entries, weights=WEIGHTS):
    return parse_models(entries, weights, "models")


@pytest.fixture
def nets(tmp_path):
    file = tmp_path / "nets.py"
    file.write_text(FACTORY, encoding="utf-8")
    return file


@pytest.fixture
def graph(tmp_path):
    file = tmp_path / "my net.onnx"
    file.write_bytes(b"\x08\x0aand more")
    return file


def test_the_kinds_of_source_are_the_files_of_their_folder():
    assert source_names() == ("file", "onnx", "timm", "torchvision")
    for name in source_names():
        source = load_source(name)
        assert source.version >= 1 and (name == "torchvision" or source.form.startswith(f"{name}:"))


def test_each_kind_has_a_key_that_can_stand_in_a_files_name(nets, graph):
    specs = parse("resnet50", f"onnx:{graph}", f"file:{nets}:tiny", {"model": "vit_b_16", "name": "vit-small"})
    assert [spec.key for spec in specs] == ["resnet50", "my-net", "nets.tiny", "vit-small"]
    assert specs[0].recipe == {
        "weights": {"source": "seeded", "seed": 3, "model": "torchvision:resnet50", "version": 1},
        "image_size": 224,
    }
    assert specs[1].is_graph and not specs[2].is_graph
    assert all(ModelSpec(**spec.request) == spec for spec in specs)


def test_the_torchvision_names_are_those_that_it_registers():
    torchvision = pytest.importorskip("torchvision")
    listed = torchvision.models.list_models(module=torchvision.models)
    assert list(load_source("torchvision").names()) == sorted(listed)


def test_the_timm_names_are_those_that_it_registers():
    timm = pytest.importorskip("timm")
    assert set(load_source("timm").names()) == set(timm.list_models())
    (spec,) = parse("timm:resnet10t")
    assert spec.key == "timm.resnet10t"
    with pytest.raises(ConfigError, match=r"did you mean 'timm:resnet10t'\?"):
        parse("resnet10t")


def test_trained_weights_of_another_size_ask_for_it():
    torchvision = pytest.importorskip("torchvision")
    own_size = load_source("torchvision").own_size
    for name in ("resnet50", "efficientnet_b1", "inception_v3", "vit_b_16", "vit_h_14"):
        weights = torchvision.models.get_model_weights(name)
        entry = weights.__members__.get("IMAGENET1K_V1", next(iter(weights)))
        assert own_size(Place(None, name)) == entry.transforms().crop_size[0], name
    with pytest.raises(ConfigError, match=r"240 x 240; write \{model: efficientnet_b1, image_size: 240\}"):
        parse("efficientnet_b1", weights={"source": "pretrained", "seed": 0})
    (spec,) = parse({"model": "efficientnet_b1", "image_size": 240, "weights": "imagenet"})
    assert spec.recipe["weights"]["source"] == "pretrained" and spec.image_size == 240


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("resnet5", r"models\[0\] is 'resnet5' \(did you mean 'resnet50'\?\), which torchvision does not have"),
        ("tim:resnet10t", r"models\[0\] is 'tim:resnet10t' \(did you mean 'timm'\?\); it must be one of NAME, file:"),
        ("onnx:absent.onnx", r"models\[0\]: the file absent\.onnx cannot be read \(No such file"),
        ("file:absent.py:f", r"the file absent\.py cannot be read"),
        ("file:absent.py", r"names no factory; write file:PATH\.py:FACTORY"),
        ({"model": "resnet18", "weights": "seded"}, r"has the weights 'seded' \(did you mean 'seeded'\?\)"),
        ({"model": "resnet18", "weights": "absent.pt"}, r"the file absent\.pt cannot be read"),
        ({"model": "resnet18", "name": "../up"}, r"is called '\.\./up', which cannot stand in the name of a file"),
    ],
)
def test_what_is_not_there_is_told_in_a_sentence(entry, told):
    with pytest.raises(ConfigError, match=told) as caught:
        parse(entry)
    assert str(caught.value).startswith("config.yaml: models[0]") and str(caught.value).endswith(".")


def test_a_file_is_read_and_not_run(nets, graph):
    with pytest.raises(ConfigError, match=r"defines no small; it defines torch, tiny\."):
        parse(f"file:{nets}:small")
    nets.write_text("def tiny(:\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"nets\.py is not Python \(invalid syntax"):
        parse(f"file:{nets}:tiny")
    nets.write_text(FACTORY + "raise SystemExit\n", encoding="utf-8")
    assert parse(f"file:{nets}:tiny")[0].name == "tiny"
    graph.write_text("<html>", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"my net\.onnx is not an ONNX model"):
        parse(f"onnx:{graph}")
    graph.write_bytes(b"\x08")
    with pytest.raises(ConfigError, match="holds its weights; remove them"):
        parse({"model": f"onnx:{graph}", "weights": "seeded"})


def test_a_graph_of_another_image_size_asks_for_it(tmp_path):
    file = foreign(tmp_path / "theirs.onnx", size=48)
    for entry in (f"onnx:{file}", {"model": f"onnx:{file}", "image_size": 32}):
        with pytest.raises(ConfigError, match=r"takes images of 48 x 48 and not .* image_size: 48\}\.$"):
            parse(entry)
    assert parse({"model": f"onnx:{file}", "image_size": 48})[0].image_size == 48
    assert parse(f"onnx:{foreign(file, size='side')}")[0].image_size == 224


def test_an_edit_of_a_file_is_another_recipe_and_its_place_is_not(nets, tmp_path):
    (spec,) = parse(f"file:{nets}:tiny")
    moved = tmp_path / "folder" / "nets.py"
    moved.parent.mkdir()
    moved.write_text(FACTORY, encoding="utf-8")
    assert parse(f"file:{moved}:tiny")[0].recipe == spec.recipe
    nets.write_text(FACTORY + "# other\n", encoding="utf-8")
    assert parse(f"file:{nets}:tiny")[0].recipe != spec.recipe
    state = tmp_path / "state.pt"
    state.write_bytes(b"one")
    first = parse({"model": "resnet18", "weights": str(state)})[0].recipe
    state.write_bytes(b"two")
    assert first["weights"]["source"] == "file"
    assert parse({"model": "resnet18", "weights": str(state)})[0].recipe != first


def test_two_models_of_one_key_are_refused(nets, tmp_path):
    other = tmp_path / "folder" / "nets.py"
    other.parent.mkdir()
    other.write_text(FACTORY + "# other\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"two different models that are called 'nets\.tiny' in files; give one"):
        parse(f"file:{nets}:tiny", f"file:{other}:tiny")
    assert len(parse(f"file:{nets}:tiny", {"model": f"file:{other}:tiny", "name": "other"})) == 2
    with pytest.raises(ConfigError, match="two different models"):
        refuse_clashes([*parse("resnet18"), *parse({"model": "resnet18", "image_size": 64})], "the study")


def test_parsing_imports_no_torch(nets):
    code = (
        "import sys; from deepgap.study.models import parse_models\n"
        f"parse_models(['resnet50', 'vit_b_16', 'file:{nets}:tiny'], {{'source': 'pretrained'}}, 'models')\n"
        "print([name for name in ('torch', 'torchvision', 'timm', 'onnx', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")
    assert done.stdout.strip() == "[]"
