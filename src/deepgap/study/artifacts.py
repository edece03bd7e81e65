"""The files between the config and a cell. Each is named by the digest of all that defines it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepgap.runtimes import load_runtime
from deepgap.study.gpus import split_site
from deepgap.study.method import METHOD_VERSION
from deepgap.study.study import IMAGE_SIZE, Cell, Mode, Study, recipe_digest


@dataclass(frozen=True)
class Artifacts:
    """The intermediate files of a study; paths are below the project's root."""

    study: Study

    def weights(self, model: str) -> str:
        """The state dict that every mode of a model shares."""
        return f"build/weights/{model}.{self._weights_key(model)}.pt"

    def onnx(self, model: str, precision: str) -> str:
        """The exported graph; `precision` is fp32 or fp16."""
        return f"build/onnx/{model}.{self._weights_key(model)}.{precision}.onnx"

    def calibration_cache(self, model: str) -> str:
        """The scales of the activations, beside the graphs that are made from them."""
        return f"build/int8/{model}.{self._calibration_key(model)}.cache"

    def int8(self, model: str, form: str) -> str:
        """The quantised graph; `form` is qdq or u8s8."""
        return f"build/int8/{model}.{self._calibration_key(model)}.{form}.onnx"

    def held_out(self, gpu: str) -> str:
        """The images on which a cell's answers are checked."""
        return f"build/heldout/images.{self._held_out_key(gpu)}.npz"

    def reference(self, model: str, gpu: str) -> str:
        """The FP32 logits of these images."""
        key = _digest({"model": model, "weights": self.study.config["weights"], "images": self._held_out_key(gpu)})
        return f"build/reference/{model}.{key}.npz"

    def engine(self, gpu: str, model: str, mode: Mode) -> str:
        """The engine of a runtime that builds one."""
        return f"build/engines/{gpu}/{model}_{mode}.{_digest(self.engine_recipe(gpu, model, mode))}.engine"

    def engine_recipe(self, gpu: str, model: str, mode: Mode) -> dict[str, Any]:
        """All that defines an engine but for the device and the libraries, which it is bound to when built."""
        return {
            "gpu": split_site(gpu)[0],
            "model": model,
            "mode": str(mode),
            "image_size": IMAGE_SIZE,
            "batch_sizes": sorted(self.study.axes(gpu)["batch_sizes"]),
            **self.study.mode_settings(mode),
        }

    def graph(self, model: str, mode: Mode) -> str:
        """The ONNX graph that a mode runs, or that its engine is built from."""
        if mode.precision == "int8":
            return self.int8(model, load_runtime(mode.runtime).int8_form)
        return self.onnx(model, "fp16" if mode.precision == "fp16" else "fp32")

    def source(self, cell: Cell) -> str:
        """The file that a cell runs from."""
        source = load_runtime(cell.mode.runtime).source
        if source == "module":
            return self.weights(cell.model)
        if source == "graph":
            return self.graph(cell.model, cell.mode)
        return self.engine(cell.gpu, cell.model, cell.mode)

    def _weights_key(self, model: str) -> str:
        return _digest({"model": model, "weights": self.study.config["weights"]})

    def _calibration_key(self, model: str) -> str:
        settings = {"model": model, "weights": self.study.config["weights"]}
        return _digest(settings | {"calibration": self.study.calibration})

    def _held_out_key(self, gpu: str) -> str:
        return _digest({"count": self.study.protocol(gpu).fidelity_images, "image_size": IMAGE_SIZE})


def _digest(settings: dict[str, Any]) -> str:
    return recipe_digest({"method_version": METHOD_VERSION, **settings})
