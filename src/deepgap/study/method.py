"""The version of the measuring method."""

from deepgap.runtimes import runtime_names

METHOD_VERSION = 4
"""Raised when an edit can change a measured number or a cell's contents; all cells are then measured anew.

`tests/unit/test_method.py` fails when the modules below change without a decision.
"""

METHOD_MODULES = (
    "deepgap.runtimes.cudnn.convolutions",
    "deepgap.build.export",
    "deepgap.measure.fidelity",
    "deepgap.build.images.textures",
    "deepgap.build.images.imagesets",
    "deepgap.runtimes.cudnn.kernels",
    "deepgap.runtimes.cudnn.lowering",
    "deepgap.measure.measure",
    "deepgap.sources.models",
    "deepgap.build.images.photos",
    "deepgap.build.quantize.histograms",
    "deepgap.build.quantize.placement",
    "deepgap.build.quantize.thresholds",
    "deepgap.cells.telemetry_file",
    "deepgap.measure.telemetry",
    "deepgap.measure.timing",
    *(f"deepgap.runtimes.{name}" for name in runtime_names()),
)
"""The modules that can change a measured number."""
