"""The quantised graphs, by the names of their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx

from deepgap.build.quantize.qdq import insert_qdq, insert_qdq_fp8, insert_qdq_fp16
from deepgap.build.quantize.u8s8 import insert_u8s8

FORMS: dict[str, Callable[[onnx.ModelProto, Mapping[str, float], bool], onnx.ModelProto]] = {
    "qdq": insert_qdq,
    "qdq_fp16": insert_qdq_fp16,
    "qdq_fp8": insert_qdq_fp8,
    "u8s8": insert_u8s8,
}
"""`qdq` is the reference's and the cudnn runtime's, `qdq_fp16` and `qdq_fp8` TensorRT's, `u8s8` that of ONNX Runtime
on the CPU.

The flag is `attention` of `placement.tensorrt_activations`.
"""
