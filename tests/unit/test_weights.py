"""Conditioned weights of any classifier behave like trained ones, and foreign ones are taken where they fit."""

from __future__ import annotations

import hashlib
import textwrap

import pytest
import torch

from deepgap import weights as weights_module
from deepgap.errors import UnsupportedError, WeightsError
from deepgap.study.models import ModelSpec, parse_models
from deepgap.weights import (
    Weights,
    build_weights,
    check_range,
    hash_weights,
    load_model,
    read_state,
    read_weights,
    save_weights,
)
from deepgap.weights.conditioning import condition
from deepgap.weights.textures import CLASSES, texture_images
from tests.unit.networks import bare_model

pytestmark = pytest.mark.xdist_group("models")

SIZE = 64
SEEDED = {"source": "seeded", "seed": 0}
RESNET18_SHA256 = "e3cebd25c5fe6522e34ae6c7f4974580a4887893b2bed2599b1a4b90cc49783a"
"""Of ResNet-18's seeded weights at this size on x86, which no edit may change without a new version."""

FACTORIES = """
import torch
from torch import nn

class Scaled(nn.Module):
    def __init__(self, width, scale):
        super().__init__()
        self.mix, self.gamma = nn.Linear(width, width), nn.Parameter(1e-6 * torch.ones(width))
        self.scale = scale
    def forward(self, x):
        return x + self.scale * self.gamma * self.mix(x)

def tiny(scale=1.0):
    return nn.Sequential(
        nn.Conv2d(3, 64, 5, 2), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3, 2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), Scaled(256, scale), nn.Linear(256, 10))

def loud(): return tiny(1e6)
def broken(): raise RuntimeError("no such layer")
def number(): return 3
def pair():
    class Pair(nn.Module):
        def forward(self, x): return x.mean((2, 3)), x
    return Pair()
def headless(): return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
def narrow(): return nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
"""


def quiet(text: str) -> None:
    pass


def parse(entry: object) -> ModelSpec:
    return parse_models([entry], SEEDED, "models")[0]


@pytest.fixture(scope="module")
def factory(tmp_path_factory):
    """The spec of a factory of the file above, with other keys of the entry."""
    file = tmp_path_factory.mktemp("factories") / "nets.py"
    file.write_text(textwrap.dedent(FACTORIES), encoding="utf-8")

    def spec(name: str, **keys: object) -> ModelSpec:
        return parse({"model": f"file:{file}:{name}", "image_size": SIZE, **keys})

    return spec


@pytest.fixture(scope="module")
def resnet18() -> Weights:
    """ResNet-18's weights, conditioned on small images to be quick."""
    return build_weights(parse({"model": "resnet18", "image_size": SIZE}), quiet)


def accuracy(weights: Weights, folder) -> float:
    save_weights(folder / "weights.pt", weights)
    model, _ = load_model(weights.spec.key, folder / "weights.pt")
    labels = torch.arange(200) % CLASSES
    with torch.inference_mode():
        logits = model(texture_images(labels, seed=123_456, size=SIZE))
    return (logits.argmax(1) == labels % logits.shape[1]).float().mean().item()


def test_conditioned_weights_classify_images_they_have_not_seen(resnet18, tmp_path):
    # Chance is 0.01; at 224 pixels, where the gratings do not alias, the accuracy is above 0.9.
    assert accuracy(resnet18, tmp_path) > 0.2
    assert resnet18.largest is not None and resnet18.largest < 100
    assert resnet18.unsupported is None


def test_plain_random_weights_do_not():
    torch.manual_seed(0)
    labels = torch.arange(100) % CLASSES
    with torch.inference_mode():
        logits = bare_model("resnet18")(texture_images(labels, seed=123_456, size=SIZE))
    assert (logits.argmax(1) == labels).float().mean().item() < 0.1


def test_a_factory_of_ten_classes_is_conditioned(factory, tmp_path):
    weights = build_weights(factory("tiny"), quiet)
    assert accuracy(weights, tmp_path) > 0.3
    # BatchNorm's statistics are of images, and the block does something.
    assert not torch.equal(weights.state["1.running_mean"], torch.zeros(64))
    assert torch.equal(weights.state["7.gamma"], torch.ones(256))
    again = build_weights(factory("tiny"), quiet)
    assert hash_weights(again.state) == hash_weights(weights.state)


