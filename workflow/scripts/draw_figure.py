"""Draw one figure of the paper as a Vega-Lite specification."""

from deepgap.jobs.summary import run_summary_script
from deepgap.paper.charts.picture import write_spec
from deepgap.paper.figures import load_figure


def main(job, summary):
    write_spec(load_figure(job.figure)(summary), job.spec)


run_summary_script(main, globals(), outputs=["spec"], params=["figure"])
