"""Export a model to ONNX from the weights that every mode shares, or bring its graph to the same form."""

from pathlib import Path

from deepgap.build.export import export_onnx
from deepgap.build.foreign_graph import adopt_graph
from deepgap.build.graph_file import write_unsupported_graph
from deepgap.errors import UnsupportedError
from deepgap.jobs.arguments import run_script
from deepgap.jobs.threads import use_all_threads
from deepgap.measure.locks import take_host
from deepgap.study.models import ModelSpec
from deepgap.text import tell
from deepgap.weights import load_model


def main(job):
    take_host()
    use_all_threads()
    spec, graph = ModelSpec(**job.model), Path(job.graph)
    try:
        if spec.is_graph:
            adopt_graph(Path(spec.file), graph, job.precision, spec.image_size)
        else:
            model, weights_sha256 = load_model(spec.key, Path(job.weights), job.precision)
            export_onnx(model, graph, job.precision, spec.image_size, weights_sha256)
    except UnsupportedError as error:
        # Its cells become rows with this reason.
        tell(f"{spec.key}: {error}")
        write_unsupported_graph(graph, str(error))


run_script(main, globals(), inputs=["weights"], outputs=["graph"], params=["model", "precision"])