@pytest.mark.parametrize(
    "name", ["mobilenet_v3_small", "squeezenet1_1", "regnet_y_400mf", "convnext_tiny", "timm:resnet10t"]
)
def test_other_families_are_conditioned(name, tmp_path):
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    spec = parse({"model": name, "image_size": SIZE})
    weights = build_weights(spec, quiet)
    assert weights.unsupported is None and weights.largest < 1000
    assert accuracy(weights, tmp_path) > 0.02


def test_what_cannot_be_conditioned_says_why(factory, tmp_path):
    for name, told in (
        ("broken", r"broken of nets\.py failed with RuntimeError: no such layer\."),
        ("number", r"returned int, not a torch\.nn\.Module"),
        ("pair", r"returns tuple and not a tensor of \(images, classes\)"),
        ("headless", r"No linear layer of the model gives its 3 classes"),
        ("narrow", r"cannot run images of shape \(2, 3, 64, 64\): mat1 and mat2 shapes"),
    ):
        weights = build_weights(factory(name), quiet)
        save_weights(tmp_path / "weights.pt", weights)
        with pytest.raises(UnsupportedError, match=told):
            load_model(weights.spec.key, tmp_path / "weights.pt")


def test_a_model_whose_activations_overflow_runs_in_fp32_alone(factory, tmp_path):
    weights = build_weights(factory("loud"), quiet)
    save_weights(tmp_path / "weights.pt", weights)
    assert weights.unsupported is None and weights.largest > 65_504
    for precision in ("fp32", "tf32", "bf16"):
        load_model("nets.loud", tmp_path / "weights.pt", precision)
    with pytest.raises(UnsupportedError, match=r"Activations of nets\.loud reach .*too near FP16's largest number"):
        load_model("nets.loud", tmp_path / "weights.pt", "fp16")
    # The images seen leave a margin to those that are not.
    check_range(Weights(weights.spec, {}, largest=16_000), "fp16")
    with pytest.raises(UnsupportedError):
        check_range(Weights(weights.spec, {}, largest=17_000), "fp16")


def test_the_weights_of_residual_networks_stay_as_they_are(resnet18):
    if torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512":
        assert hash_weights(resnet18.state) == RESNET18_SHA256
    gammas = [value for name, value in resnet18.state.items() if name.endswith("bn2.weight")]
    assert len(gammas) == 8 and all(bool((gamma == 0.1).all()) for gamma in gammas)


def test_the_hash_is_of_the_values(resnet18, tmp_path):
    save_weights(tmp_path / "weights.pt", resnet18)
    assert load_model("resnet18", tmp_path / "weights.pt")[1] == hash_weights(resnet18.state)
    assert read_weights(tmp_path / "weights.pt").spec == resnet18.spec
    changed = {name: tensor.clone() for name, tensor in resnet18.state.items()}
    changed["fc.bias"][0] += 1e-6
    assert hash_weights(changed) != hash_weights(resnet18.state)


def test_images_are_seeded_and_distinct():
    labels = torch.tensor([3, 3, 7])
    images = texture_images(labels, seed=1, size=SIZE)
    assert images.shape == (3, 3, SIZE, SIZE)
    assert torch.equal(images, texture_images(labels, seed=1, size=SIZE))
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images, texture_images(labels, seed=2, size=SIZE))


def test_weights_of_another_model_are_refused(resnet18, tmp_path):
    save_weights(tmp_path / "weights.pt", resnet18)
    with pytest.raises(WeightsError, match="does not hold weights of resnet50 but of resnet18"):
        load_model("resnet50", tmp_path / "weights.pt")


def test_missing_and_broken_weights_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="are missing"):
        load_model("resnet18", tmp_path / "absent.pt")
    (tmp_path / "broken.pt").write_bytes(b"not a file of weights")
    with pytest.raises(WeightsError, match=r"broken\.pt does not hold weights") as caught:
        load_model("resnet18", tmp_path / "broken.pt")
    assert "\n" not in str(caught.value)


# A file of the user


@pytest.mark.parametrize("wrap", [dict, lambda state: {"state_dict": state, "epoch": 3}])
def test_a_state_dict_of_the_user_is_taken(factory, tmp_path, wrap):
    state = {f"module.{name}": value for name, value in build_weights(factory("tiny"), quiet).state.items()}
    torch.save(wrap(state), tmp_path / "mine.pth")
    weights = build_weights(factory("tiny", weights=str(tmp_path / "mine.pth")), quiet)
    assert hash_weights(weights.state) == hash_weights({name[7:]: value for name, value in state.items()})


