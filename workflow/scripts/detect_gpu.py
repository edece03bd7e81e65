"""Print the key of this machine's device in config/gpus.yaml, or CPU when it has no NVIDIA GPU."""

import sys
from pathlib import Path

from deepgap.errors import DeepGapError
from deepgap.measure.device import detect_gpu
from deepgap.study.gpus import load_gpus

if __name__ == "__main__":
    try:
        print(detect_gpu(load_gpus(Path("config/gpus.yaml"), Path("workflow/schemas/gpus.schema.yaml"))))
    except DeepGapError as error:
        sys.exit(f"deep-gap: {error}")
