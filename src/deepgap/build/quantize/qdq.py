"""The quantised graphs of TensorRT: symmetric int8 or FP8 pairs, and FP32 or FP16 for all else."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from deepgap.build.quantize.network import DQ, Network, Q, quantisable
from deepgap.build.quantize.pairs import Quantiser, activation_scale, channel_scales, place, unshare
from deepgap.build.quantize.placement import tensorrt_activations

LARGEST_INT8 = 127
LARGEST_FP8 = 448
"""Of E4M3 (Micikevicius et al., arXiv 2209.05433, table 1)."""
FP8 = onnx.TensorProto.FLOAT8E4M3FN
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
        UnsupportedError: the graph is not FP32, or holds nothing to quantise.
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


def insert_qdq_fp8(model: onnx.ModelProto, scales: Mapping[str, float], attention: bool = False) -> onnx.ModelProto:
    """`insert_qdq_fp16` with FP8 (E4M3) where that has int8: the same tensors, and the same thresholds.

    The largest FP8 number stands for the threshold that 127 stands for there, so that FP8 against INT8 is the number
    format alone. Tensor cores since compute capability 8.9 multiply it.

    Args, Raises:
        As `insert_qdq`.
    """
    fp8 = insert_qdq_fp16(model, scales, attention)
    constants = {tensor.name: tensor for tensor in fp8.graph.initializer}
    pairs = [node for node in fp8.graph.node if node.op_type in (Q, DQ)]
    for name in {node.input[1] for node in pairs}:
        scale = numpy_helper.to_array(constants[name])
        held = np.maximum(scale.astype(np.float32) * LARGEST_INT8 / LARGEST_FP8, SMALLEST_HALF_SCALE)
        constants[name].CopyFrom(numpy_helper.from_array(held.astype(scale.dtype), name))
    for name in {node.input[2] for node in pairs}:
        zeros, dims = constants[name], tuple(constants[name].dims)
        zeros.CopyFrom(helper.make_tensor(name, FP8, dims, bytes(math.prod(dims)), raw=True))
    return fp8


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
