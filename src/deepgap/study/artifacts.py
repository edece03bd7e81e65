"""The files between the config and a cell. Each is named by the digest of all that defines it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepgap.study.cell import Cell, Mode, recipe_digest
from deepgap.study.gpus import split_site
from deepgap.study.method import METHOD_VERSION
from deepgap.study.models import ModelSpec
from deepgap.study.study import Study

EXPORTED = {"fp16": "fp16"}
"""The form of the export by the precision that runs it; fp32 for all others."""


@dataclass(frozen=True)
class Artifacts:
    """The intermediate files of a study; paths are below the project's root."""

    study: Study

    def weights(self, model: ModelSpec) -> str:
        """The state dict that every mode of a model shares."""
        return f"build/weights/{model.key}.{self.weights_key(model)}.pt"

    def onnx(self, model: ModelSpec, precision: str) -> str:
        """The exported graph; `precision` is fp32 or fp16."""
        return f"build/onnx/{model.key}.{self.weights_key(model)}.{precision}.onnx"

    def facts(self, model: ModelSpec) -> str:
        """What is counted from the exported graph."""
        return f"build/facts/{model.key}.{self.weights_key(model)}.json"

    def calibration_cache(self, model: ModelSpec) -> str:
        """The scales of the activations, beside the graphs that are made from them."""
        return f"build/int8/{model.key}.{self.calibration_key(model)}.cache"

    def quantised(self, model: ModelSpec, form: str) -> str:
        """The quantised graph, in a form of `build.quantize`."""
        return f"build/int8/{model.key}.{self.calibration_key(model)}.{form}.onnx"

    def held_out(self, model: ModelSpec, gpu: str) -> str:
        """The images on which a cell's answers are checked."""
        return f"build/heldout/images.{self._held_out_key(model, gpu)}.npz"

    def reference(self, model: ModelSpec, gpu: str) -> str:
        """The FP32 logits of these images."""
        key = _digest({"model": model.key, **model.recipe, "images": self._held_out_key(model, gpu)})
        return f"build/reference/{model.key}.{key}.npz"

    def engine(self, gpu: str, model: ModelSpec, mode: Mode, batch_size: int) -> str:
        """The engine of a runtime that builds one, which serves one batch size."""
        key = _digest(self.engine_recipe(gpu, model, mode, batch_size))
        return f"build/engines/{gpu}/{model.key}_{mode}_b{batch_size}.{key}.engine"

    def engine_recipe(self, gpu: str, model: ModelSpec, mode: Mode, batch_size: int) -> dict[str, Any]:
        """All that defines an engine but for the device and the libraries, which it is bound to when built."""
        return {
            "gpu": split_site(gpu)[0],
            "model": model.key,
            "mode": mode.name,
            "batch_size": batch_size,
            **model.recipe,
            **self.study.mode_settings(mode),
        }

    def graph(self, model: ModelSpec, mode: Mode) -> str:
        """The ONNX graph that a mode runs, or that its engine is built from."""
        runtime = self.study.runtimes[mode.runtime]
        if runtime.is_calibrated(mode.precision):
            return self.quantised(model, runtime.graph_form(mode.precision))
        return self.onnx(model, EXPORTED.get(mode.precision, "fp32"))

    def source(self, cell: Cell) -> str:
        """The file that a cell runs from."""
        model, source = self.study.model(cell.model), self.study.runtimes[cell.mode.runtime].source
        if source == "module":
            return self.weights(model)
        if source == "graph":
            return self.graph(model, cell.mode)
        return self.engine(cell.gpu, model, cell.mode, cell.batch_size)

    def weights_key(self, model: ModelSpec) -> str:
        return _digest({"model": model.key, **model.recipe})

    def calibration_key(self, model: ModelSpec) -> str:
        return _digest({"model": model.key, **model.recipe, "calibration": self.study.calibration})

    def _held_out_key(self, model: ModelSpec, gpu: str) -> str:
        return _digest(
            {
                "count": self.study.protocol(gpu).fidelity_images,
                "image_size": model.image_size,
                "accuracy": self.study.accuracy,
            }
        )


def _digest(settings: dict[str, Any]) -> str:
    return recipe_digest({"method_version": METHOD_VERSION, **settings})
