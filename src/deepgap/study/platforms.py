"""What a study says of the GPUs that it is about; the study of inference and that of training say it alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from deepgap.study.gpus import Gpu, split_site


class Platforms:
    """The GPUs of a study, and the axes of each.

    config: with the schema's defaults. gpus: the hardware facts by key, sites included. found: the GPUs with results.
    """

    AXES: ClassVar[tuple[str, ...]]
    """The keys of the config that an override may change."""
    config: Mapping[str, Any]
    gpus: Mapping[str, Gpu]
    found: Sequence[str]

    @property
    def gpu(self) -> str | None:
        """The GPU to measure, with its site, or None to render only."""
        gpu, site = self.config["gpu"], self.config["site"]
        return f"{gpu}@{site}" if site else gpu

    @cached_property
    def platforms(self) -> list[str]:
        """The GPUs that the study is about: those under `overrides`, those with results and the one to measure."""
        about = {*self.config["overrides"], *self.found, self.gpu}
        return [gpu for gpu in self.gpus if gpu in about]

    def axes(self, gpu: str) -> dict[str, Any]:
        """The axes of one GPU, overrides applied."""
        override: dict[str, Any] = self.config["overrides"].get(split_site(gpu)[0], {})
        return {key: self.config[key] for key in self.AXES} | override
