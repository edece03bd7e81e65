"""Damaged, foreign and edited files are refused in one sentence, or tell exactly what they told before."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from PIL import Image

from deepgap.analyse.aggregate import aggregate, read_measurements
from deepgap.analyse.telemetry import summarise_telemetry
from deepgap.build.engine_file import Engine, read_engine, write_engine
from deepgap.build.graph_file import WEIGHTS_HASH, load_graph, read_weights_hash, write_graph
from deepgap.build.images.imagesets import calibration_images, describe_calibration, read_arrays, write_arrays
from deepgap.build.quantize.network import read_graph
from deepgap.build.quantize.placement import calibrated_tensors
from deepgap.cells.cell_file import FOOTER_KEY, read_cell
from deepgap.cells.telemetry_file import SAMPLES, read_telemetry, write_telemetry
from deepgap.errors import DeepGapError, ImageError
from deepgap.files import DIGEST_LIST, read_parquet
from deepgap.published.audit import audit
from deepgap.published.values import (
    device_memory,
    median_latencies,
    p99_latencies,
    pareto_pairs,
    read_published,
    speedup_ranges,
    sweep_batch_sizes,
    table1_peaks,
    temperature_ranges,
)
from deepgap.study.cell import recipe_digest
from tests.unit.bad_input import FACTOR, check_sentence
from tests.unit.synthetic import (
    GPUS,
    ROOT,
    synthetic_footer,
    synthetic_recipe,
    synthetic_rows,
    write_synthetic_cell,
)

NO_TIMES = [float("nan"), float("inf"), float("-inf"), -1.0, 0.0, None]


def damages(content: bytes, flips: int) -> list[bytes]:
    """The content cut at every kilobyte, and with single and several bytes changed at places drawn at random."""
    rng = random.Random(len(content))
    cut = [content[:size] for size in range(0, len(content), 1024)]
    flipped = []
    for number in range(flips * FACTOR):
        changed = bytearray(content)
        for _ in range(1 if number % 4 else 8):
            place = rng.randrange(len(content))
            changed[place] ^= 1 << rng.randrange(8) if number % 2 else rng.randrange(1, 256)
        if changed != content:
            flipped.append(bytes(changed))
    zeroed = [content[:start] + bytes(512) + content[start + 512 :] for start in range(0, len(content) - 512, 2048)]
    return [*cut, *flipped, *zeroed, content + b"\0", content + content, content[::-1]]


def refused(read: Callable[[Path], Any], path: Path, *parts: str) -> None:
    with pytest.raises(DeepGapError) as caught:
        read(path)
    check_sentence(caught.value, *parts)


def replace_file(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


# Cells


@pytest.fixture
def cell(tmp_path) -> Path:
    recipe = synthetic_recipe("H200", "resnet50", "eager-fp16", 8)
    rows = synthetic_rows([[2.0 + i / 100 for i in range(20)]] * 2, [1.9, 1.9])
    return write_synthetic_cell(tmp_path, rows, synthetic_footer(recipe))


def listed(path: Path) -> Path:
    """The same table without its seal, and with the list of digests that other programs' files have beside them."""
    frame, footer = read_parquet(path)
    frame.write_parquet(path, metadata=footer)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(DIGEST_LIST).write_text(f"{digest}  {path.name}\n", encoding="utf-8")
    return path


def samples_of(cell: Path) -> Path:
    """Telemetry of a cell, in a folder of its own."""
    path = cell.parent / "telemetry" / cell.name
    times = pl.DataFrame({"time_ms": [50.0 * n for n in range(40)]})
    samples = times.with_columns(
        pl.lit(None, kind).alias(name) for name, kind in SAMPLES.items() if name != "time_ms"
    ).select(SAMPLES.names())
    write_telemetry(path, samples, {"recipe": read_cell(cell)[1].recipe, "clock_zero_unix_s": 1.0})
    return path


def tables(path: Path) -> pl.DataFrame:
    return aggregate([path], [], GPUS, {})["runs"]


