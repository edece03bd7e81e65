"""The quantised graph of ONNX Runtime on x86: unsigned activations, signed weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from deepgap.build.quantize.network import quantisable
from deepgap.build.quantize.pairs import Quantiser, activation_scale, channel_scales, place, unshare
from deepgap.build.quantize.placement import onnxruntime_activations


def insert_u8s8(model: onnx.ModelProto, scales: Mapping[str, float], attention: bool = False) -> onnx.ModelProto:
    """Quantise what ONNX Runtime has integer CPU kernels for.

    Activations are uint8 and weights int8 per output channel, which is what x86 integer instructions multiply;
    biases are int32. A tensor that cannot be negative uses all 255 steps for [0, threshold], any other has the zero
    point 128. ONNX Runtime's optimizer makes integer operators of what stands between the pairs. The classifier
    stays FP32, as do the averages before it. CPUs without VNNI instructions saturate sums of two products in 16
    bits, and lose accuracy there.

    Args, Raises:
        As `insert_qdq`.
    """
    model = unshare(model)
    network = quantisable(model)
    quantisers = {}
    uses = onnxruntime_activations(network, attention)
    for use in uses:
        scale = activation_scale(network, scales, use)
        unsigned = network.is_non_negative(use.tensor)
        quantisers[use.tensor] = Quantiser(
            np.array(scale * 127 / 255 if unsigned else scale, np.float32), np.array(0 if unsigned else 128, np.uint8)
        )
    uses += [layer.weight for layer in network.layers]
    for layer in network.layers:
        data_scale = quantisers[layer.data.tensor].scale
        channels = channel_scales(network, layer, data_scale)
        if layer.bias is not None:
            quantisers[layer.bias.tensor] = Quantiser(data_scale * channels, np.zeros(channels.shape, np.int32), True)
            uses.append(layer.bias)
        quantisers[layer.weight.tensor] = Quantiser(channels, np.zeros(channels.shape, np.int8), True, layer.axis)
    return place(model, uses, quantisers)
