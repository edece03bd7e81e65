"""Models that are ONNX graphs already (`onnx:PATH`): the graph is the model, and has no form in PyTorch."""

from __future__ import annotations

from pathlib import Path

from deepgap.errors import ConfigError
from deepgap.sources import Place, Source

IR_VERSION_TAG = 0x08
"""The first byte of a serialised ModelProto that any exporter writes: field 1, `ir_version`, a number."""


def locate(text: str) -> Place:
    """The file of `onnx:PATH`.

    Raises:
        ConfigError: it is missing, unreadable or begins as no ONNX file does.
    """
    file = Path(text).expanduser()
    try:
        with file.open("rb") as content:
            first = content.read(1)
    except OSError as error:
        raise ConfigError(f"the file {file} cannot be read ({error.strerror})") from None
    if first != bytes([IR_VERSION_TAG]):
        raise ConfigError(f"the file {file} is not an ONNX model")
    return Place(file, "")


SOURCE = Source(
    version=2,
    form="onnx:PATH",
    locate=locate,
    key=lambda place: place.file.stem if place.file else place.name,
    library="onnx",
)