@pytest.mark.parametrize("source", ["sealed", "listed"])
def test_no_damage_of_a_cell_goes_unnoticed(cell, source):
    path = cell if source == "sealed" else listed(cell)
    content = path.read_bytes()
    assert tables(path).height
    for damaged in damages(content, 60):
        replace_file(path, damaged)
        refused(tables, path, path.name, "delete it and run")
    replace_file(path, content)
    assert tables(path).height


@pytest.mark.parametrize("source", ["sealed", "listed"])
def test_no_damage_of_telemetry_goes_unnoticed(cell, source):
    path = samples_of(cell) if source == "sealed" else listed(samples_of(cell))
    content = path.read_bytes()
    assert read_telemetry(path)[0].height
    for damaged in damages(content, 60):
        replace_file(path, damaged)
        refused(read_telemetry, path, path.name, "remove it")


def test_every_committed_measurement_has_a_seal_or_is_listed():
    """In a folder with others: sha256sum *.parquet > SHA256SUMS"""
    for file in sorted((ROOT / "results").glob("*/*/*.parquet")):
        if file.parent.name in ("cells", "telemetry"):
            digests = file.with_name(DIGEST_LIST)
            names = digests.read_text(encoding="utf-8").split() if digests.exists() else []
            assert b"deepgap sha256" in file.read_bytes() or file.name in names, file


def test_a_list_of_digests_that_is_none_is_refused(cell):
    path = listed(cell)
    path.with_name(DIGEST_LIST).write_text("no digest\n", encoding="utf-8")
    refused(read_cell, path, DIGEST_LIST, "line 1")


def test_a_cell_measured_anew_does_not_need_the_list(tmp_path, cell):
    cell.with_name(DIGEST_LIST).write_text(f"{'0' * 64}  {cell.name}\n", encoding="utf-8")
    assert read_cell(cell)[0].height


def rewrite(path: Path, rows: pl.DataFrame, change: Callable[[dict[str, Any]], Any] = lambda _: None) -> None:
    """Write the file as a program other than deepgap would: its footer changed, and without a seal."""
    content = json.loads(read_parquet(path)[1][FOOTER_KEY])
    change(content)
    rows.write_parquet(path, metadata={FOOTER_KEY: json.dumps(content)})


def test_cells_with_other_columns_are_refused(cell):
    rows, whole = read_cell(cell)[0], cell.read_bytes()
    wrong = [rows.drop(name) for name in rows.columns]
    wrong += [rows.rename({name: f"{name}_"}) for name in rows.columns]
    wrong += [rows.with_columns(pl.col(name).cast(pl.String).alias(name)) for name in rows.columns[3:]]
    wrong += [rows.with_columns(extra=1), rows.select(reversed(rows.columns)), rows.clear(), pl.DataFrame()]
    for frame in wrong:
        replace_file(cell, whole)
        rewrite(cell, frame)
        refused(read_cell, cell, cell.name)


def test_edited_rows_are_refused(cell):
    rows, whole = read_cell(cell)[0], cell.read_bytes()
    edits = [pl.lit(value, pl.Float64).alias(name) for name in rows.columns[6:9] for value in NO_TIMES]
    edits += [pl.col("device_ms") * 1.0001, pl.col("enqueue_ms") * 2, pl.col("calls") + 1, pl.lit("x").alias("arm")]
    edits += [pl.lit(2, pl.Int32).alias("run"), pl.lit("out_of_memory").alias("status")]
    for frame in [
        *(rows.with_columns(edit) for edit in edits),
        rows.head(5),
        rows.reverse(),
        pl.concat([rows, rows]),
    ]:
        replace_file(cell, whole)
        rewrite(cell, frame)
        refused(read_cell, cell, cell.name)


