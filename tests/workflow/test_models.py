"""Any model by a line of config: what can run is measured, what cannot becomes rows, and the run goes on."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from deepgap.cells.cell_file import read_cell
from tests.unit.test_foreign_graph import foreign
from tests.workflow.conftest import CPU, TINY, copy_project

pytestmark = pytest.mark.xdist_group("odd models")

SIZE = 32
NETS = """
from torch import nn

def tiny():
    return nn.Sequential(nn.Conv2d(3, 8, 5, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
                         nn.Flatten(), nn.Linear(32, 10))

def trained():
    return tiny()

def pooled():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 10))

def broken():
    raise RuntimeError("no such layer")
"""


def entry(model: str, **keys: object) -> dict[str, object]:
    return {"model": model, "image_size": SIZE, **keys}


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> dict[str, tuple]:
    """The cells of a study of five odd models, by model and mode."""
    project = copy_project(tmp_path_factory.mktemp("models") / "project")
    (project.root / "nets.py").write_text(NETS, encoding="utf-8")
    foreign(project.root / "theirs.onnx", 1, size=SIZE)
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (project.root / "labelled" / name).mkdir(parents=True)
        for number in range(6):
            pixels = random.integers(0, 255, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(project.root / f"labelled/{name}/{number}.png")
    project.change(
        **TINY
        | {
            "models": [
                entry("file:nets.py:tiny"),
                entry("file:nets.py:trained", weights="pretrained"),
                entry("file:nets.py:pooled"),
                entry("file:nets.py:broken"),
                entry("onnx:theirs.onnx"),
            ],
            "modes": ["eager-fp32", "ort-fp32", "ort-int8"],
            "batch_sizes": [2],
            "protocols": {"tiny": {**TINY["protocols"]["tiny"], "sweeps": 1, "fidelity_images": 12}},
            "calibration": {"method": "max", "images": "procedural", "count": 8},
            "accuracy": {"images": "labelled"},
        }
    )
    run = project.run("cells", *CPU)
    assert run.returncode == 0, run.stdout
    found = {}
    for path in (project.root / "results/CPU/cells").glob("*.parquet"):
        frame, footer = read_cell(path)
        found[f"{footer.recipe['model']} {footer.recipe['mode']}"] = (frame, footer)
    return found


def test_each_cell_is_there_and_tells_why_it_could_not_run(cells):
    reasons = {name: (set(frame["status"]), frame["reason"][0]) for name, (frame, _) in cells.items()}
    assert len(reasons) == 15
    failed = {name: reason for name, (status, reason) in reasons.items() if status == {"unsupported"}}
    assert {name for name in reasons if name not in failed} == {
        *(f"nets.tiny {mode}" for mode in ("eager-fp32", "ort-fp32", "ort-int8")),
        *(f"nets.trained {mode}" for mode in ("eager-fp32", "ort-fp32", "ort-int8")),
        *(f"nets.pooled {mode}" for mode in ("eager-fp32", "ort-fp32")),
        *(f"theirs {mode}" for mode in ("ort-fp32", "ort-int8")),
    }
    assert all("no such layer" in reason for name, reason in failed.items() if name.startswith("nets.broken"))
    assert "no Conv, Gemm or MatMul with constant weights" in failed["nets.pooled ort-int8"]
    assert "ONNX graph, which PyTorch does not run" in failed["theirs eager-fp32"]


def test_every_mode_of_a_model_has_its_weights_and_its_facts(cells):
    for model, multiply_adds in (("nets.tiny", 14 * 14 * 8 * 75 + 320), ("theirs", SIZE**2 * 4 * 27 + 28)):
        footers = [footer for name, (_, footer) in cells.items() if name.startswith(model)]
        assert len({footer.weights_sha256 for footer in footers}) == 1
        assert {footer.observed["facts"]["multiply_adds"] for footer in footers} == {multiply_adds}


def test_labels_of_the_users_folder_are_counted_for_weights_that_know_them(cells):
    """Seeded weights know textures alone; those of a graph or of a trained factory may know the user's classes."""
    for name, counted in (
        ("nets.tiny eager-fp32", False),
        ("nets.trained eager-fp32", True),
        ("theirs ort-fp32", True),
    ):
        fidelity = cells[name][1].observed["fidelity"]
        assert fidelity["images"] == 12
        assert (fidelity["top1_right"] is not None) is counted, name
