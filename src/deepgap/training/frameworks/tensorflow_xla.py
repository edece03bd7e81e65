"""Keras on TensorFlow, its graph compiled by XLA."""

from __future__ import annotations

from dataclasses import replace

from deepgap.training.frameworks import Job, Prepared
from deepgap.training.frameworks.tensorflow import FRAMEWORK as GRAPH
from deepgap.training.frameworks.tensorflow import prepare


def prepare_compiled(job: Job) -> Prepared:
    return prepare(job, xla=True)


FRAMEWORK = replace(GRAPH, label="Keras on TensorFlow, XLA", prepare=prepare_compiled)