FOOTERS: list[Callable[[dict[str, Any]], Any]] = [
    *(lambda c, n=name: c.pop(n) for name in ("recipe", "format", "rows_sha256", "provenance", "observed")),
    *(lambda c, n=name, v=value: c.update({n: v}) for name in ("recipe", "rows_sha256", "format", "weights_sha256")
      for value in (None, [], 0, float("nan"))),
    *(lambda c, v=value: c.update(provenance=v) for value in (None, [], "x", {}, {"host": {}})),
    *(lambda c, v=value: c.update(observed=v) for value in (None, [], "x")),
    lambda c: c.update(more=1),
    lambda c: c["recipe"].update(batch_size=16),
    lambda c: c["recipe"].update(gpu="T4"),
    lambda c: c["recipe"].pop("protocol"),
    *(lambda c, n=name, v=value: c["observed"].update({n: v})
      for name in ("telemetry", "energy", "fidelity", "phases_s", "memory") for value in (None, [], "x", 1)),
    *(lambda c, n=name, v=value: c["observed"].update({n: v})
      for name in ("host_load", "intraop_threads", "first_call_ms", "cell_s")
      for value in ("x", [], {}, float("nan"))),
    lambda c: c["observed"]["energy"].update(joules_per_image=0),
    lambda c: c["provenance"].pop("measured_at"),
    lambda c: c["provenance"]["host"].update(cpu=[1]),
    lambda c: c["provenance"]["device"].update(ecc="yes"),
    lambda c: c["provenance"]["versions"].update(torch=2.11),
]  # fmt: skip


@pytest.mark.parametrize("change", range(len(FOOTERS)))
def test_edited_footers_are_refused(cell, change):
    """Also where no seal and no list protects them: another type, or what cannot be."""
    rewrite(cell, read_cell(cell)[0], FOOTERS[change])
    refused(tables, cell, cell.name)


@pytest.mark.parametrize("recipe", [{}, [], None, "x", {"protocol": {}}, {"gpu": "T9"}])
def test_a_recipe_that_is_none_is_refused_also_under_its_own_name(cell, recipe):
    path = cell.with_name(f"x.{recipe_digest(recipe)}.parquet")
    path.write_bytes(cell.read_bytes())
    rewrite(path, read_cell(cell)[0], lambda content: content.update(recipe=recipe))
    refused(tables, path, path.name)


def test_a_gpu_without_an_entry_and_a_cell_given_twice_are_refused(tmp_path, cell):
    recipe = synthetic_recipe("T9", "resnet50", "eager-fp16", 8)
    rows, footer = read_cell(cell)
    refused(tables, write_synthetic_cell(tmp_path, rows, replace(footer, recipe=recipe)), "T9", "gpus.yaml")
    refused(lambda path: read_measurements([path, path], GPUS, {}), cell, cell.name, "same sweep")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


OTHER_FILES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.touch(),
    "folder": lambda path: path.mkdir(),
    "text": lambda path: path.write_text("status,reason\nok,\n" * 100, encoding="utf-8"),
    "foreign parquet": lambda path: pl.DataFrame({"a": [1]}).write_parquet(path),
    "footer of a list": lambda path: pl.DataFrame({"a": [1]}).write_parquet(path, metadata={FOOTER_KEY: "[1]"}),
    "deep footer": lambda path: pl.DataFrame({"a": [1]}).write_parquet(path, metadata={FOOTER_KEY: "[" * 100_000}),
    "false seal": lambda path: pl.DataFrame({"a": [1]}).write_parquet(path, metadata={"seal": "x"}),
    "link to itself": link_to_itself,
    "missing": lambda path: None,
}


@pytest.mark.parametrize("kind", OTHER_FILES)
@pytest.mark.parametrize("read", [read_cell, read_telemetry], ids=["cell", "telemetry"])
def test_other_files_are_refused_by_name(tmp_path, kind, read):
    path = tmp_path / "resnet50_eager-fp16_b8_s1.0123456789ab.parquet"
    OTHER_FILES[kind](path)
    refused(read, path, path.name)


# Telemetry


