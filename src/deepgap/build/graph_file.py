"""Files of ONNX graphs: written with a seal, read only as they were written, or saying why there is no graph."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from deepgap.errors import GraphError, UnsupportedError, first_line
from deepgap.files import put_in_place, refuse_unreadable

PRODUCER = "deepgap"
INPUT, OUTPUT, BATCH = "input", "logits", "batch"
WEIGHTS_HASH = "weights_sha256"
SEAL = "sha256_of_the_rest"
"""The property at the end of a graph's file that holds the hash of all bytes before it."""
UNSUPPORTED = "unsupported"
"""The property of a file without a graph that says why there is none."""


def read_weights_hash(path: Path) -> str:
    """The hash of the weights that a graph was made from.

    Raises:
        GraphError: the file is missing, damaged or was not exported by this project.
        UnsupportedError: the file says why there is no graph.
    """
    properties = graph_properties(load_graph(path))
    if WEIGHTS_HASH not in properties:
        raise GraphError(f"The graph {path} does not say of which weights it is; delete it and run Snakemake again.")
    return properties[WEIGHTS_HASH]


def load_graph(path: Path) -> onnx.ModelProto:
    """Read an ONNX file, without a check of what is in it but that `write_graph` wrote it so.

    Raises:
        GraphError: the file is missing, damaged or was edited.
        UnsupportedError: the file says why there is no graph (`write_unsupported_graph`).
    """
    try:
        content = path.read_bytes()
        model = onnx.load_from_string(content)
    except FileNotFoundError:
        raise GraphError(f"The graph {path} does not exist; run Snakemake to make it.") from None
    except (OSError, DecodeError, UnicodeDecodeError) as error:
        refuse_unreadable(path, error)
        raise GraphError(
            f"{path} is damaged or not an ONNX model ({first_line(error)}); delete it and run Snakemake again."
        ) from None
    length = len(_seal(b""))
    properties = graph_properties(model)
    if not is_sealed(model) and not model.graph.node:
        raise GraphError(
            f"{path} is damaged or not an ONNX model (it holds no graph); delete it and run Snakemake again."
        )
    # Without a seal it is a file of another program, and what uses it has checks of its own.
    ours = is_sealed(model) or model.producer_name == PRODUCER
    if ours and content[-length:] != _seal(memoryview(content)[:-length]):
        raise GraphError(
            f"The graph {path} was edited or damaged after it was made; delete it and run Snakemake again."
        )
    if ours and UNSUPPORTED in properties:
        raise UnsupportedError(properties[UNSUPPORTED])
    return model


def write_graph(path: Path, model: onnx.ModelProto) -> None:
    """Write a model in one step, and behind it the hash of its bytes; equal models give equal bytes."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    # The seal of the graph that this one was made from.
    onnx.helper.set_model_props(bare, {key: value for key, value in graph_properties(model).items() if key != SEAL})
    content = bare.SerializeToString(deterministic=True)
    with put_in_place(path) as partial:
        partial.write_bytes(content + _seal(content))


def write_unsupported_graph(path: Path, reason: str) -> None:
    """Write, in place of a graph that cannot be made, a file that says why: reading it raises `UnsupportedError`."""
    model = onnx.ModelProto(producer_name=PRODUCER)
    onnx.helper.set_model_props(model, {UNSUPPORTED: reason})
    write_graph(path, model)


def is_sealed(model: onnx.ModelProto) -> bool:
    """Whether a model that `load_graph` read is of a file that `write_graph` wrote."""
    return SEAL in graph_properties(model)


def graph_properties(model: onnx.ModelProto) -> dict[str, str]:
    """The metadata of a model by their names."""
    return {str(entry.key): str(entry.value) for entry in model.metadata_props}


def _seal(content: bytes | memoryview) -> bytes:
    """A message of one property; Protocol Buffers merge a message into the one that it follows."""
    message = onnx.ModelProto()
    onnx.helper.set_model_props(message, {SEAL: hashlib.sha256(content).hexdigest()})
    sealed: bytes = message.SerializeToString(deterministic=True)
    return sealed
