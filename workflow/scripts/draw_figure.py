"""Draw one figure of the paper as a Vega-Lite specification."""

from deepgap.draw import write_spec
from deepgap.figures import load_figure
from deepgap.summary import run_summary_script


def main(job, summary):
    write_spec(load_figure(job.figure)(summary), job.spec)


run_summary_script(main, globals(), outputs=["spec"], params=["figure"])
