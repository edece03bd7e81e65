"""Build the weights that every mode of a model shares."""

from pathlib import Path

from deepgap.jobs.arguments import run_script
from deepgap.jobs.threads import use_all_threads
from deepgap.measure.locks import take_host
from deepgap.study.models import ModelSpec
from deepgap.text import tell
from deepgap.weights import build_weights, save_weights


def main(job):
    take_host()
    use_all_threads()
    weights = build_weights(ModelSpec(**job.model), tell)
    if weights.unsupported:
        tell(f"{weights.spec.key}: {weights.unsupported}")
    save_weights(Path(job.weights), weights)


run_script(main, globals(), outputs=["weights"], params=["model"])
