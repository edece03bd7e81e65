"""Count the parameters and the arithmetic of a workload at an image size, and the hash of its seeded weights."""

from pathlib import Path

from deepgap.jobs.arguments import run_script
from deepgap.measure.locks import take_host
from deepgap.training.count import count_facts
from deepgap.training.facts import write_facts


def main(job):
    take_host()
    asked = job.workload
    write_facts(Path(job.facts), count_facts(asked["model"], int(asked["image_size"]), int(asked["seed"])))


run_script(main, globals(), outputs=["facts"], params=["workload"])
