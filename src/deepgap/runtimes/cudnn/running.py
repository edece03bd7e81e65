"""From an engine to calls: the network at its batch size, and a CUDA graph of it for each input buffer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepgap.build.engine_file import Engine
from deepgap.errors import EngineError
from deepgap.runtimes import Call, Inputs
from deepgap.runtimes.capture import capture
from deepgap.runtimes.cudnn.layers import PACKED_CHANNELS, PACKED_KERNEL, Layer

if TYPE_CHECKING:
    import torch

    Forward = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Options:
    """cuda_graph: replay each inference as one CUDA graph."""

    cuda_graph: bool = True


def prepare(engine: Engine, inputs: Inputs, options: Mapping[str, Any]) -> Call:
    """Load the engine's kernels for the batch size of `inputs` (contiguous) and capture a graph for each.

    Raises:
        EngineError: the engine was built for another batch size.
    """
    batch, built = inputs[0].shape[0], engine.about["batch_size"]
    if batch != built:
        raise EngineError(f"The engine was built for batch size {built}, but {batch} was asked for; build it anew.")
    forward = load_forward(engine, inputs[0].device)
    return capture(forward, inputs) if Options(**options).cuda_graph else lambda index: forward(inputs[index])


def load_forward(engine: Engine, device: torch.device) -> Forward:
    """The whole network at its batch size: images of shape (batch, 3, size, size), float32 for INT8 and float16 for
    FP16, to float16 logits."""
    import torch

    from deepgap.runtimes.cudnn import kernels
    from deepgap.runtimes.cudnn.convolutions import Operands, load_candidate

    about = engine.about
    layers = [Layer(**layer) for layer in about["layers"]]
    batch, choices = about["batch_size"], about["choices"]
    plans = {name.removeprefix("plan:"): part.tobytes() for name, part in engine.parts.items() if name[:5] == "plan:"}
    arrays = {
        name: torch.from_numpy(part.copy()).to(device) for name, part in engine.parts.items() if name[:5] != "plan:"
    }
    launches = {}
    for layer in layers:
        if layer.op == "convolution" and layer.shape(batch) not in launches:
            launches[layer.shape(batch)] = load_candidate(choices[layer.name], layer.shape(batch), plans)
    factors = {
        layer.name: torch.full((1,), layer.skip_multiplier, device=device)
        for layer in layers
        if layer.skip is not None
    }
    unused = torch.zeros(1, device=device)
    last_use = {
        tensor: place for place, layer in enumerate(layers) for tensor in (layer.x, layer.skip) if tensor is not None
    }
    last_use[about["head"]["x"]] = len(layers)
    size = about["image_size"]
    packed_size = size // 2 + PACKED_KERNEL - 1

    own_type = torch.float16 if about["precision"] == "fp16" else torch.int8

    def empty(*shape: int, dtype: torch.dtype = own_type) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    def forward(images: torch.Tensor) -> torch.Tensor:
        values = {"packed": empty(batch, packed_size, packed_size, PACKED_CHANNELS)}
        kernels.pack(images, values["packed"], 1 / about["input_scale"])
        for place, layer in enumerate(layers):
            x = values[layer.x]
            if layer.op == "max_pool":
                y = empty(batch, (layer.height - 1) // 2 + 1, (layer.width - 1) // 2 + 1, layer.channels)
                kernels.pool_maximum(x, y)
            else:
                shape = layer.shape(batch)
                y = empty(batch, shape.out_height, shape.out_width, layer.filters)
                operands = Operands(
                    x=x,
                    weight=arrays[f"weight:{layer.name}"],
                    multiplier=arrays[f"multiplier:{layer.name}"],
                    offset=arrays[f"offset:{layer.name}"],
                    skip=None if layer.skip is None else values[layer.skip],
                    skip_multiplier=factors.get(layer.name, unused),
                    skip_factor=layer.skip_multiplier,
                    y=y,
                )
                launches[shape](operands)
            values[layer.y] = y
            for tensor in (layer.x, layer.skip):
                if tensor is not None and last_use[tensor] == place:
                    del values[tensor]
        features = empty(batch, arrays["head_weight"].shape[1], dtype=torch.float16)
        kernels.pool_average(values[about["head"]["x"]], features, about["head"]["scale"])
        return torch.nn.functional.linear(features, arrays["head_weight"], arrays["head_bias"])

    return forward
