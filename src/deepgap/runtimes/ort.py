"""ONNX Runtime on the CPU: the exported graph in FP32, or quantised for the integer instructions of x86."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepgap.errors import UnsupportedError, first_line
from deepgap.runtimes import Call, Inputs, Runtime
from deepgap.runtimes.packages import installed

if TYPE_CHECKING:
    import torch


def prepare(graph: Path, inputs: Inputs, options: Mapping[str, Any]) -> Call:
    """Bind a session to each input buffer and to one buffer of logits, so that a call copies nothing.

    Raises:
        UnsupportedError: ONNX Runtime does not take the graph.
    """
    import numpy as np
    import onnxruntime
    import torch
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidGraph, NotImplemented

    from deepgap.build.graph_file import INPUT, OUTPUT

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(graph), settings, providers=["CPUExecutionProvider"])
    except (InvalidGraph, NotImplemented) as error:
        raise UnsupportedError(f"ONNX Runtime does not take the graph: {first_line(error).rstrip('.')}.") from None
    classes = session.get_outputs()[0].shape[1]
    logits = torch.empty(inputs[0].shape[0], classes)

    bindings = []
    for buffer in inputs:
        binding = session.io_binding()
        binding.bind_input(INPUT, "cpu", 0, np.float32, tuple(buffer.shape), buffer.data_ptr())
        binding.bind_output(OUTPUT, "cpu", 0, np.float32, tuple(logits.shape), logits.data_ptr())
        bindings.append(binding)

    def call(index: int) -> torch.Tensor:
        session.run_with_iobinding(bindings[index])
        return logits

    return call


RUNTIME = Runtime(
    precisions=frozenset({"fp32", "int8"}),
    devices=frozenset({"cpu"}),
    prepare=prepare,
    libraries=lambda: installed("ort", "onnxruntime"),
    source="graph",
    quantised_forms={"int8": "u8s8"},
)
