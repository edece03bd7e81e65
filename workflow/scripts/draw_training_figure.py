"""Draw one figure of the second paper as a Vega-Lite specification."""

from deepgap.jobs.summary import run_training_script
from deepgap.paper.charts.picture import write_spec
from deepgap.paper.training import load_figure


def main(job, summary):
    write_spec(load_figure(job.figure)(summary), job.spec)


run_training_script(main, globals(), outputs=["spec"], params=["figure"])
