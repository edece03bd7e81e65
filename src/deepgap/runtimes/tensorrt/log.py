"""What TensorRT says, and how its objects are started."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from deepgap.errors import EngineError
from deepgap.runtimes.tensorrt.library import Library

if TYPE_CHECKING:
    import tensorrt as trt

SAY_EVERY_S = 2.0
Started = TypeVar("Started")


@dataclass(frozen=True)
class Log:
    """What TensorRT said."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def why(self) -> str:
        """The last errors, which matter most."""
        return in_parentheses(self.errors[-3:])


def in_parentheses(errors: Sequence[str]) -> str:
    """The errors in parentheses behind a blank, or nothing."""
    return f" ({'; '.join(error.strip().rstrip('.') for error in errors)})" if errors else ""


def start(make: Callable[[trt.ILogger], Started], logger: trt.ILogger, log: Log) -> Started:
    """A builder or a runtime. The bindings raise TypeError when the library gives none.

    Raises:
        EngineError: it gives none.
    """
    try:
        return make(logger)
    except TypeError:
        raise EngineError(
            f"TensorRT does not start{log.why()}; compare the driver's version with what this TensorRT needs."
        ) from None


def make_logger(library: Library, log: Log) -> trt.ILogger:
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = library.load()

    class Logger(trt.ILogger):
        def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                log.errors.append(msg)
            elif severity == trt.ILogger.Severity.WARNING and msg not in log.warnings:
                log.warnings.append(msg)

    return Logger()


def make_monitor(library: Library, say: Callable[[str], None]) -> trt.IProgressMonitor:
    """Says when an outermost phase begins, and how far the current phase is at most every `SAY_EVERY_S`."""
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = library.load()

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}
            self.due_s = 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps
            if parent_phase is None:
                self.say(f"TensorRT: {phase_name}")

        def step_complete(self, phase_name: str, step: int) -> bool:
            if time.monotonic() >= self.due_s:
                self.say(f"TensorRT: {phase_name}, {step + 1} of {self.steps.get(phase_name, step + 1)}")
            return True

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

        def say(self, line: str) -> None:
            self.due_s = time.monotonic() + SAY_EVERY_S
            say(line)

    return Monitor()
