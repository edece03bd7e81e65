"""From a model to ONNX, to the calibrated Q/DQ graph, to an engine."""
