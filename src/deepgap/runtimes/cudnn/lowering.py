"""The graph of a residual network, with Q/DQ pairs or in FP16, as a short list of steps of a kernel each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from deepgap.build.quantize.lint import lint_placement
from deepgap.build.quantize.network import Network
from deepgap.errors import GraphError, UnsupportedError

INPUT = "input"

CONV_DEFAULTS: dict[str, Any] = {
    "auto_pad": b"NOTSET",
    "dilations": (1, 1),
    "group": 1,
    "pads": (0, 0, 0, 0),
    "strides": (1, 1),
}
POOL_DEFAULTS: dict[str, Any] = {
    "auto_pad": b"NOTSET",
    "ceil_mode": 0,
    "dilations": (1, 1),
    "pads": (0, 0, 0, 0),
    "storage_order": 0,
    "strides": (1, 1),
}
POOL = POOL_DEFAULTS | {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1), "strides": (2, 2)}
"""The one pooling that `MaxPool` stands for."""


OPERATORS = {
    "Add",
    "Conv",
    "DequantizeLinear",
    "Flatten",
    "Gemm",
    "GlobalAveragePool",
    "MaxPool",
    "QuantizeLinear",
    "Relu",
}


@dataclass(frozen=True)
class Convolution:
    """y = saturate(round(relu(conv(x, weight) multiplier + offset + skip skip_multiplier))); x, skip, y are int8.

    In FP16, x, skip, y and weight are float16, both multipliers are one, and nothing is rounded to integers.
    `weight` has shape (filters, height, width, channels); `multiplier` and `offset` are float32, one a filter, and
    hold the scales of x, the weights and y, and the bias.
    """

    name: str
    x: str
    skip: str | None
    y: str
    weight: np.ndarray
    multiplier: np.ndarray
    offset: np.ndarray
    skip_multiplier: float
    stride: int
    padding: int
    relu: bool


@dataclass(frozen=True)
class MaxPool:
    """3 x 3 maximum with stride 2 and padding 1; x and y have one scale."""

    name: str
    x: str
    y: str


@dataclass(frozen=True)
class Head:
    """The mean over all pixels of x times `scale`, then a linear layer in floating point."""

    x: str
    scale: float
    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Program:
    """`input` quantised by `input_scale`, which is one in FP16, the steps in their order, and the head."""

    input_scale: float
    steps: tuple[Convolution | MaxPool, ...]
    head: Head


def lower(model: onnx.ModelProto) -> Program:
    """Read the integer network out of a graph made by `quantize.qdq.insert_qdq`.

    Raises:
        GraphError: the pairs do not stand where `insert_qdq` puts them.
        UnsupportedError: it is not a plain residual network; the sentence names what departs from it.
    """
    _check_operators(model.graph)
    problems = lint_placement(model)
    if problems:
        raise GraphError(
            f"The Q/DQ graph cannot be lowered to integer kernels: {problems[0]} Delete it and run Snakemake again."
        )
    return _Reader(model).network()


def lower_half(model: onnx.ModelProto) -> Program:
    """Read the FP16 program out of an FP16 export.

    Raises:
        GraphError: it is not in FP16.
        UnsupportedError: it is not a plain residual network; the sentence names what departs from it.
    """
    _check_operators(model.graph)
    return _HalfReader(model).network()


def _check_operators(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.op_type not in OPERATORS:
            raise UnsupportedError(
                f"The graph holds {node.op_type} {node.name}, and the fused kernels are of plain residual "
                "networks; take another runtime."
            )
    if Counter(node.op_type for node in graph.node)["Gemm"] != 1:
        raise UnsupportedError("The graph is not a residual network with one classifier; take another runtime.")


class _Reader:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.producer: dict[str, onnx.NodeProto] = {name: node for node in model.graph.node for name in node.output}
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)

    def network(self) -> Program:
        steps: list[Convolution | MaxPool] = []
        for node in self.graph.node:
            if node.op_type == "Conv" and not self._takes_skip(node):
                steps.append(self._convolution(node))
            elif node.op_type == "Add":
                # Here and not at the convolution, because the skip may come from one that stands between them.
                steps.append(self._convolution(self._main_convolution(node)))
            elif node.op_type == "MaxPool":
                steps.append(self._max_pool(node))
            elif node.op_type == "Gemm":
                head = self._head(node)
        return Program(self._input_scale(), tuple(steps), head)

    def _convolution(self, node: onnx.NodeProto) -> Convolution:
        attributes = CONV_DEFAULTS | _attributes(node)
        strides, pads = set(attributes["strides"]), set(attributes["pads"])
        fixed = {name: attributes[name] for name in ("auto_pad", "dilations", "group")}
        if len(strides) != 1 or len(pads) != 1 or fixed.items() - CONV_DEFAULTS.items():
            raise UnsupportedError(
                f"Conv {node.name} has strides, pads, groups or dilations that no kernel here runs."
            )
        x, x_scale = self._quantised(node.input[0])
        stored, weight_scale = self._weight(node.input[1])
        bias = self._array(node.input[2]) if len(node.input) > 2 else np.zeros(len(stored), np.float32)

        output, skip, skip_scale, relu = node.output[0], None, 0.0, False
        follower = self._follower(output)
        if follower is not None and self._takes_skip(node):
            other = next(name for name in follower.input if name != output)
            skip, skip_scale = self._quantised(other)
            output = follower.output[0]
            follower = self._follower(output)
        if follower is not None and follower.op_type == "Relu":
            relu, output = True, follower.output[0]
        y, y_scale = self._stored(output, node)
        return Convolution(
            name=node.name,
            x=x,
            skip=skip,
            y=y,
            weight=np.ascontiguousarray(stored.transpose(0, 2, 3, 1)),
            multiplier=(x_scale * weight_scale.astype(np.float64) / y_scale).astype(np.float32),
            offset=(bias.astype(np.float64) / y_scale).astype(np.float32),
            skip_multiplier=float(np.float32(skip_scale / y_scale)),
            stride=strides.pop(),
            padding=pads.pop(),
            relu=relu,
        )

    def _takes_skip(self, convolution: onnx.NodeProto) -> bool:
        """Whether an Add behind a convolution is fused into it."""
        return self._only_consumer(convolution.output[0]).op_type == "Add"

    def _follower(self, name: str) -> onnx.NodeProto | None:
        """The operator that alone reads a tensor and may be fused."""
        return self._only_consumer(name)

    def _stored(self, name: str, maker: onnx.NodeProto) -> tuple[str, np.ndarray]:
        """The tensor in which the values of this one, which `maker` ends in, are kept, and its scale."""
        quantise = self._only_consumer(name)
        if quantise.op_type != "QuantizeLinear":
            raise UnsupportedError(
                f"{maker.op_type} {maker.name} is followed by {quantise.op_type} where its result should be "
                "quantised."
            )
        return quantise.output[0], self._array(quantise.input[1]).astype(np.float64)

    def _main_convolution(self, add: onnx.NodeProto) -> onnx.NodeProto:
        makers = [self.producer.get(name) for name in add.input]
        found = [node for node in makers if node is not None and node.op_type == "Conv"]
        if len(found) != 1:
            raise UnsupportedError(f"Add {add.name} does not add a skip to the result of one convolution.")
        return found[0]

    def _max_pool(self, node: onnx.NodeProto) -> MaxPool:
        if POOL_DEFAULTS | _attributes(node) != POOL:
            raise UnsupportedError(f"MaxPool {node.name} is not 3 x 3 with stride 2 and padding 1.")
        x, _ = self._quantised(node.input[0])
        return MaxPool(node.name, x, self._stored(node.output[0], node)[0])

    def _head(self, node: onnx.NodeProto) -> Head:
        attributes = {"alpha": 1.0, "beta": 1.0, "transB": 0, "transA": 0} | _attributes(node)
        if (attributes["alpha"], attributes["beta"], attributes["transA"]) != (1.0, 1.0, 0):
            raise UnsupportedError(f"Gemm {node.name} is not a plain linear layer.")
        if node.output[0] != self.graph.output[0].name:
            raise UnsupportedError(f"Gemm {node.name} is not the last operator of the graph.")
        flatten = self.producer.get(node.input[0])
        pool = self.producer.get(flatten.input[0]) if flatten is not None and flatten.op_type == "Flatten" else None
        if pool is None or pool.op_type != "GlobalAveragePool":
            raise UnsupportedError(f"Gemm {node.name} does not follow the global average pool.")
        x, scale = self._quantised(pool.input[0])
        weight = self._array(node.input[1])
        weight = weight if attributes["transB"] else weight.T
        bias = self._array(node.input[2]) if len(node.input) > 2 else np.zeros(len(weight), np.float32)
        return Head(x, scale, weight, bias)

    def _input_scale(self) -> float:
        node = self._only_consumer(self.graph.input[0].name)
        return float(self._array(node.input[1]))

    def _quantised(self, name: str) -> tuple[str, float]:
        """The int8 tensor behind a dequantised one, and its scale; the graph's input is called `input`."""
        dequantise = self.producer[name]
        quantise = self.producer[dequantise.input[0]]
        tensor = INPUT if quantise.input[0] == self.graph.input[0].name else quantise.output[0]
        return tensor, float(self._array(dequantise.input[1]))

    def _weight(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        quantise = self.producer[self.producer[name].input[0]]
        values, scale = self._array(quantise.input[0]), self._array(quantise.input[1])
        steps = np.rint(values / scale.reshape(-1, *[1] * (values.ndim - 1)))
        return np.clip(steps, -128, 127).astype(np.int8), scale

    def _only_consumer(self, name: str) -> onnx.NodeProto:
        consumers = self.consumers.get(name, [])
        if len(consumers) != 1:
            raise UnsupportedError(
                f"{name} has {len(consumers)} consumers in the Q/DQ graph where a fused kernel needs one."
            )
        return consumers[0]

    def _array(self, name: str) -> np.ndarray:
        return numpy_helper.to_array(self.constants[name])


class _HalfReader(_Reader):
    """Of an FP16 export: a tensor is kept as it is, and its scale is one."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__(model)
        for tensor in model.graph.initializer:
            if tensor.data_type != onnx.TensorProto.FLOAT16 and "Conv" in {
                node.op_type for node in self.consumers.get(tensor.name, ())
            }:
                raise GraphError(f"The weight {tensor.name} is not FP16; start from the FP16 export.")
        outputs = [value.name for value in model.graph.output]
        skips = Network(model.graph.node, model.graph.initializer, outputs).skips
        self.skip_of = {use.node.name: use.tensor for use in skips}

    def _takes_skip(self, convolution: onnx.NodeProto) -> bool:
        add = self._follower(convolution.output[0])
        return add is not None and add.op_type == "Add" and self.skip_of.get(add.name) != convolution.output[0]

    def _main_convolution(self, add: onnx.NodeProto) -> onnx.NodeProto:
        main = next(name for name in add.input if name != self.skip_of.get(add.name))
        node = self.producer.get(main)
        if add.name not in self.skip_of or node is None or node.op_type != "Conv":
            raise UnsupportedError(f"Add {add.name} does not add a skip to the result of one convolution.")
        return node

    def _follower(self, name: str) -> onnx.NodeProto | None:
        consumers = self.consumers.get(name, [])
        return consumers[0] if len(consumers) == 1 else None

    def _stored(self, name: str, maker: onnx.NodeProto) -> tuple[str, np.ndarray]:
        return name, np.ones(())

    def _quantised(self, name: str) -> tuple[str, float]:
        return (INPUT if name == self.graph.input[0].name else name), 1.0

    def _weight(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        values = self._array(name)
        return values, np.ones(len(values))

    def _input_scale(self) -> float:
        return 1.0


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes by name, lists as tuples."""
    values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
