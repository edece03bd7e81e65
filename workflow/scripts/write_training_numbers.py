"""Write the numbers of the second paper's prose as LaTeX macros, and check and write its claims."""

from pathlib import Path

from deepgap.jobs.summary import run_training_script
from deepgap.paper.training.claims import write_claims
from deepgap.paper.training.numbers import write_numbers
from deepgap.text import write_text


def main(job, summary):
    write_text(Path(job.numbers), write_numbers(summary, job.captions))
    write_text(Path(job.claims), write_claims(summary))


run_training_script(main, globals(), outputs=["numbers", "claims"], params=["captions"])
