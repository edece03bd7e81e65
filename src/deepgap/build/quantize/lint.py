"""What in a quantised graph TensorRT will not run as the placement means it, and where INT8 ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper

from deepgap.build.quantize.network import ACTIVATIONS, DQ, Network, Q, Use, describe
from deepgap.build.quantize.placement import tensorrt_activations

MOVES = {"Concat", "Flatten", "Gather", "MaxPool", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators that commute with quantisation by one scale."""
KINDS = ("int8", "float8_e4m3fn")


class Boundary(NamedTuple):
    """A tensor that passes between an INT8 kernel and the other type, and so costs memory traffic or a kernel.

    maker, reader: operators, as `Conv conv1`; the graph's input or output where there is none.
    leaves: whether it leaves INT8; else it enters.
    """

    maker: str
    reader: str
    leaves: bool

    def __str__(self) -> str:
        if self.leaves:
            return f"{self.maker} is an INT8 kernel, but writes its result in the other type for {self.reader}."
        return f"{self.maker} writes its result in the other type, which is quantised behind it for {self.reader}."


def lint_placement(model: onnx.ModelProto, attention: bool = False) -> list[str]:
    """What in a graph with Q/DQ pairs departs from the form of `insert_qdq`, a sentence each; none is good."""
    pairs = _Pairs(model)
    network, quantised = pairs.strip()
    return [*_misplaced(network, quantised, attention), *pairs.incomplete(), *_malformed(network, quantised, pairs)]


def list_boundaries(model: onnx.ModelProto) -> list[Boundary]:
    """Where INT8 begins and ends in a graph of `insert_qdq`, but for its input and its classifier.

    A kernel of a quantised layer takes in an activation function of `network.ACTIVATIONS` and an Add with a skip, and
    writes integers where all that reads its result reads it quantised. TensorRT moves a pair across operators that
    only move data. Every other result passes through the other type.
    """
    network, quantised = _Pairs(model).strip()
    kernels = {_kernel_result(network, layer.node.output[0]): layer.node for layer in network.layers}
    found = [
        Boundary(describe(node), reader, True)
        for tensor, node in kernels.items()
        for reader in _unquantised_readers(network, quantised, tensor)
    ]
    for layer in network.layers:
        makers = _makers(network, layer.data.tensor)
        found += [
            Boundary(describe(network.producer[name]), describe(layer.node), False)
            for name in makers
            if name in network.producer and name not in kernels
        ]
    return list(dict.fromkeys(found))


def _unquantised_readers(network: Network, quantised: Mapping[tuple[str, int], str], tensor: str) -> Iterator[str]:
    if tensor in network.outputs:
        yield "the graph's output"
    for use in network.readers[tensor]:
        if use.key in quantised:
            continue
        if use.node.op_type in MOVES:
            for name in use.node.output:
                yield from _unquantised_readers(network, quantised, name)
        elif use.node.op_type != "Shape":
            yield describe(use.node)


def _makers(network: Network, tensor: str) -> set[str]:
    """The tensors whose values this one holds, moved."""
    node = network.producer.get(tensor)
    if node is None or node.op_type not in MOVES:
        return {tensor}
    data = node.input if node.op_type == "Concat" else node.input[:1]
    return {name for source in data for name in _makers(network, source)}


def describe_boundaries(model: onnx.ModelProto) -> list[str]:
    """`list_boundaries` by kind of operator, the most frequent first, with one example each."""
    groups: dict[tuple[str, str, bool], list[Boundary]] = {}
    for found in list_boundaries(model):
        groups.setdefault((found.maker.split()[0], found.reader.split()[0], found.leaves), []).append(found)
    largest = sorted(groups.values(), key=len, reverse=True)
    return [f"{len(group)} x {'leaves' if group[0].leaves else 'enters'} INT8: {group[0]}" for group in largest]


