"""PyTorch eager: every operator is launched from Python."""

from __future__ import annotations

from deepgap.runtimes.packages import pytorch
from deepgap.training.frameworks import Framework
from deepgap.training.frameworks.pytorch import NARROW, PRECISIONS, around, preload, prepare_trainer, start_pytorch

FRAMEWORK = Framework(
    framework="pytorch",
    label="PyTorch eager",
    precisions=PRECISIONS,
    devices=frozenset({"cpu", "cuda"}),
    prepare=prepare_trainer,
    libraries=lambda: pytorch("eager", "torchvision"),
    preload=preload,
    start=start_pytorch,
    around=around,
    channels_last=frozenset(NARROW),
    both_layouts=True,
)