def test_samples_that_belong_to_nothing_are_refused(cell):
    cells = read_measurements([cell], GPUS, {}).cells.frame()
    recipe, path = read_cell(cell)[1].recipe, samples_of(cell)
    samples = read_telemetry(path)[0]

    def summarise(path: Path) -> pl.DataFrame:
        return summarise_telemetry([path], cells)

    good = {"recipe": recipe, "clock_zero_unix_s": 1.0}
    write_telemetry(path, samples, good)
    assert summarise(path)["time_s"].to_list() == [0.0, 0.1, 1.0]
    wrong: list[dict[str, Any]] = [{}, {"recipe": recipe}, {"clock_zero_unix_s": 1.0}]
    wrong += [good | {"recipe": value} for value in (None, [], "x", {}, recipe | {"sweep": 2})]
    wrong += [good | {"clock_zero_unix_s": value} for value in (None, "x", [], True)]
    for about in wrong:
        write_telemetry(path, samples, about)
        refused(summarise, path, path.name)
    for value in (None, float("nan"), float("inf")):
        write_telemetry(path, samples.with_columns(pl.lit(value, pl.Float64).alias("time_ms")), good)
        refused(summarise, path, path.name, "without a time")
    for name in SAMPLES:
        for frame in (samples.drop(name), samples.rename({name: f"{name}_"}), samples.cast({name: pl.String})):
            write_telemetry(path, frame, good)
            refused(summarise, path, path.name)


# Images


def picture(mode: str = "RGB", size: tuple[int, int] = (80, 60)) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(noise).convert(mode)


def encoded(kind: str, image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def calibrate(folder: Path, count: int = 1) -> np.ndarray:
    """What a run does with a folder: name it by its content, and decode what is in it."""
    calibration = {"method": "max", "images": str(folder), "count": count}
    described = describe_calibration(calibration)
    batches = np.concatenate(list(calibration_images(calibration, lambda line: None).batches(64)))
    assert len(batches) == described["count"] and np.isfinite(batches).all()
    return batches


def bomb() -> bytes:
    """A PNG that says that it has 60,000 x 60,000 pixels."""
    content = bytearray(encoded("PNG", picture()))
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


GOOD_IMAGES: dict[str, Callable[[], bytes]] = {
    "cmyk.jpg": lambda: encoded("JPEG", picture("CMYK")),
    "sixteen bits.png": lambda: encoded("PNG", Image.fromarray(np.arange(4800, dtype=np.uint16).reshape(60, 80) * 9)),
    "animated.webp": lambda: encoded("WEBP", picture(), save_all=True, append_images=[picture("L").convert("RGB")]),
    "animated.png": lambda: encoded("PNG", picture(), save_all=True, append_images=[picture("L").convert("RGB")]),
    "palette.png": lambda: encoded("PNG", picture("P"), transparency=bytes(range(256))),
    "gray alpha.png": lambda: encoded("PNG", picture("LA")),
    "narrow.png": lambda: encoded("PNG", picture(size=(3200, 32))),
}
BAD_IMAGES: dict[str, Callable[[], bytes]] = {
    "empty.png": lambda: b"",
    "text.jpg": lambda: b"this is no image",
    "page.png": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "cut.jpg": lambda: encoded("JPEG", picture())[:-500],
    "cut.png": lambda: encoded("PNG", picture())[:-500],
    "one pixel.png": lambda: encoded("PNG", picture(size=(1, 1))),
    "black.png": lambda: encoded("PNG", Image.new("RGB", (80, 60))),
    "too narrow.png": lambda: encoded("PNG", picture(size=(20_000, 1))),
    "bomb.png": bomb,
    "floats.png": lambda: encoded("TIFF", Image.fromarray(np.full((9, 9), 1e6, np.float32))),
    "integers.png": lambda: encoded("TIFF", Image.fromarray(np.full((9, 9), 10**6, np.int32))),
}


@pytest.mark.parametrize("name", GOOD_IMAGES)
def test_odd_images_are_calibrated_on(tmp_path, name):
    (tmp_path / name).write_bytes(GOOD_IMAGES[name]())
    assert calibrate(tmp_path).shape == (1, 3, 64, 64)


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_bad_images_are_refused_by_name(tmp_path, name):
    (tmp_path / "good.png").write_bytes(encoded("PNG", picture()))
    (tmp_path / name).write_bytes(BAD_IMAGES[name]())
    refused(lambda folder: calibrate(folder, 2), tmp_path, name, "has 1 images to calibrate on", "remove or replace")


def test_a_damaged_image_is_refused_or_is_another_calibration(tmp_path):
    """A changed byte may decode; the folder's digest then names other graphs and cells."""
    path, calibration = tmp_path / "photo.jpg", {"method": "max", "images": str(tmp_path), "count": 1}
    content = encoded("JPEG", picture())
    path.write_bytes(content)
    before = describe_calibration(calibration)
    for damaged in damages(content, 25):
        path.write_bytes(damaged)
        assert describe_calibration(calibration) != before
        try:
            calibrate(tmp_path)
        except ImageError as error:
            check_sentence(error, path.name)


def test_odd_folders_are_calibrated_on_or_refused_by_name(tmp_path):
    folder = tmp_path / "photos"
    refused(calibrate, folder, "photos", "does not exist")
    folder.write_text("a file", encoding="utf-8")
    refused(calibrate, folder, "photos", "is a file")
    refused(calibrate, tmp_path / ("x" * 300), "xxx", "cannot be read")
    folder.unlink()
    folder.mkdir()
    refused(calibrate, folder, "photos", "holds no image")
    # A name that is not UTF-8, and one with a line break.
    for name in (b"\xff\xfe.png", b"a\nb.png"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(encoded("PNG", picture()))
    (folder / "folder.png").mkdir()
    assert len(calibrate(folder, 2)) == 2
    outside = tmp_path / "outside.png"
    outside.write_bytes(encoded("PNG", picture()))
    (folder / "link.png").symlink_to(outside)
    assert len(calibrate(folder, 3)) == 3
    outside.unlink()
    refused(calibrate, folder, "link.png", "cannot be read")
    (folder / "link.png").unlink()
    (folder / "link.png").symlink_to("link.png")
    refused(calibrate, folder, "link.png", "cannot be read")


# Graphs, engines and arrays


def small_model() -> onnx.ModelProto:
    weight = onnx.numpy_helper.from_array(np.random.default_rng(0).random((200, 10), np.float32), "weight")
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["input", "weight"], ["logits"], name="logits")],
        "main",
        [value("input", onnx.TensorProto.FLOAT, ["batch", 200])],
        [value("logits", onnx.TensorProto.FLOAT, ["batch", 10])],
        [weight],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], producer_name="deepgap")
    return model


