"""INT8 from the config to the cell: what is made again, and how bad input is refused."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from deepgap.build.engine_file import Engine, engine_identity, write_engine
from deepgap.build.graph_file import WEIGHTS_HASH, read_weights_hash, write_graph
from deepgap.build.images.imagesets import calibration_images, read_arrays, write_arrays
from deepgap.build.quantize.cache import CHECKSUM, read_cache
from deepgap.build.quantize.network import read_graph
from deepgap.build.quantize.placement import calibrated_tensors
from deepgap.build.quantize.qdq import insert_qdq
from deepgap.build.reference import write_answers
from deepgap.cells.cell_file import read_cell
from deepgap.cells.footer import Footer
from deepgap.errors import DeepGapError, EngineError, GraphError, ImageError, WeightsError
from deepgap.measure import source
from deepgap.runtimes import load_runtimes
from deepgap.runtimes.engine_builder import build_engine
from deepgap.study.artifacts import Artifacts
from deepgap.study.gpus import Device
from deepgap.study.modes import parse_mode
from deepgap.weights import load_model
from tests.conftest import ROOT
from tests.workflow.conftest import CALIBRATION, CPU, Project, copy_study, own

pytestmark = pytest.mark.xdist_group("int8")

FP32, U8S8, CACHE = "build/onnx/*.fp32.onnx", "build/int8/*.u8s8.onnx", "build/int8/*.cache"
DELETE = "delete it and run Snakemake again."


@pytest.fixture(scope="module")
def measured_photos(measured_int8, tmp_path_factory) -> Project:
    """The same, calibrated on a folder of images of several kinds."""
    project = copy_study(measured_int8, tmp_path_factory.mktemp("photos") / "project")
    folder = project.root / "photos"
    save_photos(folder)
    project.change(calibration=CALIBRATION | {"images": "photos", "count": 100})
    run = project.run("cells", *CPU)
    assert run.returncode == 0, run.stdout
    return project


@pytest.fixture
def project(measured_int8, tmp_path):
    """A copy of the measured study that a test may change."""
    yield copy_study(measured_int8, tmp_path / "project")
    shutil.rmtree(tmp_path / "project")


@pytest.fixture
def with_photos(measured_photos, tmp_path):
    yield copy_study(measured_photos, tmp_path / "project")
    shutil.rmtree(tmp_path / "project")


def save_photos(folder: Path) -> None:
    folder.mkdir()
    noise = Image.effect_noise((90, 60), 64)
    colours = Image.merge("RGB", [Image.effect_noise((60, 80), 64) for _ in range(3)])
    colours.save(folder / "colours.jpg")
    noise.save(folder / "gray.jpg")
    noise.save(folder / "gray.png")
    colours.convert("CMYK").save(folder / "cmyk.jpg")
    colours.convert("P").save(folder / "palette.png")
    colours.convert("RGBA").save(folder / "rgba.png")
    colours.save(folder / "colours.webp")
    noise.save(folder / "gray.bmp")
    (folder / "notes.txt").write_text("No image, and none of the calibration's business.", encoding="utf-8")


def footers(project: Project) -> dict[str, Footer]:
    """The footers of the cells, by mode and batch size; every cell must be well measured."""
    found = {}
    for path in project.cells():
        rows, footer = read_cell(path)
        assert set(rows["status"]) == {"ok"}
        found["{runtime}-{precision} {batch_size}".format(**footer.recipe)] = footer
    return found


def the(project: Project, pattern: str) -> Path:
    (path,) = project.root.glob(pattern)
    return path


def delete(project: Project, *patterns: str) -> None:
    for pattern in patterns:
        for path in list(project.root.glob(pattern)):
            path.unlink()


def edit(project: Project, pattern: str, change: Callable[[bytes], bytes]) -> str:
    """Change the content of a file and not its time, as a fault of the disk does; its path below the root."""
    path = own(the(project, pattern))
    times = path.stat()
    path.write_bytes(change(path.read_bytes()))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return path.relative_to(project.root).as_posix()


def flip_one_bit(content: bytes) -> bytes:
    """In the middle, where the weights are."""
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def refusals(project: Project) -> list[str]:
    """The sentences of a run that must make and change nothing."""

    def state() -> dict[str, tuple[int, int]]:
        kept = [name for name in project.files() if not name.startswith("logs/")]
        stats = {name: (project.root / name).stat() for name in kept}
        return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}

    before = state()
    run = project.run("cells", "--keep-going", *CPU)
    assert run.returncode != 0
    assert "Traceback" not in run.stdout
    assert state() == before
    # Each is told twice: where the job fails, and at the end.
    sentences = sorted({line for line in run.stdout.splitlines() if line.startswith("deep-gap: ")})
    assert sentences, run.stdout
    assert all(sentence.endswith(".") for sentence in sentences)
    return sentences


# A run


def test_every_mode_has_the_same_weights_and_answers_like_fp32(measured_int8):
    found = footers(measured_int8)
    assert set(found) == {f"{mode} {batch}" for mode in ("eager-fp32", "ort-fp32", "ort-int8") for batch in (1, 2)}
    _, weights = load_model("resnet18", the(measured_int8, "build/weights/*.pt"))
    assert {footer.weights_sha256 for footer in found.values()} == {weights}
    for name, footer in found.items():
        fidelity = footer.observed["fidelity"]
        assert fidelity["images"] == 4
        assert fidelity["all_finite"]
        assert str(measured_int8.root) not in json.dumps(asdict(footer))
        if name.startswith("ort-int8"):
            assert footer.recipe["calibration"] == CALIBRATION
            assert 0.9 < fidelity["centred_cosine"] < 0.9999
            assert 5 < fidelity["centred_sqnr_db"] < 40
        else:
            assert "calibration" not in footer.recipe
            assert fidelity["centred_sqnr_db"] > 80
            assert fidelity["top1_agreement"] == 1
            assert fidelity["top1_accuracy"] == fidelity["reference_top1_accuracy"]
    # The batch size changes neither the graph nor the images.
    assert found["ort-int8 1"].observed["fidelity"] == found["ort-int8 2"].observed["fidelity"]


def test_the_scales_are_in_tensorrts_format_and_those_of_the_graph(measured_int8):
    cache, graph = the(measured_int8, CACHE), the(measured_int8, FP32)
    assert cache.read_text(encoding="utf-8").splitlines()[0] == "TRT-8501-EntropyCalibration2"
    scales = read_cache(cache)
    assert list(scales) == calibrated_tensors(read_graph(graph))
    stored = {tensor.name: tensor for tensor in read_graph(the(measured_int8, U8S8)).graph.initializer}
    assert onnx.numpy_helper.to_array(stored["input_scale"]) == np.float32(scales["input"])
    assert read_weights_hash(the(measured_int8, U8S8)) == read_weights_hash(graph)


def test_a_folder_of_any_kind_of_images_calibrates(measured_int8, measured_photos):
    others = footers(measured_int8)["ort-int8 1"]
    found, *_ = (
        footer
        for _, footer in map(read_cell, measured_photos.cells())
        if footer.recipe["precision"] == "int8" and footer.recipe["calibration"] != others.recipe["calibration"]
    )
    digest = found.recipe["calibration"].pop("sha256")
    assert len(digest) == 64 and int(digest, 16)
    assert found.recipe["calibration"] == {"method": "entropy", "images": "folder", "count": 8}
    assert "photos" not in json.dumps(asdict(found))
    assert found.observed["fidelity"]["all_finite"]
    # Noise is not what the textures are: other images, other scales.
    caches = [read_cache(path) for path in measured_photos.root.glob(CACHE)]
    assert len(caches) == 2
    assert caches[0]["relu_16"] != caches[1]["relu_16"]


# What is stale


def test_a_folder_of_images_is_known_by_its_content(with_photos):
    (with_photos.root / "photos").rename(with_photos.root / "elsewhere")
    with_photos.change(calibration=CALIBRATION | {"images": "elsewhere", "count": 100})
    assert with_photos.plan("cells", *CPU) == {}
    Image.effect_noise((90, 60), 20).save(with_photos.root / "elsewhere/gray.png")
    assert with_photos.plan("cells", *CPU) == {"cells": 1, "calibrate": 1, "quantize": 1, "measure_cell": 2}


# Bad input


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"calibration": CALIBRATION | {"images": "absent"}},
            "The image folder absent does not exist or is a file; make it, or name another.",
        ),
        (
            {"calibration": CALIBRATION | {"images": "data"}},
            "The image folder data holds no image (.bmp, .jpeg, .jpg, .png, .webp) but "
            f"{len(list((ROOT / 'data').rglob('*.csv')))} files .csv; put some there.",
        ),
        (
            {"calibration": CALIBRATION | {"method": "entropie"}},
            "config.yaml: calibration.method is 'entropie' (did you mean 'entropy'?); "
            "allowed: entropy, max, percentile, mse.",
        ),
        (
            {"runtime_options": {"tensorrt": {"profile": "paper"}}},
            "config.yaml: runtime_options.tensorrt.profile is not an option of the runtime tensorrt: "
            "it has optimization_level, workspace_gib, cuda_graph.",
        ),
        (
            {"overrides": {"CPU": {"modes": ["eager-fp32", "tensorrt-int8"]}}},
            "config.yaml: overrides.CPU.modes[1] is 'tensorrt-int8', but the runtime tensorrt does not run on CPU.",
        ),
    ],
    ids=["no folder", "no images", "method", "option", "device"],
)
def test_what_the_config_cannot_ask_for(project, changes, sentence):
    project.change(**changes)
    (refusal,) = refusals(project)
    assert refusal.endswith(sentence)
    assert "Job stats" not in refusal


def test_a_damaged_image_is_named(with_photos, monkeypatch):
    image = with_photos.root / "photos/colours.jpg"
    image.write_bytes(half(image.read_bytes()))
    (refusal,) = refusals(with_photos)
    assert refusal.startswith(
        "deep-gap: The image folder photos has 7 images to calibrate on and at least 8 are needed"
    )
    assert "The image photos/colours.jpg cannot be decoded (image file is truncated" in refusal
    image.write_bytes(b"\xff\xd8\xff and then something else" * 9)
    monkeypatch.chdir(with_photos.root)
    with pytest.raises(ImageError, match=r"photos/colours\.jpg cannot be decoded \(cannot identify image file\)"):
        calibration_images(CALIBRATION | {"images": "photos", "count": 100}, lambda line: None)


@pytest.fixture
def by_hand(monkeypatch, capsys):
    """Runs a script of the workflow in this process as on the command line, and gives its last line."""

    def run(project: Project, script: str, **options: object) -> str:
        monkeypatch.chdir(project.root)
        arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(f"workflow/scripts/{script}.py")
        assert ended.value.code == 1
        said: str = capsys.readouterr().err.splitlines()[-1]
        return said

    return run


def test_images_that_change_while_they_are_used_give_no_scales(measured_photos, by_hand, tmp_path):
    """What Snakemake saw when it named the cache is no longer there."""
    calibration = CALIBRATION | {"images": "photos", "attention": False}
    seen = CALIBRATION | {"images": "folder", "sha256": "0" * 64}
    said = by_hand(
        measured_photos,
        "calibrate",
        graph=the(measured_photos, FP32),
        cache=tmp_path / "new.cache",
        calibration=json.dumps(calibration),
        described=json.dumps(seen),
        image_size=224,
    )
    assert said == "deep-gap: The images in photos changed since this run began; run Snakemake again."
    assert not (tmp_path / "new.cache").exists()


def test_cut_or_edited_scales_are_not_used(measured_int8, by_hand, tmp_path):
    cache, graph = tmp_path / "half.cache", tmp_path / "new.onnx"
    whole = the(measured_int8, CACHE).read_text(encoding="utf-8")
    for content, problem in {
        whole[:-5]: "is truncated",
        whole.replace("input: 3", "input: 4"): "was edited or damaged after it was made",
        "".join(whole.splitlines(keepends=True)[:9]): "is cut short or of another model: it lacks the tensor relu_5",
    }.items():
        cache.write_text(content, encoding="utf-8")
        options = {
            "source": the(measured_int8, FP32),
            "cache": cache,
            "graph": graph,
            "form": '"u8s8"',
            "attention": "false",
        }
        said = by_hand(measured_int8, "quantize", **options)
        assert said.startswith(f"deep-gap: The calibration cache {cache} {problem}")
        assert said.endswith(DELETE)
        assert not graph.exists()


def test_a_damaged_graph_is_not_measured(project):
    """Two cells fail in one run, each for its own graph, and their logs tell why."""
    delete(project, "results/CPU/cells/*ort-int8_b1_*", "results/CPU/cells/*ort-fp32_b1_*")
    edited, cut = edit(project, U8S8, flip_one_bit), edit(project, FP32, half)
    of_edited, of_cut = sorted(refusals(project), key=lambda sentence: edited not in sentence)
    assert of_edited == f"deep-gap: The graph {edited} was edited or damaged after it was made; {DELETE}"
    assert of_cut.startswith(f"deep-gap: {cut} is damaged or not an ONNX model (")
    assert of_cut.endswith(DELETE)
    logs = [
        path.read_text(encoding="utf-8").strip() for path in project.root.glob("logs/measure_cell/CPU/*ort*_b1_*")
    ]
    assert sorted(logs) == sorted([of_edited, of_cut])


def test_files_of_another_model_are_not_used(project):
    """A whole graph of other weights, and whole scales of other tensors, under the names of this model's."""
    delete(project, U8S8, "results/CPU/cells/*ort-int8_b1_*", "results/CPU/cells/*ort-fp32_b1_*")
    graph = the(project, FP32)
    times = graph.stat()
    other = read_graph(graph)
    onnx.helper.set_model_props(other, {WEIGHTS_HASH: "0" * 64})
    write_graph(graph, other)
    os.utime(graph, ns=(times.st_atime_ns, times.st_mtime_ns))
    cache = edit(
        project, CACHE, lambda content: content.partition(CHECKSUM.encode())[0] + b"layer1.0.conv3: 3c90f892\n"
    )
    of_cache, of_graph = sorted(refusals(project), key=lambda sentence: cache not in sentence)
    assert of_cache == (
        f"deep-gap: The calibration cache {cache} is of another model: it has the tensor layer1.0.conv3, "
        f"which is not this model's; {DELETE}"
    )
    study = project.study()
    artifacts, model = Artifacts(study), study.model("resnet18")
    assert of_graph == (
        f"deep-gap: {artifacts.onnx(model, 'fp32')} and {artifacts.reference(model, 'CPU')} were made from "
        "different weights; delete both and run Snakemake again."
    )


