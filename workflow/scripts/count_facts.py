"""Count what is known of a model from its graph: multiply-adds, weights, activations."""

from pathlib import Path

from deepgap.build.facts import facts_or_reason, write_facts
from deepgap.jobs.arguments import run_script


def main(job):
    write_facts(Path(job.facts), facts_or_reason(Path(job.graph)))


run_script(main, globals(), inputs=["graph"], outputs=["facts"])
