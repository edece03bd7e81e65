"""Build the state dict that every mode of a model shares."""

import io
import sys
from pathlib import Path

import torch

from deepgap.files import put_in_place
from deepgap.host import host_threads
from deepgap.jobs.arguments import run_script
from deepgap.measure.locks import take_host
from deepgap.sources.models import build_weights


def main(job):
    take_host()
    torch.set_num_threads(host_threads())
    output = Path(job.weights)
    state = build_weights(
        output.name.split(".")[0], job.settings, job.image_size, say=lambda text: print(text, file=sys.stderr)
    )
    # Through memory, because torch.save does not say that a disk is full.
    content = io.BytesIO()
    torch.save(state, content)
    with put_in_place(output) as partial:
        partial.write_bytes(content.getbuffer())


run_script(main, globals(), outputs=["weights"], params=["settings", "image_size"])