def test_safetensors_are_taken(factory, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    state = build_weights(factory("tiny"), quiet).state
    safetensors.save_file(dict(state), tmp_path / "mine.safetensors")
    weights = build_weights(factory("tiny", weights=str(tmp_path / "mine.safetensors")), quiet)
    assert hash_weights(weights.state) == hash_weights(state)


def test_foreign_and_damaged_files_are_told_in_a_sentence(factory, tmp_path):
    file = tmp_path / "mine.pth"
    state = dict(build_weights(factory("tiny"), quiet).state)

    def build(content: object) -> None:
        torch.save(content, file) if isinstance(content, dict) else file.write_bytes(content)
        build_weights(factory("tiny", weights=str(file)), quiet)

    torch.save(state, file)
    whole = file.read_bytes()
    for content, told in (
        ({**state, "8.weight": torch.zeros(7, 256)}, r"8\.weight has the shape \(7, 256\) and not \(10, 256\)"),
        ({k: v for k, v in state.items() if k != "8.bias"}, r"it lacks 8\.bias"),
        ({**state, "9.bias": torch.zeros(1)}, r"9\.bias is not in the model"),
        ({"epoch": 3}, "are not a state dict"),
        (b"<!DOCTYPE html><title>Not found</title>", "are damaged or not a state dict"),
        (whole[: len(whole) // 2], "are damaged or not a state dict"),
        (b"", "are damaged or not a state dict"),
    ):
        with pytest.raises(WeightsError, match=told) as caught:
            build(content)
        assert "\n" not in str(caught.value) and str(file) in str(caught.value)


class Evil:
    def __reduce__(self):
        return eval, ("open('/tmp/deepgap-evil', 'w')",)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(WeightsError, match="it is no archive of tensors"):
        read_state(tmp_path / "evil.pt")


# torchvision's trained weights


def test_a_download_that_fails_names_both_ways_out(monkeypatch, tmp_path):
    import torchvision

    def no_network(*arguments: object, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", no_network)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    spec = parse({"model": "resnet18", "weights": "imagenet"})
    with pytest.raises(WeightsError, match=r"put the file at .*resnet18.*\.pth, or set its weights to 'seeded'"):
        build_weights(spec, quiet)


@pytest.mark.parametrize("content", [b"<html>", b""])
def test_a_cached_file_that_is_not_what_its_name_says_is_refused(monkeypatch, tmp_path, content):
    import torchvision

    entry = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    file = tmp_path / "checkpoints" / entry.url.rpartition("/")[2]
    file.parent.mkdir()
    file.write_bytes(content)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    begins = hashlib.sha256(content).hexdigest()[:8]
    with pytest.raises(WeightsError, match=f"is not the file that torchvision's name says: .* begins with {begins}"):
        build_weights(parse({"model": "resnet18", "weights": "pretrained"}), quiet)


def test_trained_weights_are_taken_from_the_cache(monkeypatch, tmp_path):
    import torchvision

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    state = bare_model("squeezenet1_1").state_dict()
    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", lambda self, **options: state)
    weights = build_weights(parse({"model": "squeezenet1_1", "weights": "pretrained"}), quiet)
    assert hash_weights(weights.state) == hash_weights(state)


def test_a_factory_keeps_the_weights_that_it_returns_when_they_are_trained(factory):
    torch.manual_seed(5)
    first = build_weights(factory("tiny", weights="pretrained"), quiet).state
    assert bool((first["7.gamma"] < 1e-5).all())


def test_a_file_that_is_not_installed_is_told(monkeypatch):
    monkeypatch.setattr(
        weights_module, "load_source", lambda kind: type("S", (), {"is_installed": False, "library": "timm"})
    )
    with pytest.raises(weights_module.ConfigError, match="needs timm, which is not installed"):
        build_weights(parse("resnet18"), quiet)


def test_conditioning_leaves_the_model_in_eval_mode():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3),
        torch.nn.BatchNorm2d(8),
        torch.nn.Dropout(0.5),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 10),
    ).eval()
    condition(model, "tiny", 0, 32, quiet)
    assert not any(module.training for module in model.modules())
    assert model[1].momentum == 0.1
