"""Make a quantised graph of an FP32 graph and its calibration cache."""

import sys
from pathlib import Path

from deepgap.build.export import write_graph
from deepgap.build.quantize.cache import check_cache, read_cache
from deepgap.build.quantize.forms import FORMS
from deepgap.build.quantize.network import read_graph
from deepgap.jobs.arguments import run_script
from deepgap.measure.locks import take_host


def main(job):
    take_host()
    model, cache = read_graph(Path(job.source)), Path(job.cache)
    scales = read_cache(cache)
    check_cache(scales, model, cache)
    print(f"{len(scales)} scales from {cache}", file=sys.stderr)
    write_graph(Path(job.graph), FORMS[job.form](model, scales))


run_script(main, globals(), inputs=["source", "cache"], outputs=["graph"], params=["form"])
