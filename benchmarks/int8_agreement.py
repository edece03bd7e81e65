"""Hold an INT8 engine on cuDNN against its own Q/DQ graph: in ONNX Runtime, and in exact integer arithmetic.

Run after the engines are built: python benchmarks/int8_agreement.py --gpu H200. Prints a line of JSON a model.

ONNX Runtime runs without optimisation, because its optimiser moves roundings. It still sums products in FP32, where
the engine sums integers exactly: a value beside a rounding edge then falls to the other side, and each later layer
amplifies that. The exact emulation has no such differences, and neither has the engine.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import yaml

from deepgap.build.engine_file import read_engine
from deepgap.build.quantize.network import read_graph
from deepgap.host import host_threads
from deepgap.measure.device import matching_devices
from deepgap.measure.fidelity import compare_logits
from deepgap.runtimes import load_runtimes
from deepgap.runtimes.cudnn.lowering import INPUT, Convolution, Program, lower
from deepgap.study.artifacts import Artifacts
from deepgap.study.checks import load_study
from deepgap.study.gpus import load_gpus
from deepgap.study.modes import parse_mode

ROOT = Path(__file__).resolve().parent.parent
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", required=True, help="a key of config/gpus.yaml whose engines are built")
    parser.add_argument("--batch-size", type=int, default=128, help="the batch size at which the engine runs")
    options = parser.parse_args()

    def read_yaml(name: str) -> Any:
        return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))

    gpus = load_gpus(ROOT / "config/gpus.yaml", ROOT / "workflow/schemas/gpus.schema.yaml")
    config = read_yaml("config/config.yaml") | {"gpu": options.gpu}
    study = load_study(config, read_yaml("workflow/schemas/config.schema.yaml"), gpus, load_runtimes())
    artifacts, mode = Artifacts(study), parse_mode("cudnn-int8", study.runtimes)
    runtime, device = load_runtimes()["cudnn"], matching_devices(gpus[options.gpu])[0]
    torch.cuda.set_stream(torch.cuda.Stream())  # type: ignore[no-untyped-call]
    for model in study.models_of(options.gpu):
        held_out = np.load(ROOT / artifacts.held_out(model, options.gpu))
        images, labels = held_out["images"].astype(np.float32), held_out["labels"]
        recipe = artifacts.engine_recipe(options.gpu, model, mode, options.batch_size)
        identity = runtime.engine_identity(device, recipe)
        engine = read_engine(ROOT / artifacts.engine(options.gpu, model, mode, options.batch_size), identity)
        graph = ROOT / artifacts.graph(model, mode)
        with torch.inference_mode():
            buffer = torch.zeros(options.batch_size, 3, *images.shape[2:], device="cuda")
            found = run_engine(runtime.prepare(engine, [buffer], {}), buffer, images)
            exact = run_exactly(lower(read_graph(graph)), images)
        in_ort = run_onnxruntime(graph, images)
        fp32 = np.load(ROOT / artifacts.reference(model, options.gpu))["logits"]
        pairs = {
            "engine_vs_onnxruntime": (found, in_ort),
            "engine_vs_exact": (found, exact),
            "onnxruntime_vs_exact": (in_ort, exact),
            "onnxruntime_vs_fp32": (in_ort, fp32),
            "engine_vs_fp32": (found, fp32),
        }
        result = {name: asdict(compare_logits(*pair, labels)) for name, pair in pairs.items()}
        print(json.dumps({"model": model.key, "images": len(images), **result}), flush=True)


def run_engine(call: Any, buffer: torch.Tensor, images: np.ndarray) -> np.ndarray:
    answers = []
    for start in range(0, len(images), len(buffer)):
        chunk = torch.from_numpy(images[start : start + len(buffer)])
        buffer[: len(chunk)].copy_(chunk)
        answers.append(call(0)[: len(chunk)].float().cpu().numpy().copy())
    return np.concatenate(answers)


def run_onnxruntime(graph: Path, images: np.ndarray) -> np.ndarray:
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = host_threads()
    session = onnxruntime.InferenceSession(str(graph), settings, providers=["CPUExecutionProvider"])
    answers = [session.run(None, {"input": images[i : i + BATCH]})[0] for i in range(0, len(images), BATCH)]
    return np.concatenate(answers)


def run_exactly(network: Program, images: np.ndarray) -> np.ndarray:
    """The network's logits with exact integer sums (in float64, which holds them) and FP32 between the sums."""
    answers = []
    for start in range(0, len(images), BATCH):
        batch = torch.from_numpy(images[start : start + BATCH]).cuda()
        values = {INPUT: requantize(batch * (1 / network.input_scale))}
        for step in network.steps:
            x = values[step.x]
            if isinstance(step, Convolution):
                values[step.y] = convolve(step, x, None if step.skip is None else values[step.skip])
            else:
                values[step.y] = torch.nn.functional.max_pool2d(x.float(), 3, 2, 1).double()
        features = values[network.head.x].mean((2, 3)) * network.head.scale
        weight, bias = (
            torch.tensor(array, device="cuda").double() for array in (network.head.weight, network.head.bias)
        )
        answers.append(torch.nn.functional.linear(features, weight, bias).float().cpu().numpy())
    return np.concatenate(answers)


def convolve(step: Convolution, x: torch.Tensor, skip: torch.Tensor | None) -> torch.Tensor:
    weight = torch.tensor(step.weight, device="cuda").permute(0, 3, 1, 2).double()
    sums = torch.nn.functional.conv2d(x, weight, stride=step.stride, padding=step.padding).float()
    multiplier, offset = (
        torch.tensor(array, device="cuda").view(1, -1, 1, 1) for array in (step.multiplier, step.offset)
    )
    value = sums * multiplier + offset
    if skip is not None:
        value += skip.float() * step.skip_multiplier
    return requantize(value.relu() if step.relu else value)


def requantize(value: torch.Tensor) -> torch.Tensor:
    return value.clamp(-128, 127).round().double()


if __name__ == "__main__":
    main()
