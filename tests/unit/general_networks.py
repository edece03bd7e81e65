"""A small MobileNet and a small transformer of our own, with weights that answer, and their exported graphs."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn import functional

from deepgap.weights.textures import texture_images

SIZE, CLASSES = 32, 10


class Excite(nn.Module):
    """Squeeze and excite."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = functional.adaptive_avg_pool2d(x, 1)
        return x * functional.hardsigmoid(self.excite(functional.relu(self.squeeze(mean))))


class Inverted(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 4 * channels
        self.expand = nn.Sequential(nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide))
        self.depthwise = nn.Sequential(
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False), nn.BatchNorm2d(wide)
        )
        self.excite = Excite(wide)
        self.project = nn.Sequential(nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.hardswish(self.expand(x))
        y = self.excite(functional.relu6(self.depthwise(y)))
        return x + self.project(y)


class TinyMobile(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16))
        self.blocks = nn.Sequential(Inverted(16), Inverted(16))
        self.classifier = nn.Linear(16, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(functional.hardswish(self.stem(x)))
        return self.classifier(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Encoder(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        parts = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5, -1)
        x = x + self.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, width))
        return x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))


class TinyTransformer(nn.Module):
    def __init__(self, width: int = 32, depth: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.position = nn.Parameter(torch.randn(1, (SIZE // 8) ** 2, width) * 0.2)
        self.encoders = nn.Sequential(*(Encoder(width, 4) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.classifier(self.norm(self.encoders(tokens)).mean(1))


NETWORKS = {"mobile": TinyMobile, "transformer": TinyTransformer}


def texture_batch(count: int, seed: int) -> torch.Tensor:
    return texture_images(torch.arange(count) % 100, seed, SIZE)


@cache
def general_network(name: str) -> nn.Module:
    """Seeded weights; BatchNorm statistics and a least-squares classifier of 64 and 200 textures of ten classes."""
    torch.manual_seed(0)
    model = NETWORKS[name]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model.train()(texture_batch(64, 1))
        model.eval()
        labels = torch.arange(200) % CLASSES
        features: list[torch.Tensor] = []
        handle = model.classifier.register_forward_hook(lambda module, inputs, result: features.append(inputs[0]))
        model(texture_images(labels, 2, SIZE))
        handle.remove()
        centred = features[0] - features[0].mean(0)
        target = functional.one_hot(labels, CLASSES).float() - 1 / CLASSES
        energy = 0.2 * centred.square().sum(0).mean() * torch.eye(centred.shape[1])
        weight = torch.linalg.solve(centred.T @ centred + energy, centred.T @ target).T
        model.classifier.weight.copy_(weight)
        model.classifier.bias.copy_(-weight @ features[0].mean(0))
    return model


@cache
def _exported(name: str) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            general_network(name),
            (torch.zeros(2, 3, SIZE, SIZE),),
            dynamo=True,
            dynamic_shapes=({0: "batch"},),
            input_names=["input"],
            output_names=["logits"],
            opset_version=20,
            verbose=False,
        )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


def general_graph(name: str) -> onnx.ModelProto:
    """The FP32 graph as the exporter leaves it; the caller may change it."""
    return onnx.load_from_string(_exported(name))


def general_images(count: int, seed: int = 3) -> np.ndarray:
    images: np.ndarray = texture_batch(count, seed).numpy()
    return images
