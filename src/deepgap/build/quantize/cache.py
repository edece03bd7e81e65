"""The scales of a calibration as a file, in the text format of TensorRT's calibration cache.

A header, then `name: hex` a line: a tensor and its scale as big-endian float32. The last line has the same form and
is no tensor: `deepgap_crc32` and the CRC-32 of all bytes before the line. TensorRT's own calibrators do not write it.
A model that cannot be calibrated has a file whose first line says why in place of the header.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import onnx

from deepgap.build.quantize.placement import calibrated_tensors
from deepgap.errors import CalibrationError, UnsupportedError
from deepgap.files import put_in_place, refuse_unreadable

VERSION = 8501
ENTROPY, OTHER = "EntropyCalibration2", "MinMaxCalibration"
HEADER = re.compile(r"TRT-\d+-\w+")
CHECKSUM = "deepgap_crc32"
UNSUPPORTED = "deepgap_unsupported"
LINE = re.compile(r"(?P<tensor>\S+): (?P<bits>[0-9a-f]{8})")


def write_cache(path: Path, scales: Mapping[str, float], method: str) -> None:
    """Write scales (threshold / 127) in one step, with the checksum.

    The header names the nearest of TensorRT's calibrators: its own entropy, or MinMax for every other method.

    Raises:
        CalibrationError: a tensor has the name of the checksum.
    """
    if CHECKSUM in scales:
        raise CalibrationError(
            f"A tensor of the model is called {CHECKSUM}, which is the checksum's name in a calibration cache; "
            "rename it."
        )
    lines = [f"TRT-{VERSION}-{ENTROPY if method == 'entropy' else OTHER}"]
    lines += [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in scales.items()]
    _write(path, "\n".join(lines) + "\n")


def write_unsupported_cache(path: Path, reason: str) -> None:
    """Write, in place of scales, a file that says why there are none: reading it raises `UnsupportedError`."""
    _write(path, f"{UNSUPPORTED}: {' '.join(reason.split())}\n")


def _write(path: Path, text: str) -> None:
    with put_in_place(path) as partial:
        partial.write_text(f"{text}{CHECKSUM}: {_checksum(text)}\n", encoding="utf-8")


def _checksum(text: str) -> str:
    """Eight hex digits: the CRC-32 of this text's bytes."""
    return f"{zlib.crc32(text.encode()):08x}"


def read_cache(path: Path) -> dict[str, float]:
    """The scale of each tensor, in the order of the file. A cache without a checksum, from elsewhere, is read too.

    Raises:
        CalibrationError: the file is missing, malformed or truncated, its checksum does not fit, or a scale is not a
            positive number.
        UnsupportedError: the file says why there are no scales.
    """

    def refuse(problem: str) -> CalibrationError:
        return CalibrationError(f"The calibration cache {path} {problem}; delete it and run Snakemake again.")

    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise CalibrationError(f"The calibration cache {path} does not exist; run Snakemake to make it.") from None
    except (OSError, UnicodeDecodeError) as error:
        refuse_unreadable(path, error)
        raise refuse(f"cannot be read ({error})") from None
    header = text.partition("\n")[0]
    is_reason = header.startswith(f"{UNSUPPORTED}: ")
    if not is_reason and not HEADER.fullmatch(header):
        raise refuse("does not begin with a line such as TRT-8501-EntropyCalibration2")
    if not text.endswith("\n"):
        raise refuse("is truncated")
    # Nothing may follow the first such line: it would not be covered.
    before, found, after = text.partition(f"\n{CHECKSUM}: ")
    if found and after != _checksum(f"{before}\n") + "\n":
        raise refuse(f"was edited or damaged after it was made (its last line, {CHECKSUM}, does not fit)")
    if is_reason and found:
        raise UnsupportedError(header.removeprefix(f"{UNSUPPORTED}: "))
    _, *lines = before.removesuffix("\n").split("\n")
    if not lines:
        raise refuse("is truncated")
    scales: dict[str, float] = {}
    for number, line in enumerate(lines, start=2):
        match = LINE.fullmatch(line)
        if match is None:
            raise refuse(f"has no tensor and eight hex digits in line {number}")
        (scale,) = struct.unpack(">f", bytes.fromhex(match["bits"]))
        if not 0 < scale < math.inf:
            raise refuse(f"has the scale {scale} for the tensor {match['tensor']}, which is not a positive number")
        if match["tensor"] in scales:
            raise refuse(f"holds the tensor {match['tensor']} twice")
        scales[match["tensor"]] = scale
    return scales


def check_cache(scales: Mapping[str, float], model: onnx.ModelProto, path: Path, attention: bool = False) -> None:
    """Check that a cache is of this model.

    Args:
        model: the FP32 export.
        path: the cache, for the sentence.
        attention: as in `calibrated_tensors`.

    Raises:
        CalibrationError: the cache lacks a tensor of the model or has one more.
        UnsupportedError: as `calibrated_tensors`.
    """
    needed = calibrated_tensors(model, attention)
    missing = [name for name in needed if name not in scales]
    foreign = [name for name in scales if name not in needed]
    if missing or foreign:
        problem = (
            f"is cut short or of another model: it lacks the tensor {missing[0]}"
            if missing
            else f"is of another model: it has the tensor {foreign[0]}, which is not this model's"
        )
        raise CalibrationError(f"The calibration cache {path} {problem}; delete it and run Snakemake again.")
