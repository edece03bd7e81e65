"""Where a residual network is quantised: Q/DQ pairs for TensorRT, and a graph for ONNX Runtime on the CPU.

Both forms start from the FP32 export and the symmetric int8 scales of its activations, threshold / 127.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from deepgap.build.export import OPERATORS, load_graph
from deepgap.errors import CalibrationError, GraphError, first_line

SMALLEST_SCALE = 1e-8
LARGEST_BIAS = 2**30
"""An int32 bias stays below this, so that the sum of products fits beside it."""

Q, DQ = "QuantizeLinear", "DequantizeLinear"
DATA, WEIGHT, BIAS = 0, 1, 2


@dataclass(frozen=True)
class Use:
    """One input of one node."""

    node: onnx.NodeProto
    index: int

    @property
    def tensor(self) -> str:
        return str(self.node.input[self.index])

    @property
    def key(self) -> tuple[str, int]:
        return self.node.name, self.index

    def __str__(self) -> str:
        return f"the input {self.tensor} of {self.node.op_type} {self.node.name}"


@dataclass(frozen=True)
class Quantiser:
    """value = scale * (stored - zero_point), per tensor (scalars) or per channel of axis 0 (vectors)."""

    scale: np.ndarray
    zero_point: np.ndarray
    constant: bool = False
    """An initializer that is stored as integers, and so needs no QuantizeLinear."""

    def apply(self, values: np.ndarray) -> np.ndarray:
        shape = self.scale.shape + (1,) * (values.ndim - self.scale.ndim)
        bounds = np.iinfo(self.zero_point.dtype)
        steps = np.rint(values / self.scale.reshape(shape)) + self.zero_point.reshape(shape)
        stored: np.ndarray = np.clip(steps, bounds.min, bounds.max).astype(self.zero_point.dtype)
        return stored


class Network:
    """A plain residual network: who makes each tensor, and which inputs may be quantised.

    Raises:
        GraphError: the graph has another operator, or weights that are not constants.
    """

    def __init__(self, nodes: Iterable[onnx.NodeProto], initializers: Iterable[onnx.TensorProto]) -> None:
        self.nodes = list(nodes)
        self.producer = {name: node for node in self.nodes for name in node.output}
        self.constants = {tensor.name: tensor for tensor in initializers}
        for node in self.nodes:
            if node.op_type not in OPERATORS:
                raise GraphError(
                    f"The graph cannot be quantised: it holds {node.op_type} {node.name}, and a plain residual "
                    f"network has only {', '.join(sorted(OPERATORS))}; start from the FP32 export."
                )
        for use in self.weights:
            if use.tensor not in self.constants:
                raise GraphError(f"The graph cannot be quantised: {use} is not a constant.")

    @cached_property
    def weights(self) -> list[Use]:
        return [Use(node, WEIGHT) for node in self.nodes if node.op_type == "Conv"]

    @cached_property
    def activations(self) -> list[Use]:
        """The inputs of every operator that has an INT8 kernel, in the order of the graph."""
        indices = {"Conv": (0,), "MaxPool": (0,), "GlobalAveragePool": (0,), "Add": (0, 1)}
        return [Use(node, index) for node in self.nodes for index in indices.get(node.op_type, ())]

    @cached_property
    def fused_activations(self) -> list[Use]:
        """`activations` without the operand of each Add that comes straight from the main path's convolution."""
        return [use for use in self.activations if use.node.op_type != "Add" or use.index == self._skip(use.node)]

    def array(self, name: str) -> np.ndarray:
        values: np.ndarray = numpy_helper.to_array(self.constants[name])
        return values

    def scale_source(self, tensor: str) -> str:
        """The tensor whose scale this one has: MaxPool hands its input's scale on."""
        node = self.producer.get(tensor)
        return self.scale_source(node.input[DATA]) if node is not None and node.op_type == "MaxPool" else tensor

    def is_non_negative(self, tensor: str) -> bool:
        node = self.producer.get(self.scale_source(tensor))
        return node is not None and node.op_type == "Relu"

    def _skip(self, add: onnx.NodeProto) -> int:
        """Which operand of an Add is the skip.

        It is the one that no convolution makes, or the one whose convolution reads the input of the block: a tensor
        from which the other operand comes as well.
        """
        makers = [self.producer.get(name) for name in add.input]
        is_skip = [node is None or node.op_type != "Conv" for node in makers]
        if not any(is_skip):
            first, second = add.input
            is_skip = [
                self.producer[first].input[DATA] in self._upstream(second),
                self.producer[second].input[DATA] in self._upstream(first),
            ]
        if sum(is_skip) != 1:
            raise GraphError(
                f"The graph cannot be quantised: of {add.input[0]} and {add.input[1]}, the operands of {add.name}, "
                "none or both could be the skip of a residual block."
            )
        return is_skip.index(True)

    def _upstream(self, tensor: str) -> Iterator[str]:
        """The tensors from which a residual block makes this one."""
        node = self.producer.get(tensor)
        while node is not None and node.op_type in ("Conv", "Relu"):
            yield node.input[DATA]
            node = self.producer.get(node.input[DATA])