def test_no_damage_of_a_graph_goes_unnoticed(tmp_path):
    path = tmp_path / "resnet50.onnx"
    model = small_model()
    onnx.helper.set_model_props(model, {WEIGHTS_HASH: "0" * 64})
    write_graph(path, model)
    content, before = path.read_bytes(), load_graph(path)
    for damaged in damages(content, 150):
        path.write_bytes(damaged)
        try:
            model = load_graph(path)
        except DeepGapError as error:
            check_sentence(error, path.name, "run Snakemake again")
        else:
            assert model.graph == before.graph and model.opset_import == before.opset_import


@pytest.mark.parametrize("read", [load_graph, read_graph])
@pytest.mark.parametrize("kind", ["text", "folder", "missing", "link to itself"])
def test_other_files_are_no_graphs(tmp_path, kind, read):
    path = tmp_path / "resnet50.onnx"
    OTHER_FILES[kind](path)
    refused(read, path, path.name)


def test_an_empty_and_a_foreign_graph_are_not_quantised(tmp_path):
    path = tmp_path / "resnet50.onnx"
    path.touch()
    refused(read_graph, path, path.name)
    foreign = small_model()
    foreign.producer_name = "another"
    path.write_bytes(foreign.SerializeToString())
    refused(lambda path: calibrated_tensors(read_graph(path)), path, "MatMul")
    refused(read_weights_hash, path, path.name, "of which weights")


