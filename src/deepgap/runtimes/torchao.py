"""torchao: linear layers in INT8 or FP8 with scales found in each call, compiled, in a CUDA graph.

All else is BF16: convolutions, normalisation, attention's products, and the projections of PyTorch's own
`MultiheadAttention`, which are no layers of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deepgap.errors import UnsupportedError
from deepgap.runtimes import Call, Inputs, Runtime
from deepgap.runtimes.capture import capture
from deepgap.runtimes.compile import Options, compile_model, preload
from deepgap.runtimes.packages import first_installed, installed, pytorch

if TYPE_CHECKING:
    import torch

    from deepgap.study.gpus import Gpu

LEAST_CAPABILITY = {"int8": (8, 0), "fp8": (8, 9)}
"""The first compute capability with BF16, and with FP8 too."""
LEAST_SHARE = 0.5
"""Of the model's weights that must be quantised for the mode to be what it says."""
MOST_ROWS_REFUSED = 16
"""INT8 products of so few rows are refused by PyTorch (`_int_mm`); the classifier has a row an image."""
FEATURE_MULTIPLE = 16
"""Of a layer's inputs and outputs, as FP8 products need."""


def convert(model: torch.nn.Module, inputs: Inputs, precision: str) -> None:
    """Quantise the linear layers of a BF16 model in place; those with few rows or odd sizes stay as they are.

    Raises:
        UnsupportedError: the others hold less than half of the model's weights.
    """
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        Int8DynamicActivationInt8WeightConfig,
        quantize_,
    )

    chosen = _quantisable(model, inputs[0])
    weights = sum(parameter.numel() for parameter in model.parameters())
    share = sum(layer.weight.numel() for layer in chosen.values()) / weights
    if share < LEAST_SHARE:
        raise UnsupportedError(
            f"torchao quantises linear layers, and those that it can are {share:.0%} of the weights of this model."
        )
    configs = {"int8": Int8DynamicActivationInt8WeightConfig, "fp8": Float8DynamicActivationFloat8WeightConfig}
    quantize_(model, configs[precision](), filter_fn=lambda module, name: name in chosen)


def _quantisable(model: torch.nn.Module, images: torch.Tensor) -> dict[str, torch.nn.Linear]:
    """The linear layers that a quantised product can be of, by their names, found in one call."""
    import torch

    # `MultiheadAttention` reads the weight of its output projection itself.
    own_use = torch.nn.modules.linear.NonDynamicallyQuantizableLinear
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not isinstance(module, own_use)
    }
    rows: dict[str, int] = {}

    def watch(name: str) -> torch.utils.hooks.RemovableHandle:
        def note(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
            rows[name] = arguments[0].numel() // arguments[0].shape[-1]

        return layers[name].register_forward_pre_hook(note)

    handles = [watch(name) for name in layers]
    model(images)
    for handle in handles:
        handle.remove()
    return {
        name: layer
        for name, layer in layers.items()
        if rows.get(name, 0) > MOST_ROWS_REFUSED
        and layer.in_features % FEATURE_MULTIPLE == 0
        and layer.out_features % FEATURE_MULTIPLE == 0
    }


def prepare(model: torch.nn.Module, inputs: Inputs, options: Mapping[str, Any]) -> Call:
    return capture(compile_model(model, options), inputs)


def skip(model: str, precision: str, batch_size: int, gpu: Gpu) -> str | None:
    least = LEAST_CAPABILITY[precision]
    if gpu.capability < least:
        return (
            f"{precision.upper()} by torchao needs compute capability {'.'.join(map(str, least))}, and the "
            f"{gpu.kind} has {gpu.compute_capability}."
        )
    return None


def libraries() -> dict[str, str]:
    remedy = (
        "run '.venv/bin/python -m pip install -r envs/torchao.txt', or take the torchao modes out of "
        "config/config.yaml"
    )
    return installed("torchao", "torchao", remedy=remedy) | pytorch("torchao") | first_installed(("triton",))


RUNTIME = Runtime(
    precisions=frozenset({"int8", "fp8"}),
    devices=frozenset({"cuda"}),
    prepare=prepare,
    libraries=libraries,
    options=Options,
    types={"int8": "bfloat16", "fp8": "bfloat16"},
    convert=convert,
    skip=skip,
    preload=preload,
)