def test_damaged_images_and_answers_are_named(tmp_path):
    path = tmp_path / "reference.npz"
    with pytest.raises(ImageError, match=r"reference\.npz does not exist; run Snakemake"):
        read_arrays(path, "logits")
    write_arrays(path, logits=np.ones((4, 1000), np.float32), weights_sha256="0" * 64)
    assert [array.shape for array in read_arrays(path, "weights_sha256", "logits")] == [(), (4, 1000)]
    with pytest.raises(ImageError, match=r"reference\.npz is damaged or foreign \(.+\); delete it and run Snakemake"):
        read_arrays(path, "logits", "images")
    whole = path.read_bytes()
    for share in (0, 0.2, 0.6, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ImageError, match=rf"{path} is damaged or foreign \(.+\); delete it and run Snakemake"):
            read_arrays(path, "logits", "weights_sha256")


# Engines, as far as they can be tested without a GPU


@pytest.fixture(scope="module")
def t4_study(measured_int8):
    study = measured_int8.study()
    return replace(study, config=study.config | {"modes": ["tensorrt-int8", "cudnn-int8"], "gpu": "T4"})


BATCH = 1
T4 = Device(0, "GPU-1", "Tesla T4", "7.5")


def source_of(study: Any, path: Path, device: Device, version: str = "11.4") -> Any:
    """What the measuring process does with an engine file before it touches a device."""
    mode = parse_mode("tensorrt-int8", study.runtimes)
    cell = next(cell for cell in study.cells("T4") if cell.mode == mode and cell.batch_size == BATCH)
    request = source.Request(
        recipe=cell.recipe,
        gpu=study.gpus["T4"],
        source_file=path,
        engine_recipe=Artifacts(study).engine_recipe("T4", study.model("resnet18"), mode, BATCH),
        held_out_file=path.with_name("held_out.npz"),
        reference_file=path.with_name("reference.npz"),
        cell_file=path.with_name("cell.parquet"),
    )
    runtime = replace(load_runtimes()["tensorrt"], libraries=lambda: {"tensorrt": version})
    return source.open_source(request, runtime, device, source.load_reference(request)).value


