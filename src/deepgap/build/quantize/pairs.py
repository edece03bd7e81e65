"""Q/DQ pairs as nodes of a graph, and the integers that they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from deepgap.build.quantize.network import DQ, LAYERS, Layer, Network, Q, Use
from deepgap.errors import CalibrationError

SMALLEST_SCALE = 1e-8
LARGEST_BIAS = 2**30
"""An int32 bias stays below this, so that the sum of products fits beside it."""


@dataclass(frozen=True)
class Quantiser:
    """value = scale * (stored - zero_point), per tensor (scalars) or per channel of an axis (vectors)."""

    scale: np.ndarray
    zero_point: np.ndarray
    constant: bool = False
    """An initializer that is stored as integers, and so needs no QuantizeLinear."""
    axis: int = 0

    def apply(self, values: np.ndarray) -> np.ndarray:
        shape = [-1 if axis == self.axis else 1 for axis in range(values.ndim)] if self.scale.ndim else []
        bounds = np.iinfo(self.zero_point.dtype)
        steps = np.rint(values / self.scale.reshape(shape)) + self.zero_point.reshape(shape)
        stored: np.ndarray = np.clip(steps, bounds.min, bounds.max).astype(self.zero_point.dtype)
        return stored


def activation_scale(network: Network, scales: Mapping[str, float], use: Use) -> float:
    """The symmetric int8 scale of an activation, which is positive.

    Raises:
        CalibrationError: the calibration has no scale for the tensor.
    """
    tensor = network.scale_source(use.tensor)
    if tensor not in scales:
        raise CalibrationError(f"The calibration has no scale for the tensor {tensor}; calibrate this model again.")
    return max(scales[tensor], SMALLEST_SCALE)


def channel_scales(network: Network, layer: Layer, data_scale: np.ndarray) -> np.ndarray:
    """Symmetric int8 scales of a layer's output channels, float32 of shape (channels,).

    A channel whose weights are (nearly) zero gets a scale with which its bias still fits int32 in steps of
    data_scale * scale: ONNX Runtime stores it so, even where the graph has it in FP32.
    """
    values = np.moveaxis(network.array(layer.weight.tensor), layer.axis, 0)
    scales = np.maximum(np.abs(values).reshape(len(values), -1).max(axis=1) / 127, SMALLEST_SCALE)
    if layer.bias is not None:
        bias = network.array(layer.bias.tensor)
        scales = np.maximum(scales, np.abs(bias) / (data_scale * LARGEST_BIAS))
    result: np.ndarray = scales.astype(np.float32)
    return result


def unshare(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which each layer has weights and a bias of its own, as their scales are.

    The exporter folds equal constants into one: a network's biases that are all zero, for example.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    seen: set[str] = set()
    for node in result.graph.node:
        for index, name in enumerate(node.input):
            if name not in constants or node.op_type not in LAYERS:
                continue
            if name in seen:
                own = result.graph.initializer.add()
                own.CopyFrom(constants[name])
                own.name = node.input[index] = f"{name}_of_{node.output[0]}"
            seen.add(name)
    return result


def place(model: onnx.ModelProto, uses: Iterable[Use], quantisers: Mapping[str, Quantiser]) -> onnx.ModelProto:
    """A copy of the model in which these inputs come from dequantised integers.

    Args:
        quantisers: of each of these tensors.
    """
    keys = {use.key for use in uses}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    placed = set()
    for original in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        for index, tensor in enumerate(original.input):
            if Use(original, index).key not in keys:
                continue
            if tensor not in placed:
                placed.add(tensor)
                nodes += _pair(tensor, quantisers[tensor], constants)
            node.input[index] = f"{tensor}_dequantized"
        nodes.append(node)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:], result.graph.initializer[:]
    result.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    result.graph.initializer.extend(
        tensor for name, tensor in constants.items() if name in used or name not in placed
    )
    return result


def _pair(tensor: str, quantiser: Quantiser, constants: dict[str, onnx.TensorProto]) -> list[onnx.NodeProto]:
    """Q and DQ of a tensor, or DQ alone of a stored constant; their parameters are added to the constants."""
    scale, zero_point, integers = f"{tensor}_scale", f"{tensor}_zero_point", f"{tensor}_quantized"
    constants[scale] = numpy_helper.from_array(quantiser.scale, scale)
    constants[zero_point] = numpy_helper.from_array(quantiser.zero_point, zero_point)
    axis = quantiser.axis if quantiser.scale.ndim else None
    nodes = []
    if quantiser.constant:
        stored = quantiser.apply(numpy_helper.to_array(constants[tensor]))
        constants[integers] = numpy_helper.from_array(stored, integers)
    else:
        nodes.append(onnx.helper.make_node(Q, [tensor, scale, zero_point], [integers], f"{tensor}_{Q}", axis=axis))
    dequantized = f"{tensor}_dequantized"
    nodes.append(onnx.helper.make_node(DQ, [integers, scale, zero_point], [dequantized], f"{tensor}_{DQ}", axis=axis))
    return nodes
