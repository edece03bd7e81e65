"""Scripts that read the summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepgap.analyse.schemas import CELL_TABLES, STUDY_TABLES
from deepgap.analyse.store import load_summary, read_frame
from deepgap.analyse.summary import Summary
from deepgap.analyse.training.cells import TRAINING_CELLS
from deepgap.analyse.training.summary import TrainingSummary
from deepgap.jobs.arguments import list_paths, run_script
from deepgap.published.democratizing import read_democratizing
from deepgap.published.gpu_memory import read_gpu_memory
from deepgap.study.gpus import load_gpus


def run_summary_script(
    main: Callable[[Any, Summary], None],
    namespace: Mapping[str, Any],
    outputs: Sequence[str],
    params: Sequence[str] = (),
    inputs: Sequence[str] = (),
    optional_inputs: Sequence[str] = (),
) -> None:
    """Call `main(job, summary)` of a script that reads the summary; see `arguments.run_script`.

    Args:
        main, namespace: see `run_script`.
        outputs, params, inputs, optional_inputs: the names that the rule gives beside those of the summary, which are
            the tables of `STUDY_TABLES` and `CELL_TABLES`, `gpus` and `schema`, and the parameter `reporting`.
    """

    def read_and_run(job: Any) -> None:
        files = {name: list_paths(getattr(job, name)) for name in (*CELL_TABLES, *STUDY_TABLES)}
        gpus, *cards = list_paths(job.gpus)
        main(job, load_summary(files, load_gpus(gpus, Path(job.schema), cards), job.reporting))

    run_script(
        read_and_run,
        namespace,
        inputs=[*STUDY_TABLES, "gpus", "schema", *inputs],
        optional_inputs=[*CELL_TABLES, *optional_inputs],
        outputs=outputs,
        params=["reporting", *params],
    )


def run_training_script(
    main: Callable[[Any, TrainingSummary], None],
    namespace: Mapping[str, Any],
    outputs: Sequence[str],
    params: Sequence[str] = (),
    inputs: Sequence[str] = (),
) -> None:
    """Call `main(job, summary)` of a script that reads the second study's summary; see `arguments.run_script`.

    Args:
        main, namespace: see `run_script`.
        outputs, params, inputs: the names that the rule gives beside `cells`, `published`, `memory`, `gpus` and
            `schema`.
    """

    def read_and_run(job: Any) -> None:
        of_gpus, *cards = list_paths(job.gpus)
        gpus = load_gpus(of_gpus, Path(job.schema), cards)
        cells = read_frame(Path(job.cells), TRAINING_CELLS)
        published, sizes = read_democratizing(Path(job.published)), read_gpu_memory(Path(job.memory), gpus)
        main(job, TrainingSummary(cells, published, sizes, gpus))

    files = ["cells", "published", "memory", "gpus", "schema"]
    run_script(read_and_run, namespace, inputs=[*files, *inputs], outputs=outputs, params=params)
