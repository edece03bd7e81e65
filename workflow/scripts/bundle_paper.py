"""Pack paper/main.tex and all that LaTeX needs for it into an archive, once they have compiled alone."""

from pathlib import Path

from deepgap.jobs.arguments import list_paths, run_script
from deepgap.paper.document import bundle


def main(job):
    bundle(Path(job.main), list_paths(job.parts), Path(job.archive))


run_script(main, globals(), inputs=["main", "parts"], outputs=["archive"])
