"""The modes that runtimes have, and their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, get_args

from deepgap.errors import ConfigError
from deepgap.study.cell import Layout, Mode
from deepgap.study.schema import nearest


class ModeFacts(Protocol):
    """What the name of a mode says of a runtime."""

    @property
    def precisions(self) -> frozenset[str]: ...

    def usual_layout(self, precision: str) -> Layout:
        """The layout that a mode has when its name says none."""

    def layouts(self, precision: str) -> frozenset[Layout]:
        """The layouts that it can be asked for."""


class RuntimeFacts(ModeFacts, Protocol):
    """What the study must know of a runtime; `runtimes.Runtime` is one. The study imports no runtime."""

    @property
    def version(self) -> int:
        """Raised when an edit of the runtime can change a number; its cells are then measured anew."""

    @property
    def devices(self) -> frozenset[str]:
        """`cpu`, `cuda` or both."""

    @property
    def source(self) -> Literal["module", "graph", "engine"]:
        """What it runs: a PyTorch model, an ONNX graph or an engine of its own."""

    def graph_form(self, precision: str) -> str:
        """Which form of the ONNX graph it takes."""

    def is_calibrated(self, precision: str) -> bool:
        """Whether it runs a quantised graph, whose scales come from a calibration."""

    def fill_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """All options with their defaults; raises ConfigError for what it does not have."""


def parse_mode(text: str, runtimes: Mapping[str, ModeFacts]) -> Mode:
    """Read `runtime-precision` or `runtime-precision-layout`.

    Raises:
        ConfigError: there is no such runtime, it does not run that precision, or not in that layout.
    """
    runtime, *rest = text.split("-")
    if runtime not in runtimes or not 1 <= len(rest) <= 2:
        allowed = sorted(f"{name}-{p}" for name, facts in runtimes.items() for p in facts.precisions)
        raise ConfigError(f"'{text}' is not a mode{nearest(text, allowed)}; allowed: {', '.join(allowed)}.")
    facts, precision = runtimes[runtime], rest[0]
    if precision not in facts.precisions:
        raise ConfigError(
            f"'{text}' is not a mode: the runtime {runtime} runs {', '.join(sorted(facts.precisions))}."
        )
    usual = facts.usual_layout(precision)
    if len(rest) == 1:
        return Mode(text, runtime, precision, usual)
    for layout in get_args(Layout):
        if layout == rest[1] and layout == usual:
            raise ConfigError(f"'{text}' is called {runtime}-{precision}: {layout} is its usual layout.")
        if layout == rest[1] and layout in facts.layouts(precision):
            return Mode(text, runtime, precision, layout)
    possible = ", ".join(sorted(facts.layouts(precision)))
    raise ConfigError(f"'{text}' is not a mode: {runtime}-{precision} runs in the layout {possible}.")
