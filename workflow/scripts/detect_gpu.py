"""Print the key of this machine's device: in config/gpus.yaml, or from its name; CPU when it has no NVIDIA GPU."""

import sys
from pathlib import Path

from deepgap.errors import DeepGapError
from deepgap.measure.card import introduce
from deepgap.measure.device import detect_gpu, key_of, list_devices
from deepgap.measure.readiness import check_ready
from deepgap.study.gpus import find_cards, load_gpus

RESULTS = Path("results")


def say(text):
    print(f"deep-gap: {text}", file=sys.stderr, flush=True)


def load():
    return load_gpus(Path("config/gpus.yaml"), Path("workflow/schemas/gpus.schema.yaml"), find_cards(RESULTS))


def main():
    gpus, seen = load(), list_devices()

    def name_card(device):
        # First, so that a card that cannot be measured leaves nothing behind.
        check_ready([device])
        return introduce(device, gpus, RESULTS, say)

    key = detect_gpu(gpus, name_card)
    known = load()
    chosen = [device for device in seen if key_of(device, known) == key]
    if chosen and key in gpus:
        check_ready(chosen)
    others = sorted({device.name for device in seen if device not in chosen})
    if others:
        say(
            f"This machine also has {', '.join(others)}: 'CUDA_VISIBLE_DEVICES=GPU-... make', with what "
            "'nvidia-smi -L' prints of it, measures that one."
        )
    print(key)


if __name__ == "__main__":
    try:
        main()
    except DeepGapError as error:
        sys.exit(f"deep-gap: {error}")
