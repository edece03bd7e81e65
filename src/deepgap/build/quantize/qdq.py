"""The quantised graphs of TensorRT: symmetric int8 pairs, and FP32 or FP16 for all else."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from deepgap.build.quantize.network import Network, quantisable
from deepgap.build.quantize.pairs import Quantiser, activation_scale, channel_scales, place, unshare
from deepgap.build.quantize.placement import tensorrt_activations

SMALLEST_HALF_SCALE = 2.0**-20
"""FP16 holds nothing below 2**-24, and this with four bits."""


def insert_qdq(model: onnx.ModelProto, scales: Mapping[str, float], attention: bool = False) -> onnx.ModelProto:
    """Insert the Q/DQ pairs that TensorRT fuses into INT8 kernels.

    Symmetric int8, one pair for each tensor: per tensor on the activations of `tensorrt_activations`, per output
    channel on the FP32 weights of the layers. A MaxPool has one scale on its input and its result. Biases and all
    that is not quantised stay FP32.

    Args:
        model: the FP32 export; it is left as it is.
        scales: threshold / 127 of each of `calibrated_tensors`.
        attention: as in `tensorrt_activations`.

    Raises:
        GraphError: the graph is not FP32, or holds nothing to quantise.
        CalibrationError: a tensor has no scale.
    """
    model = unshare(model)
    network = quantisable(model)
    return _insert(model, network, {name: float(scale) for name, scale in scales.items()}, attention, np.float32)


def insert_qdq_fp16(model: onnx.ModelProto, scales: Mapping[str, float], attention: bool = False) -> onnx.ModelProto:
    """`insert_qdq` with FP16 for all that is not int8, the scales, the input and the output too.

    Tensor cores of every generation since Turing multiply FP16, where TensorRT for RTX has no FP32 matrix product on
    Turing at all.

    Args, Raises:
        As `insert_qdq`.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = unshare(model)
    pairs = _insert(model, quantisable(model), scales, attention, np.float16)
    half: onnx.ModelProto = convert_float_to_float16(pairs)
    del half.graph.value_info[:]
    return half


def _insert(
    model: onnx.ModelProto, network: Network, scales: Mapping[str, float], attention: bool, kind: type[np.floating]
) -> onnx.ModelProto:
    """The pairs of `insert_qdq`, with float32 scales whose values are those of this type."""

    def rounded(values: np.ndarray) -> np.ndarray:
        if kind is np.float32:
            return values
        held: np.ndarray = np.maximum(values, SMALLEST_HALF_SCALE).astype(kind).astype(np.float32)
        return held

    quantisers = {}
    activations = tensorrt_activations(network, attention)
    for use in activations:
        scale = rounded(np.array(activation_scale(network, scales, use), np.float32))
        quantisers[use.tensor] = Quantiser(scale, np.array(0, np.int8))
    for layer in network.layers:
        channels = rounded(channel_scales(network, layer, quantisers[layer.data.tensor].scale))
        zero_points = np.zeros(channels.shape, np.int8)
        quantisers[layer.weight.tensor] = Quantiser(channels, zero_points, axis=layer.axis)
    return place(model, [*activations, *(layer.weight for layer in network.layers)], quantisers)
