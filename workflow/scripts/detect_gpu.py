"""Print the key of this machine's device: in config/gpus.yaml, or from its name; CPU when it has no NVIDIA GPU."""

import sys
from pathlib import Path

from deepgap.errors import DeepGapError
from deepgap.measure.card import introduce
from deepgap.measure.device import detect_gpu
from deepgap.study.gpus import find_cards, load_gpus

RESULTS = Path("results")


def say(text):
    print(f"deep-gap: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        gpus = load_gpus(Path("config/gpus.yaml"), Path("workflow/schemas/gpus.schema.yaml"), find_cards(RESULTS))
        print(detect_gpu(gpus, lambda device: introduce(device, gpus, RESULTS, say)))
    except DeepGapError as error:
        sys.exit(f"deep-gap: {error}")