def test_an_engine_is_loaded_where_and_for_what_it_was_built(t4_study, tmp_path):
    path = tmp_path / "resnet18_tensorrt-int8.engine"
    mode = parse_mode("tensorrt-int8", t4_study.runtimes)
    recipe = Artifacts(t4_study).engine_recipe("T4", t4_study.model("resnet18"), mode, BATCH)
    engine = Engine({"plan": np.zeros(99, np.uint8)}, {"weights_sha256": "a" * 64})
    write_engine(path, engine, engine_identity(T4, {"tensorrt": "11.4"}, recipe))
    write_arrays(tmp_path / "held_out.npz", images=np.zeros((1, 3, 4, 4)))
    labels = np.zeros(1, np.int64)
    write_answers(tmp_path / "reference.npz", np.zeros((1, 5)), "a" * 64, labels)
    assert (source_of(t4_study, path, T4).parts["plan"] == 0).all()

    def refusal(error: type[DeepGapError], study: Any = t4_study, device: Device = T4, **changes: str) -> str:
        with pytest.raises(error) as refused:
            source_of(study, path, device, **changes)
        assert str(path) in str(refused.value)
        assert "run Snakemake again." in str(refused.value)
        return str(refused.value)

    other = replace(T4, name="NVIDIA L4", compute_capability="8.9")
    assert "was built for compute_capability 7.5, but 8.9 is needed here" in refusal(EngineError, device=other)
    assert 'was built for libraries {"tensorrt": "11.4"}, but' in refusal(EngineError, version="11.5")
    mse = replace(t4_study, config=t4_study.config | {"calibration": CALIBRATION | {"method": "mse"}})
    assert "was built for recipe {" in refusal(EngineError, study=mse)
    write_answers(tmp_path / "reference.npz", np.zeros((1, 5)), "b" * 64, labels)
    assert "were made from different weights" in refusal(WeightsError)
    path.write_bytes(half(path.read_bytes()))
    assert "is damaged or not an engine" in refusal(EngineError)
    assert not (tmp_path / "cell.parquet").exists()


