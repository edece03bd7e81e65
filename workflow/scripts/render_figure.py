"""Render a Vega-Lite specification as PDF, SVG and PNG."""

from deepgap.draw import render_spec
from deepgap.job import run_script


def main(job):
    render_spec(job.spec, job.fonts, job.pdf, job.svg, job.png)


run_script(main, globals(), inputs=["spec", "fonts"], outputs=["pdf", "svg", "png"])
