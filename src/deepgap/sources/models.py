"""torchvision models, their weights and their arithmetic."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepgap.build.images.textures import CLASSES, texture_images
from deepgap.errors import WeightsError, first_line
from deepgap.files import refuse_unreadable

if TYPE_CHECKING:
    import torch

GMAC_PER_IMAGE = {"resnet18": 1.81, "resnet50": 4.09, "resnet101": 7.80}
"""Multiply-adds of one 224 x 224 image in 10^9, from torchvision's model pages; FLOP are twice these."""

RESIDUAL_GAMMA = 0.1
STATISTICS_IMAGES = 64
HEAD_IMAGES = 400
RIDGE = 0.2
BATCH = 16


def build_model(name: str) -> torch.nn.Module:
    """The torchvision model of this name without weights, in eval mode."""
    import torchvision

    model: torch.nn.Module = torchvision.models.get_model(name, weights=None)
    return model.eval()


def build_weights(
    name: str, weights: Mapping[str, Any], image_size: int, say: Callable[[str], None]
) -> dict[str, torch.Tensor]:
    """The state dict that every mode of a model shares.

    Raises:
        WeightsError: the pretrained file cannot be had.
    """
    if weights["source"] == "imagenet":
        return _imagenet_weights(name)
    return _conditioned_weights(name, weights["seed"], image_size, say)


def _imagenet_weights(name: str) -> dict[str, torch.Tensor]:
    import torch
    import torchvision

    entry = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name
    try:
        state: dict[str, torch.Tensor] = entry.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"The ImageNet weights of {name} could not be downloaded ({error}); put the file at {file}, "
            "or set weights.source to 'seeded' in config/config.yaml."
        ) from None
    return state


def _conditioned_weights(
    name: str, seed: int, image_size: int, say: Callable[[str], None]
) -> dict[str, torch.Tensor]:
    """Random weights that behave like trained ones.

    Freshly initialised residual networks let activations grow with depth until FP16 overflows, and give every
    image the same class. Three steps prevent it: a small last BatchNorm gamma in each residual block, BatchNorm
    statistics estimated on procedural images, and a ridge-regression classifier on their features (Bishop,
    Pattern Recognition and Machine Learning, eq. 3.28), which gives each precision a real accuracy to lose.
    """
    import torch
    from torchvision.models.resnet import BasicBlock, Bottleneck

    torch.manual_seed(seed)
    model = build_model(name)
    for module in model.modules():
        if isinstance(module, BasicBlock):
            torch.nn.init.constant_(module.bn2.weight, RESIDUAL_GAMMA)
        elif isinstance(module, Bottleneck):
            torch.nn.init.constant_(module.bn3.weight, RESIDUAL_GAMMA)

    with torch.inference_mode():
        say(f"{name}: estimating BatchNorm statistics on {STATISTICS_IMAGES} procedural images")
        norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        labels = torch.arange(STATISTICS_IMAGES) % CLASSES
        model.train()
        for start in range(0, STATISTICS_IMAGES, BATCH):
            model(texture_images(labels[start : start + BATCH], seed + start, image_size))
        model.eval()

        head = model.fc
        assert isinstance(head, torch.nn.Linear)
        model.fc = torch.nn.Identity()
        labels = torch.arange(HEAD_IMAGES) % CLASSES
        features = []
        for start in range(0, HEAD_IMAGES, BATCH):
            images = texture_images(labels[start : start + BATCH], seed + 10_000 + start, image_size)
            features.append(model(images))
            if start % (8 * BATCH) == 0:
                say(f"{name}: fitting the classifier, {start} of {HEAD_IMAGES} images")
        _fit_head(head, torch.cat(features), labels)
        model.fc = head
    return model.state_dict()


def _fit_head(head: torch.nn.Linear, features: torch.Tensor, labels: torch.Tensor) -> None:
    """Set a linear layer to the ridge regression of one-hot labels on features of shape (n, d)."""
    import torch

    mean = features.mean(0)
    centred = (features - mean).double()
    targets = torch.nn.functional.one_hot(labels, head.out_features).double()
    offset = targets.mean(0)
    ridge = RIDGE * centred.square().sum(1).mean()
    gram = centred @ centred.T + ridge * torch.eye(len(centred), dtype=torch.float64)
    weight = (torch.linalg.solve(gram, targets - offset).T @ centred).float()
    head.weight.copy_(weight)
    head.bias.copy_(offset.float() - weight @ mean)


def hash_weights(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the names, types, shapes and bytes of a state dict, whatever file held it."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_model(name: str, weights_file: Path) -> tuple[torch.nn.Module, str]:
    """The model with the weights of a file, in eval mode on the CPU, and the hash of the weights.

    Raises:
        WeightsError: the file is missing, unreadable or of another model.
    """
    import torch

    try:
        state = torch.load(weights_file, map_location="cpu", weights_only=True)
        model = build_model(name)
        model.load_state_dict(state)
    except FileNotFoundError:
        raise WeightsError(f"The weights {weights_file} are missing; run Snakemake to build them.") from None
    except Exception as error:
        refuse_unreadable(weights_file, error)
        raise WeightsError(
            f"{weights_file} does not hold weights of {name} ({first_line(error)}); delete it."
        ) from None
    return model, hash_weights(state)
