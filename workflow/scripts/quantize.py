"""Make a quantised graph of an FP32 graph and its calibration cache."""

from pathlib import Path

from deepgap.build.graph_file import write_graph, write_unsupported_graph
from deepgap.build.quantize.cache import check_cache, read_cache
from deepgap.build.quantize.forms import FORMS
from deepgap.build.quantize.lint import describe_boundaries, lint_placement
from deepgap.build.quantize.network import read_graph
from deepgap.errors import UnsupportedError
from deepgap.jobs.arguments import run_script
from deepgap.measure.locks import take_host
from deepgap.text import tell


def quantize(job):
    model, cache = read_graph(Path(job.source)), Path(job.cache)
    scales = read_cache(cache)
    check_cache(scales, model, cache, job.attention)
    tell(f"{len(scales)} scales from {cache}")
    graph = FORMS[job.form](model, scales, job.attention)
    if job.form.startswith("qdq"):
        # What TensorRT will not run in INT8 from end to end.
        for line in (*lint_placement(graph, job.attention), *describe_boundaries(graph)):
            tell(line)
    write_graph(Path(job.graph), graph)


def main(job):
    take_host()
    try:
        quantize(job)
    except UnsupportedError as error:
        # Its cells become rows with this reason.
        tell(str(error))
        write_unsupported_graph(Path(job.graph), str(error))


run_script(main, globals(), inputs=["source", "cache"], outputs=["graph"], params=["form", "attention"])
