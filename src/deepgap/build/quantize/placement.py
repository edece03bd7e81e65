"""Which inputs of which operators are quantised, for TensorRT and for ONNX Runtime on the CPU.

Both quantise the data and the weights of every Conv, Gemm and MatMul with constant weights but the classifier. What
stands between them (LayerNormalization, Softmax, Gelu, HardSwish, squeeze-and-excite) stays in the other type.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from deepgap.build.quantize.network import DATA, Network, Use, quantisable


def tensorrt_activations(network: Network, attention: bool = False) -> list[Use]:
    """The activations that TensorRT's INT8 kernels read, in the order of the graph.

    The rules are those of "Working with Quantized Types" in NVIDIA's TensorRT documentation: the data of each layer,
    not its result; the skip operand alone of an Add that follows a convolution; MaxPool and the last average pool
    where they stand between INT8 kernels.

    Args:
        attention: whether products of two activations are quantised too.
    """
    uses = [layer.data for layer in network.layers] + network.skips + network.last_pools
    if attention:
        uses += network.products
    return _in_order(network, _with_pools(network, uses))


def onnxruntime_activations(network: Network, attention: bool = False) -> list[Use]:
    """The activations that ONNX Runtime's integer kernels on the CPU read or write, in the order of the graph.

    Beside TensorRT's: both operands of an Add that follows a convolution, and the result of every convolution, since
    ONNX Runtime has no integer convolution that writes floating point; all that read such a result read the integers.
    """
    adds = [Use(skip.node, 1 - skip.index) for skip in network.skips]
    uses = [*tensorrt_activations(network, attention), *adds]
    read = {use.tensor for use in uses}
    convolutions = [layer for layer in network.layers if layer.node.op_type == "Conv"]
    results = {network.result(layer) for layer in convolutions if layer.node.output[0] not in read}
    uses += [use for name in results for use in network.readers[name] if use.node.op_type != "Shape"]
    return _in_order(network, _with_pools(network, uses))


def calibrated_tensors(model: onnx.ModelProto, attention: bool = False) -> list[str]:
    """The activations whose scales the quantised forms need, in the order of the graph.

    The result of a MaxPool is not among them: it has the scale of its input.

    Raises:
        UnsupportedError: the graph is not FP32, or holds nothing to quantise.
    """
    network = quantisable(model)
    uses = onnxruntime_activations(network, attention)
    return list(dict.fromkeys(network.scale_source(use.tensor) for use in uses))


def _with_pools(network: Network, uses: Iterable[Use]) -> list[Use]:
    """These uses, and the input of every MaxPool whose result is among them, which commutes with quantisation."""
    found = list(uses)
    for use in found:
        maker = network.producer.get(use.tensor)
        if maker is not None and maker.op_type == "MaxPool":
            found.append(Use(maker, DATA))
    return found


def _in_order(network: Network, uses: Iterable[Use]) -> list[Use]:
    keys = {use.key for use in uses}
    every = (Use(node, index) for node in network.nodes for index in range(len(node.input)))
    return [use for use in every if use.key in keys]
