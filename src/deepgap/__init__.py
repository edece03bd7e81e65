"""Measure image-model inference on GPUs and regenerate the DEEP-GAP paper."""
