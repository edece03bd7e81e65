"""The errors that a user can mend."""

LONGEST = 300
"""Characters of another library's error in a sentence: zipfile tells whole headers."""

LONGEST_WORD = 500
"""Characters of a word in a sentence: a path may have some hundred."""


class DeepGapError(Exception):
    """A problem told in one sentence: what was asked, what was found, what to do."""

    def __str__(self) -> str:
        # A name from outside may hold a line break, or thousands of letters.
        return " ".join(
            word if len(word) <= LONGEST_WORD else f"{word[:300]}...{word[-60:]}"
            for word in super().__str__().split()
        )


def first_line(error: BaseException) -> str:
    """What another library's error says, in a line that can stand in a sentence: its name when it says nothing."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


class ConfigError(DeepGapError):
    """The study or the hardware file asks for something that is not allowed."""


class DeviceError(DeepGapError):
    """The device that was asked for is not in this machine."""


class CellError(DeepGapError):
    """A cell file is not what its name and its footer say."""


class TelemetryError(DeepGapError):
    """The device could not be sampled, or samples cannot be read."""


class DiskError(DeepGapError):
    """A file cannot be read or written; what it holds is not in question."""


class WeightsError(DeepGapError):
    """The weights of a model cannot be had."""


class UnsupportedError(DeepGapError):
    """This device or library cannot run this mode: an expected result, recorded as a row."""


class EngineError(DeepGapError):
    """An engine file is missing, damaged, or was built for something else."""


class MissingLibraryError(DeepGapError):
    """A library that a runtime needs is not installed."""


class GraphError(DeepGapError):
    """An ONNX graph is broken, not what it should be, or not of a kind that can be quantised."""


class CalibrationError(DeepGapError):
    """A calibration cache is damaged, or belongs to another model."""


class ImageError(DeepGapError):
    """Images, or the answers that were given to them, cannot be used."""
