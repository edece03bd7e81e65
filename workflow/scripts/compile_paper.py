"""Compile paper/main.tex with latexmk."""

from pathlib import Path

from deepgap.jobs.arguments import run_script
from deepgap.paper.document import compile_pdf


def main(job):
    compile_pdf(Path(job.main), Path(job.pdf))


run_script(main, globals(), inputs=["main"], outputs=["pdf"])
