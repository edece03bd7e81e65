"""All that the paper is made from, and how it is ordered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from deepgap.analyse.schemas import ABOUT_MODE
from deepgap.cells.cell_file import OK
from deepgap.study.cell import ALL_THREADS
from deepgap.study.gpus import Gpu, split_site
from deepgap.study.words import Place, mode_order, place

HOST = "CPU"
"""The key of a machine's own processor in gpus.yaml."""


@dataclass(frozen=True)
class Summary:
    """All that a table, a figure or a number of the paper is made from; its frames are those of `analyse.schemas`.

    reporting: of the config: the operating points at which the paper compares.
    """

    runs: pl.DataFrame
    families: pl.DataFrame
    by_host: pl.DataFrame
    ratios: pl.DataFrame
    variance: pl.DataFrame
    facts: pl.DataFrame
    fidelity: pl.DataFrame
    telemetry: pl.DataFrame
    sessions: pl.DataFrame
    cost: pl.DataFrame
    published: pl.DataFrame
    anchors: pl.DataFrame
    coverage: pl.DataFrame
    design: pl.DataFrame
    gpus: dict[str, Gpu]
    reporting: Mapping[str, Any]

    @property
    def kinds(self) -> list[Gpu]:
        """The GPUs that the study is about or the published one measured, without sites; `gpus` has all that are
        known."""
        about = {split_site(key)[0] for key in (*self.coverage["gpu"], *self.published["gpu"].drop_nulls())}
        return [gpu for key, gpu in self.gpus.items() if key in about]

    def order_models(self, keys: Iterable[str]) -> list[str]:
        """These models as `place_model` sorts them."""
        return sorted(set(keys), key=self.place_model)

    def place_model(self, model: str) -> Place:
        """Sorts models as the study names them, then as the published one does, others by name."""
        return place(model, self._models)

    @cached_property
    def _models(self) -> list[str]:
        known = [*self.design["models"].explode(empty_as_null=False), *self.published["model"].drop_nulls()]
        return list(dict.fromkeys(known))

    @cached_property
    def modes(self) -> list[str]:
        """All modes that were asked for or tried, from the plainest to the most specialised."""
        about = pl.concat(
            [frame.select("mode", *ABOUT_MODE) for frame in (self.families, self.coverage, self.fidelity)]
        ).drop_nulls()
        return [row[0] for row in sorted(set(about.iter_rows()), key=lambda row: mode_order(*row[1:]))]

    @cached_property
    def measured(self) -> pl.DataFrame:
        """The families with all threads that have numbers, in the order of gpus.yaml, the study's models,
        `modes` and batch."""
        return self.ordered(self.families.filter(pl.col("status") == OK, pl.col("threads") == ALL_THREADS))

    @cached_property
    def primary(self) -> pl.DataFrame:
        """The families of `measured` of which a sentence may speak (`flags.NOT_PRIMARY`)."""
        return self.measured.filter("primary")

    @cached_property
    def failed(self) -> pl.DataFrame:
        """The families with all threads that were tried and have no numbers, with status and reason."""
        return self.ordered(self.families.filter(pl.col("status") != OK, pl.col("threads") == ALL_THREADS))

    @cached_property
    def thread_scaling(self) -> pl.DataFrame:
        """The families that have numbers, of each gpu, model and mode that has them at several numbers of threads, in
        the order of `measured` and then by threads, all cores last."""
        timed = self.families.filter(pl.col("status") == OK)
        return self.ordered(timed.filter(pl.col("threads").n_unique().over("gpu", "model", "mode") > 1))

    @cached_property
    def processor(self) -> str:
        """The processor that GPUs are compared with: this machine's own where it was measured, or a committed one."""
        measured = set(self.measured["gpu"])
        processors = [key for key, gpu in self.gpus.items() if gpu.device == "cpu"]
        return next((key for key in processors if key in measured), processors[0] if processors else HOST)

    def is_processor(self, key: str) -> bool:
        """Whether a key is that of a processor; the published one, which gpus.yaml does not have, is one, too."""
        return key not in self.gpus or self.gpus[key].device == "cpu"

    def cores(self, gpu: str) -> str | None:
        """The logical cores of a device's hosts in words, several numbers where they differ; None where they are not
        known."""
        cores = self.sessions.filter(gpu=gpu)["logical_cores"].drop_nulls().unique().sort()
        return " or ".join(map(str, cores)) or None

    def order_gpus(self, keys: set[str]) -> list[str]:
        """These GPUs in the order of gpus.yaml; others (a published host) after them, by name."""
        return [key for key in self.gpus if key in keys] + sorted(keys - self.gpus.keys())

    def ordered(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows with `schemas.KEY` in the order of gpus.yaml, the study's models, `modes`, batch and threads, all of
        them last."""
        gpus, models = pl.Enum(self.order_gpus(set(frame["gpu"]))), pl.Enum(self.order_models(frame["model"]))
        places: list[Any] = [
            pl.col("gpu").cast(gpus),
            pl.col("model").cast(models),
            pl.col("mode").cast(pl.Enum(self.modes)),
            "batch_size",
            pl.col("threads") == ALL_THREADS,
            "threads",
        ]
        return frame.sort(*places)
