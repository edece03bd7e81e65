"""Render a Vega-Lite specification as PDF, SVG and PNG."""

from deepgap.jobs.arguments import run_script
from deepgap.paper.charts.picture import render_spec


def main(job):
    render_spec(job.spec, job.pdf, job.svg, job.png)


run_script(main, globals(), inputs=["spec"], outputs=["pdf", "svg", "png"])
