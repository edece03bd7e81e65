"""Small residual networks and their graphs, for tests of the export and of INT8."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torchvision
from torchvision.models.resnet import Bottleneck, ResNet

from deepgap.build.export import export_onnx
from deepgap.build.quantize.network import read_graph
from deepgap.study.models import parse_models
from deepgap.weights import Weights, save_weights

SIZE = 64
BOTTLENECKS = "bottlenecks"
"""What ResNet-50 is made of, in five blocks: one behind another, and three that halve the image."""


def bare_model(name: str) -> torch.nn.Module:
    """A torchvision model, or `BOTTLENECKS`, with fresh random weights, in eval mode."""
    if name == BOTTLENECKS:
        return ResNet(Bottleneck, [2, 1, 1, 1]).eval()
    model: torch.nn.Module = torchvision.models.get_model(name, weights=None)
    return model.eval()


def save_model(path: Path, name: str, model: torch.nn.Module, image_size: int = 224) -> None:
    """Write a torchvision model as the weights of that name."""
    (spec,) = parse_models([{"model": name, "image_size": image_size}], {"source": "seeded", "seed": 0}, "models")
    save_weights(path, Weights(spec, model.state_dict(), largest=1.0))


def small_network(name: str) -> torch.nn.Module:
    """A seeded model whose BatchNorm layers are not the identity and whose activations stay small."""
    torch.manual_seed(0)
    model = bare_model(name)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.3, 0.7)
            torch.nn.init.normal_(module.bias, std=0.2)
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 1.5)
    return model


@cache
def _exported(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        export_onnx(small_network(name), path, "fp32", SIZE)
        return path.read_bytes()


def small_graph(name: str) -> onnx.ModelProto:
    """The FP32 export of a small network; the caller may change it."""
    return onnx.load_from_string(_exported(name))


def write_small_graph(name: str, folder: Path) -> Path:
    path = folder / f"{name}.onnx"
    path.write_bytes(_exported(name))
    read_graph(path)
    return path


def images(count: int, seed: int = 0) -> np.ndarray:
    """float32 of shape (count, 3, SIZE, SIZE)."""
    return np.random.default_rng(seed).standard_normal((count, 3, SIZE, SIZE)).astype(np.float32)


def run_graph(model: onnx.ModelProto, inputs: np.ndarray, *outputs: str) -> list[np.ndarray]:
    """The logits, or these tensors, in ONNX Runtime."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(list(outputs) or None, {"input": inputs})
