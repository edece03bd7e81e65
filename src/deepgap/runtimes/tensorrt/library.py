"""Which of NVIDIA's two builders a runtime uses: TensorRT, or TensorRT for RTX, whose interfaces are nearly one."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepgap.errors import MissingLibraryError, first_line
from deepgap.runtimes import BuildRequest, Call, Inputs
from deepgap.runtimes.packages import first_installed

if TYPE_CHECKING:
    from deepgap.build.engine_file import Engine


@dataclass(frozen=True)
class Library:
    """One of the two.

    runtime: the runtime that it makes. module: what is imported. packages: those that bring it, the first installed
        counts. oldest: the first version that has all that is called here.
    remedy: how to get it, for a sentence.
    ahead_of_time: whether it builds for a GPU that is not here.
    """

    runtime: str
    title: str
    module: str
    packages: tuple[str, ...]
    oldest: tuple[int, int]
    remedy: Callable[[], str]
    ahead_of_time: bool

    def versions(self) -> dict[str, str]:
        """Its version, without loading it.

        Raises:
            MissingLibraryError: it is not installed.
        """
        found = first_installed(self.packages)
        if not found:
            raise self._missing("is not installed")
        return {self.module: next(iter(found.values()))}

    def build(self, request: BuildRequest) -> Engine:
        """See `building.build`."""
        from deepgap.runtimes.tensorrt import building

        return building.build(self, request)

    def prepare(self, engine: Engine, inputs: Inputs, options: Mapping[str, Any]) -> Call:
        """See `running.prepare`."""
        from deepgap.runtimes.tensorrt import running

        return running.prepare(self, engine, inputs, options["cuda_graph"])

    def load(self) -> Any:
        """Its module. Does not touch the GPU.

        Raises:
            MissingLibraryError: it is absent, cannot be loaded, or is too old.
        """
        try:
            module = importlib.import_module(self.module)
            version = str(module.__version__)
        # A broken installation fails in many ways, and none of them leaves a library to work with.
        except Exception as error:
            absent = isinstance(error, ModuleNotFoundError) and error.name == self.module
            found = "is not installed" if absent else f"is installed but cannot be loaded ({first_line(error)})"
            raise self._missing(found) from None
        if tuple(int(number) for number in version.split(".")[:2]) < self.oldest:
            raise self._missing(f"is installed as {version} where {'.'.join(map(str, self.oldest))} is the oldest")
        return module

    def _missing(self, found: str) -> MissingLibraryError:
        return MissingLibraryError(
            f"The {self.runtime} modes need {self.title}, which {found}; run '.venv/bin/python -m pip install "
            f"{self.remedy()}', or take the {self.runtime} modes out of config/config.yaml."
        )
