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


def own_size(place: Place) -> int | None:
    """The side of the square images that a graph takes; null where it takes any, or is no graph of images at all."""
    try:
        import onnx

        graph = onnx.load(str(place.file), load_external_data=False).graph
    # Rendering needs no ONNX; and what is wrong with a file is told when it is brought to this project's form.
    except Exception:
        return None
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    sizes = [dim.dim_value for value in inputs[:1] for dim in value.type.tensor_type.shape.dim]
    # A size that is left open is 0.
    return sizes[2] or None if len(sizes) == 4 and sizes[2] == sizes[3] else None


SOURCE = Source(
    version=2,
    form="onnx:PATH",
    locate=locate,
    key=lambda place: place.file.stem if place.file else place.name,
    own_size=own_size,
    library="onnx",
)
