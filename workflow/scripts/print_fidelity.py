"""Print the layers and the calibration methods of each model as text."""

import polars as pl

from deepgap.jobs.arguments import list_paths, run_script
from deepgap.measure.fidelity_report import COSTS, LAYERS, describe_layers, describe_methods


def main(job):
    for file in list_paths(job.layers):
        print(f"\n{file}: SQNR against FP32 in dB, values as they are\n")
        print(describe_layers(pl.read_csv(file, schema=LAYERS)))
    for file in list_paths(job.methods):
        print(f"\n{file}: logits of the INT8 graphs against FP32\n")
        print(describe_methods(pl.read_csv(file, schema=COSTS)), flush=True)


run_script(main, globals(), inputs=["layers", "methods"])