def read_graph(path: Path) -> onnx.ModelProto:
    """Read and check an ONNX file.

    Raises:
        GraphError: the file is missing, damaged, edited or not a valid model; the sentence names it.
    """
    model = load_graph(path)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise GraphError(
            f"{path} is damaged or not an ONNX model ({first_line(error)}); delete it and run Snakemake again."
        ) from None
    return model


def calibrated_tensors(model: onnx.ModelProto) -> list[str]:
    """The activations whose scales `insert_qdq` or `insert_u8s8` needs, in the order of the graph.

    The result of a MaxPool is not among them: it has the scale of its input.

    Raises:
        GraphError: the graph is not a plain FP32 residual network.
    """
    network = _network(model)
    return list(dict.fromkeys(network.scale_source(use.tensor) for use in network.activations))


def insert_qdq(model: onnx.ModelProto, scales: Mapping[str, float]) -> onnx.ModelProto:
    """Insert the Q/DQ pairs that TensorRT fuses into INT8 kernels.

    Symmetric int8, one pair for each tensor: per tensor on the data of every convolution, on the input and the
    result of MaxPool (with one scale), on the input of GlobalAveragePool and on the skip operand of every Add; per
    output channel on every convolution's FP32 weights. The other operand of an Add comes straight from its
    convolution, so that both become one kernel. Biases and the classifier stay FP32. The rules are those of
    "Working with Quantized Types" in NVIDIA's TensorRT documentation.

    Args:
        model: the FP32 export; it is left as it is.
        scales: threshold / 127 of each of `calibrated_tensors`.

    Raises:
        GraphError: the graph is not a plain FP32 residual network.
        CalibrationError: a tensor has no scale.
    """
    network = _network(model)
    quantisers = {}
    for use in network.fused_activations:
        scale = max(_scale(scales, network.scale_source(use.tensor)), SMALLEST_SCALE)
        quantisers[use.tensor] = Quantiser(np.array(scale, np.float32), np.array(0, np.int8))
    for use in network.weights:
        channels = _channel_scales(network, use, quantisers[use.node.input[DATA]].scale)
        quantisers[use.tensor] = Quantiser(channels, np.zeros(channels.shape, np.int8))
    return _place(model, [*network.fused_activations, *network.weights], quantisers)


def insert_u8s8(model: onnx.ModelProto, scales: Mapping[str, float]) -> onnx.ModelProto:
    """Quantise everything that ONNX Runtime has integer CPU kernels for.

    Activations are uint8 and convolution weights int8 per output channel, which is what x86 integer instructions
    multiply; biases are int32. A tensor that cannot be negative uses all 255 steps for [0, threshold], any other has
    the zero point 128. The pairs stand on the inputs of Conv, Add, MaxPool and GlobalAveragePool; ONNX Runtime's
    optimizer makes integer operators of what stands between. The global average, of 49 values an image and channel,
    and the classifier stay FP32. CPUs without VNNI instructions saturate sums of two products in 16 bits, and lose
    accuracy there.

    Args, Raises:
        As `insert_qdq`.
    """
    network = _network(model)
    quantisers = {}
    for use in network.activations:
        scale = max(_scale(scales, network.scale_source(use.tensor)), SMALLEST_SCALE)
        unsigned = network.is_non_negative(use.tensor)
        quantisers[use.tensor] = Quantiser(
            np.array(scale * 127 / 255 if unsigned else scale, np.float32), np.array(0 if unsigned else 128, np.uint8)
        )
    uses = [*network.activations, *network.weights]
    for use in network.weights:
        data_scale = quantisers[use.node.input[DATA]].scale
        channels = _channel_scales(network, use, data_scale)
        if len(use.node.input) > BIAS:
            bias = Use(use.node, BIAS)
            quantisers[bias.tensor] = Quantiser(data_scale * channels, np.zeros(channels.shape, np.int32), True)
            uses.append(bias)
        quantisers[use.tensor] = Quantiser(channels, np.zeros(channels.shape, np.int8), True)
    return _place(model, uses, quantisers)