def test_no_engine_is_built_of_an_edited_graph(measured_int8, t4_study, tmp_path):
    graph = tmp_path / "resnet18.qdq.onnx"
    write_graph(graph, insert_qdq(read_graph(the(measured_int8, FP32)), read_cache(the(measured_int8, CACHE))))
    whole = graph.read_bytes()
    mode = parse_mode("cudnn-int8", t4_study.runtimes)

    def build() -> None:
        build_engine(
            runtime_name="cudnn",
            precision="int8",
            engine_recipe=Artifacts(t4_study).engine_recipe("T4", t4_study.model("resnet18"), mode, BATCH),
            graph=graph,
            timing_cache=tmp_path / "cudnn.timing",
            path=tmp_path / "resnet18.engine",
            device=T4,
            say=print,
        )

    # As a person does it, who thinks that a larger scale is better.
    edited = onnx.load(graph)
    scale = next(tensor for tensor in edited.graph.initializer if tensor.name == "relu_scale")
    scale.CopyFrom(onnx.numpy_helper.from_array(2 * onnx.numpy_helper.to_array(scale), scale.name))
    onnx.save(edited, graph)
    with pytest.raises(GraphError, match=rf"^The graph {graph} was edited or damaged after it was made; {DELETE}$"):
        build()
    graph.write_bytes(half(whole))
    with pytest.raises(GraphError, match=rf"^{graph} is damaged or not an ONNX model \(.+\); {DELETE}$"):
        build()
    assert sorted(path.name for path in tmp_path.iterdir()) == [graph.name]