def _kernel_result(network: Network, tensor: str) -> str:
    """What the kernel that makes this tensor writes: behind its skip and its activation function."""
    mains = {use.node.input[1 - use.index]: use.node.output[0] for use in network.skips}
    tensor = mains.get(tensor, tensor)
    activation = network.sole_reader(tensor, ACTIVATIONS)
    return tensor if activation is None else str(activation.output[0])


class _Pairs:
    """The Q/DQ nodes of a graph, well formed or not."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.outputs = [value.name for value in model.graph.output]
        self.producer = {name: node for node in self.nodes for name in node.output}
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.quantise = [node for node in self.nodes if node.op_type == Q]
        self.dequantise = [node for node in self.nodes if node.op_type == DQ]

    def strip(self) -> tuple[Network, dict[tuple[str, int], str]]:
        """The network as if there were no pairs, and the operator that fed each quantised input, by `Use.key`."""
        plain: list[onnx.NodeProto] = []
        quantised: dict[tuple[str, int], str] = {}
        for node in self.nodes:
            if node.op_type in (Q, DQ):
                continue
            bare = onnx.NodeProto()
            bare.CopyFrom(node)
            for index, name in enumerate(node.input):
                while (maker := self.producer.get(name)) is not None and maker.op_type in (Q, DQ):
                    quantised.setdefault(Use(node, index).key, maker.op_type)
                    name = maker.input[0]
                bare.input[index] = name
            plain.append(bare)
        return Network(plain, self.constants.values(), self.outputs), quantised

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


def _misplaced(network: Network, quantised: Mapping[tuple[str, int], str], attention: bool) -> Iterator[str]:
    weights = [layer.weight for layer in network.layers]
    expected = {use.key for use in (*tensorrt_activations(network, attention), *weights)}
    for node in network.nodes:
        for index in range(len(node.input)):
            use = Use(node, index)
            subject = f"T{str(use)[1:]}"
            if use.key in expected and use.key not in quantised:
                yield f"{subject} has no Q/DQ pair."
            elif use.key in quantised and use.key not in expected:
                yield f"{subject} has a Q/DQ pair, but {_reason(use, network)}."
            elif quantised.get(use.key) == Q:
                yield f"{subject} comes from a {Q} without a {DQ}."


def _reason(use: Use, network: Network) -> str:
    """Why an input is not quantised."""
    joins = {skip.node.output[0] for skip in network.skips}
    return (
        "it comes from the main path's convolution" if use.node.output[0] in joins else "it stays in the other type"
    )


def _malformed(network: Network, quantised: Mapping[tuple[str, int], str], pairs: _Pairs) -> Iterator[str]:
    weights = {layer.weight.tensor: layer for layer in network.layers}
    first_scale = {}
    for node in pairs.quantise:
        tensor = node.input[0]
        scale, kind, zero_point, axis = pairs.parameters(node)
        first_scale[tensor] = scale[0]
        if kind not in KINDS:
            yield f"{node.name} quantises to {kind}; TensorRT needs int8 or FP8."
        if any(zero_point):
            yield f"{node.name} has a zero point other than 0."
        if not all(0 < value < np.inf for value in scale):
            yield f"{node.name} has a scale that is not a positive number."
        if tensor in weights:
            layer = weights[tensor]
            channels = network.constants[tensor].dims[layer.axis]
            if len(scale) != channels:
                yield f"{node.name} has {len(scale)} scales for the {channels} output channels of {tensor}."
            elif axis != layer.axis:
                yield f"{node.name} has its scales along axis {axis}; the output channels are axis {layer.axis}."
        elif len(scale) != 1:
            yield f"{node.name} has {len(scale)} scales for an activation, which has one."
    for node in network.nodes:
        pooled = node.op_type == "MaxPool" and Use(node, 0).key in quantised
        if pooled and first_scale.get(node.input[0]) != first_scale.get(node.output[0]):
            yield f"MaxPool {node.name} has different scales on its input and its result."