FORMS: dict[str, Callable[[onnx.ModelProto, Mapping[str, float]], onnx.ModelProto]] = {
    "qdq": insert_qdq,
    "u8s8": insert_u8s8,
}
"""The quantised graphs, by the names of their files."""


def lint_placement(model: onnx.ModelProto) -> list[str]:
    """What in a graph with Q/DQ pairs departs from the form of `insert_qdq`, a sentence each; none is good.

    Raises:
        GraphError: the graph without its pairs is not a plain FP32 residual network.
    """
    pairs = _Pairs(model)
    plain, quantised = pairs.strip()
    network = Network(plain, model.graph.initializer)
    return [*_misplaced(network, quantised), *pairs.incomplete(), *_malformed(network, pairs)]


class _Pairs:
    """The Q/DQ nodes of a graph, well formed or not."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.producer = {name: node for node in self.nodes for name in node.output}
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.quantise = [node for node in self.nodes if node.op_type == Q]
        self.dequantise = [node for node in self.nodes if node.op_type == DQ]

    def strip(self) -> tuple[list[onnx.NodeProto], dict[tuple[str, int], str]]:
        """The graph's other nodes as if there were no pairs, and the operator that fed each quantised input."""
        plain: list[onnx.NodeProto] = []
        quantised: dict[tuple[str, int], str] = {}
        for node in self.nodes:
            if node.op_type in (Q, DQ):
                continue
            bare = onnx.NodeProto()
            bare.CopyFrom(node)
            for index, name in enumerate(node.input):
                while (maker := self.producer.get(name)) is not None and maker.op_type in (Q, DQ):
                    quantised.setdefault((node.name, index), maker.op_type)
                    name = maker.input[0]
                bare.input[index] = name
            plain.append(bare)
        return plain, quantised

    def incomplete(self) -> Iterator[str]:
        dequantised = {node.input[0] for node in self.dequantise}
        seen = set()
        for node in self.quantise:
            tensor = node.input[0]
            if node.output[0] not in dequantised:
                yield f"{node.name} has no {DQ} behind it."
            if tensor in seen:
                yield f"{tensor} has more than one Q/DQ pair."
            if tensor in self.producer and self.producer[tensor].op_type == DQ:
                yield f"{node.name} quantises the result of {self.producer[tensor].name} once more."
            seen.add(tensor)
        for node in self.dequantise:
            maker = self.producer.get(node.input[0])
            if maker is None or maker.op_type != Q:
                yield f"{node.name} has no {Q} before it."
            elif self.parameters(node) != self.parameters(maker):
                yield f"{node.name} has not the scale, zero point and axis of {maker.name}."

    def parameters(self, node: onnx.NodeProto) -> tuple[list[float], str, list[int], int | None]:
        """Scales, type of the zero point, zero points and the axis (null per tensor)."""
        scale = numpy_helper.to_array(self.constants[node.input[1]])
        # ONNX: without a zero point the type is uint8, without an axis it is 1.
        zero_point = (
            numpy_helper.to_array(self.constants[node.input[2]]) if len(node.input) > 2 else np.zeros(1, np.uint8)
        )
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        return (
            scale.ravel().tolist(),
            str(zero_point.dtype),
            zero_point.ravel().tolist(),
            axis if scale.ndim else None,
        )


def _misplaced(network: Network, quantised: Mapping[tuple[str, int], str]) -> Iterator[str]:
    expected = {use.key for use in (*network.fused_activations, *network.weights)}
    for node in network.nodes:
        for index in range(len(node.input)):
            use = Use(node, index)
            subject = f"T{str(use)[1:]}"
            if use.key in expected and use.key not in quantised:
                yield f"{subject} has no Q/DQ pair."
            elif use.key in quantised and use.key not in expected:
                reason = "it comes from the main path's convolution" if node.op_type == "Add" else "it stays FP32"
                yield f"{subject} has a Q/DQ pair, but {reason}."
            elif quantised.get(use.key) == Q:
                yield f"{subject} comes from a {Q} without a {DQ}."