def test_no_damage_of_an_engine_or_of_arrays_goes_unnoticed(tmp_path):
    engine, arrays = tmp_path / "a.engine", tmp_path / "images.npz"
    write_engine(engine, Engine({"plan": np.arange(3000, dtype=np.uint16)}), {"device": "x"})
    write_arrays(arrays, images=np.arange(3000, dtype=np.float16), labels=np.arange(9))

    def parts_of_engine(path: Path) -> list[np.ndarray]:
        return [read_engine(path, {"device": "x"}).parts["plan"]]

    for path, read in ((engine, parts_of_engine), (arrays, lambda path: read_arrays(path, "images", "labels"))):
        content, before = path.read_bytes(), read(path)
        for damaged in damages(content, 150):
            path.write_bytes(damaged)
            try:
                found = read(path)
            except DeepGapError as error:
                check_sentence(error, path.name)
            else:
                for one, other in zip(found, before, strict=True):
                    np.testing.assert_array_equal(one, other)


# Published numbers

PUBLISHED = ROOT / "data/published/deep_gap.csv"
TEXT = PUBLISHED.read_text(encoding="utf-8")
VIEWS = (
    table1_peaks, sweep_batch_sizes, median_latencies, p99_latencies, temperature_ranges, device_memory, pareto_pairs,
    speedup_ranges,
)  # fmt: skip


def read_all_views(path: Path) -> None:
    values = read_published(path)
    assert values["value"].drop_nulls().is_finite().all()
    for view in VIEWS:
        view(values)
    audit(values, GPUS)


@pytest.mark.parametrize("value", ["NaN", "nan", "inf", "-inf", "-5", "0", "x", "", "NA", "1e999", "0x10", "12,5"])
def test_a_published_value_that_is_none_is_refused(tmp_path, value):
    path = tmp_path / "deep_gap.csv"
    lines = PUBLISHED.read_text(encoding="utf-8").splitlines()
    place = lines[0].split(",").index("value")
    for row in (1, 100, 300):
        fields = lines[row].split(",")
        fields[place] = value
        path.write_text("\n".join([*lines[:row], ",".join(fields), *lines[row + 1 :]]) + "\n", encoding="utf-8")
        refused(read_all_views, path, path.name)


@pytest.mark.parametrize(
    "text",
    [
        "", "\n", "a,b\n1,2\n", "\0" * 100, TEXT.replace("quantity", "quality", 1),
        TEXT.split("\n", 1)[1], TEXT.replace(",value,", ",value,value,", 1),
    ],
)  # fmt: skip
def test_a_published_table_with_another_header_is_refused(tmp_path, text):
    path = tmp_path / "deep_gap.csv"
    path.write_text(text, encoding="utf-8")
    refused(read_all_views, path, path.name)


@pytest.mark.parametrize("batch", ["8x", "-1", "1.5", "9" * 30, "8-16"])
def test_a_published_batch_that_is_none_is_refused(tmp_path, batch):
    path = tmp_path / "deep_gap.csv"
    lines = PUBLISHED.read_text(encoding="utf-8").splitlines()
    place = lines[0].split(",").index("batch")
    row = next(row for row, line in enumerate(lines) if line.startswith("Table I,"))
    fields = lines[row].split(",")
    fields[place] = batch
    path.write_text("\n".join([*lines[:row], ",".join(fields), *lines[row + 1 :]]) + "\n", encoding="utf-8")
    refused(read_all_views, path, path.name, f"line {row + 1},", "belongs")


def test_a_folder_is_no_published_table(tmp_path):
    refused(read_all_views, tmp_path, str(tmp_path))


def test_damaged_published_numbers_can_be_used_or_are_refused(tmp_path):
    """What was transcribed wrong nobody can tell; but no damage ends in a traceback."""
    path = tmp_path / "deep_gap.csv"
    for damaged in damages(PUBLISHED.read_bytes(), 60):
        path.write_bytes(damaged)
        try:
            read_all_views(path)
        except DeepGapError as error:
            check_sentence(error)
