"""The version of the measuring method."""

from deepgap.runtimes import runtime_names

METHOD_VERSION = 3
"""Raised when an edit can change a measured number or a cell's contents; all cells are then measured anew.

`tests/unit/test_method.py` fails when the modules below change without a decision.
"""

METHOD_MODULES = (
    "deepgap.convolutions",
    "deepgap.export",
    "deepgap.fidelity",
    "deepgap.images",
    "deepgap.imagesets",
    "deepgap.kernels",
    "deepgap.lowering",
    "deepgap.measure",
    "deepgap.models",
    "deepgap.photos",
    "deepgap.quantize.histograms",
    "deepgap.quantize.placement",
    "deepgap.quantize.thresholds",
    "deepgap.telemetry",
    "deepgap.timing",
    *(f"deepgap.runtimes.{name}" for name in runtime_names()),
)
"""The modules that can change a measured number."""