def _malformed(network: Network, pairs: _Pairs) -> Iterator[str]:
    channels = {use.tensor: len(network.array(use.tensor)) for use in network.weights}
    first_scale = {}
    for node in pairs.quantise:
        tensor = node.input[0]
        scale, kind, zero_point, axis = pairs.parameters(node)
        first_scale[tensor] = scale[0]
        if kind != "int8":
            yield f"{node.name} quantises to {kind}; TensorRT needs int8."
        if any(zero_point):
            yield f"{node.name} has a zero point other than 0."
        if not all(0 < value < np.inf for value in scale):
            yield f"{node.name} has a scale that is not a positive number."
        if tensor in channels and len(scale) != channels[tensor]:
            yield f"{node.name} has {len(scale)} scales for the {channels[tensor]} output channels of {tensor}."
        elif tensor in channels and axis != 0:
            yield f"{node.name} has its scales along axis {axis}; the output channels are axis 0."
        elif tensor not in channels and len(scale) != 1:
            yield f"{node.name} has {len(scale)} scales for an activation, which has one."
    for node in network.nodes:
        if node.op_type == "MaxPool" and first_scale.get(node.input[0]) != first_scale.get(node.output[0]):
            yield f"MaxPool {node.name} has different scales on its input and its result."


def _network(model: onnx.ModelProto) -> Network:
    network = Network(model.graph.node, model.graph.initializer)
    for use in network.weights:
        if network.constants[use.tensor].data_type != onnx.TensorProto.FLOAT:
            raise GraphError(f"The graph cannot be quantised: {use} is not FP32; start from the FP32 export.")
    return network


def _scale(scales: Mapping[str, float], tensor: str) -> float:
    if tensor not in scales:
        raise CalibrationError(f"The calibration has no scale for the tensor {tensor}; calibrate this model again.")
    return scales[tensor]


def _channel_scales(network: Network, weight: Use, data_scale: np.ndarray) -> np.ndarray:
    """Symmetric int8 scales of a convolution's output channels, float32 of shape (channels,).

    A channel whose weights are (nearly) zero gets a scale with which its bias still fits int32 in steps of
    data_scale * scale: ONNX Runtime stores it so, even where the graph has it in FP32.
    """
    values = network.array(weight.tensor)
    scales = np.maximum(np.abs(values).reshape(len(values), -1).max(axis=1) / 127, SMALLEST_SCALE)
    if len(weight.node.input) > BIAS:
        bias = network.array(weight.node.input[BIAS])
        scales = np.maximum(scales, np.abs(bias) / (data_scale * LARGEST_BIAS))
    result: np.ndarray = scales.astype(np.float32)
    return result


def _place(model: onnx.ModelProto, uses: Iterable[Use], quantisers: Mapping[str, Quantiser]) -> onnx.ModelProto:
    """A copy of the model in which these inputs come from dequantised integers."""
    keys = {use.key for use in uses}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    placed = set()
    for original in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        for index, tensor in enumerate(original.input):
            if (original.name, index) not in keys:
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
    result.graph.initializer.extend(tensor for name, tensor in constants.items() if name in used)
    return result


def _pair(tensor: str, quantiser: Quantiser, constants: dict[str, onnx.TensorProto]) -> list[onnx.NodeProto]:
    """Q and DQ of a tensor, or DQ alone of a stored constant; their parameters are added to the constants."""
    scale, zero_point, integers = f"{tensor}_scale", f"{tensor}_zero_point", f"{tensor}_quantized"
    constants[scale] = numpy_helper.from_array(quantiser.scale, scale)
    constants[zero_point] = numpy_helper.from_array(quantiser.zero_point, zero_point)
    axis = 0 if quantiser.scale.ndim else None
    nodes = []
    if quantiser.constant:
        stored = quantiser.apply(numpy_helper.to_array(constants[tensor]))
        constants[integers] = numpy_helper.from_array(stored, integers)
    else:
        nodes.append(onnx.helper.make_node(Q, [tensor, scale, zero_point], [integers], f"{tensor}_{Q}", axis=axis))
    dequantized = f"{tensor}_dequantized"
    nodes.append(onnx.helper.make_node(DQ, [integers, scale, zero_point], [dequantized], f"{tensor}_{DQ}", axis=axis))
    return nodes
