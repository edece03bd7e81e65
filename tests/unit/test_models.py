"""Conditioned weights behave like trained ones."""

from __future__ import annotations

import pytest
import torch

from deepgap.build.images.textures import CLASSES, texture_images
from deepgap.errors import WeightsError
from deepgap.sources.models import build_model, build_weights, hash_weights, load_model

pytestmark = pytest.mark.xdist_group("models")

SIZE = 64
SEEDED = {"source": "seeded", "seed": 0}


@pytest.fixture(scope="module")
def state():
    """ResNet-18's weights, conditioned on small images to be quick."""
    return build_weights("resnet18", SEEDED, SIZE, say=lambda text: None)


def test_conditioned_weights_classify_images_they_have_not_seen(state):
    model = build_model("resnet18")
    model.load_state_dict(state)
    largest = []
    for module in model.modules():
        if isinstance(module, torch.nn.ReLU):
            module.register_forward_hook(lambda _, __, output: largest.append(output.max().item()))
    labels = torch.arange(200) % CLASSES
    with torch.inference_mode():
        logits = model(texture_images(labels, seed=123_456, size=SIZE))
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    # Chance is 0.01; at 224 pixels, where the gratings do not alias, the accuracy is above 0.9.
    assert accuracy > 0.2
    assert max(largest) < 100


def test_plain_random_weights_do_not():
    torch.manual_seed(0)
    model = build_model("resnet18")
    labels = torch.arange(100) % CLASSES
    with torch.inference_mode():
        logits = model(texture_images(labels, seed=123_456, size=SIZE))
    assert (logits.argmax(1) == labels).float().mean().item() < 0.1


def test_the_hash_is_of_the_values(state, tmp_path):
    torch.save(state, tmp_path / "weights.pt")
    assert load_model("resnet18", tmp_path / "weights.pt")[1] == hash_weights(state)
    changed = {name: tensor.clone() for name, tensor in state.items()}
    changed["fc.bias"][0] += 1e-6
    assert hash_weights(changed) != hash_weights(state)


def test_images_are_seeded_and_distinct():
    labels = torch.tensor([3, 3, 7])
    images = texture_images(labels, seed=1, size=SIZE)
    assert images.shape == (3, 3, SIZE, SIZE)
    assert torch.equal(images, texture_images(labels, seed=1, size=SIZE))
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images, texture_images(labels, seed=2, size=SIZE))


def test_weights_of_another_model_are_refused(state, tmp_path):
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match="does not hold weights of resnet50"):
        load_model("resnet50", tmp_path / "weights.pt")


def test_missing_and_broken_weights_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="are missing"):
        load_model("resnet18", tmp_path / "absent.pt")
    (tmp_path / "broken.pt").write_bytes(b"not a file of weights")
    with pytest.raises(WeightsError, match=r"broken\.pt does not hold weights") as caught:
        load_model("resnet18", tmp_path / "broken.pt")
    assert "\n" not in str(caught.value)


def test_a_download_that_fails_names_both_ways_out(monkeypatch):
    import torchvision

    def no_network(*arguments: object, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", no_network)
    with pytest.raises(WeightsError, match=r"put the file at .*resnet18.*\.pth, or set weights\.source to 'seeded'"):
        build_weights("resnet18", {"source": "imagenet", "seed": 0}, SIZE, say=lambda text: None)
