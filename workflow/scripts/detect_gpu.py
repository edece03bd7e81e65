"""Print the key of this machine's device in config/gpus.yaml, or CPU when it has no NVIDIA GPU."""

import sys
from pathlib import Path

import yaml

from deepgap.errors import DeepGapError
from deepgap.hardware import detect_gpu, load_gpus

if __name__ == "__main__":
    schema = yaml.safe_load(Path("workflow/schemas/gpus.schema.yaml").read_text())
    try:
        print(detect_gpu(load_gpus(Path("config/gpus.yaml"), schema)))
    except DeepGapError as error:
        sys.exit(f"deep-gap: {error}")
