"""What cannot be read is not damaged: no advice to delete, wherever a file is read."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deepgap.analyse.check import check_results
from deepgap.analyse.schemas import FAMILIES
from deepgap.analyse.store import read_frame
from deepgap.build.engine_file import read_engine
from deepgap.build.graph_file import load_graph
from deepgap.build.images.imagesets import read_arrays
from deepgap.build.images.photos import digest_photos, list_photos
from deepgap.build.quantize.cache import read_cache
from deepgap.cells.cell_file import read_cell
from deepgap.cells.telemetry_file import read_telemetry
from deepgap.errors import DeepGapError, DiskError
from deepgap.files import put_in_place
from deepgap.published.values import read_published
from deepgap.study.gpus import load_gpus
from deepgap.study.schema import read_yaml
from deepgap.text import read_text
from deepgap.weights import load_model
from tests.conftest import ROOT
from tests.unit.synthetic import GPUS, synthetic_footer, synthetic_recipe, synthetic_rows, write_synthetic_cell

READERS: dict[str, Callable[[Path], Any]] = {
    "cell": read_cell,
    "telemetry": read_telemetry,
    "table": lambda path: read_frame(path, FAMILIES),
    "published": read_published,
    "yaml": read_yaml,
    "text": read_text,
    "graph": load_graph,
    "cache": read_cache,
    "arrays": lambda path: read_arrays(path, "images"),
    "engine": lambda path: read_engine(path, {}),
    "weights": lambda path: load_model("resnet18", path),
    "image": lambda path: digest_photos([path], path.parent),
}
ERRORS = (errno.EACCES, errno.EIO, errno.ESTALE)


@pytest.fixture
def refuse_to_open(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Opening any `secret` fails with an error number, also for root, whom no permission stops."""
    opened = open

    def make(number: int) -> None:
        def fail(file: Any, *arguments: Any, **named: Any) -> Any:
            if str(file).endswith("secret"):
                raise OSError(number, os.strerror(number), str(file))
            return opened(file, *arguments, **named)

        monkeypatch.setattr("builtins.open", fail)
        monkeypatch.setattr("io.open", fail)

    return make


@pytest.mark.parametrize("number", ERRORS, ids=[errno.errorcode[number] for number in ERRORS])
@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_cannot_be_read_is_not_told_to_be_deleted(
    tmp_path: Path, refuse_to_open: Callable[[int], None], reader: str, number: int
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"whatever")
    refuse_to_open(number)
    with pytest.raises(DeepGapError) as caught:
        READERS[reader](path)
    sentence = str(caught.value)
    assert f"{path} cannot be read ({os.strerror(number)});" in sentence
    for advice in ("delete", "damaged", "remove", "restore"):
        assert advice not in sentence


def test_a_file_that_may_not_be_written_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder/file"

    def fail(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path.parent))

    monkeypatch.setattr(Path, "mkdir", fail)
    with (
        pytest.raises(DiskError, match=r"could not be written \(Permission denied\); its owner can"),
        put_in_place(path),
    ):
        raise AssertionError


def test_an_error_about_another_file_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), put_in_place(tmp_path / "file"):
        (tmp_path / "other/gone").read_bytes()


def add(folder: Path) -> Path:
    recipe = synthetic_recipe("H200", "resnet18", "eager-fp16", 8)
    rows = synthetic_rows([[2.0] * 3] * 2, [2.0] * 2)
    return write_synthetic_cell(folder / "cells", rows, synthetic_footer(recipe))


def refused(results: Path) -> str:
    report = check_results(results, GPUS)
    assert len(report.refused) == 1
    return report.refused[0]


def test_a_pointer_of_git_lfs_names_the_command(tmp_path: Path) -> None:
    add(tmp_path / "H200").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 8\n")
    assert "is a Git LFS pointer and not the file itself; run 'git lfs pull'." in refused(tmp_path)


@pytest.mark.parametrize("copied", ["{} (1)", "{}(2)", "{} - Copy", "{} copy 2"])
def test_a_copy_names_its_original(tmp_path: Path, copied: str) -> None:
    file = add(tmp_path / "H200")
    copy = file.with_stem(copied.format(file.stem))
    copy.write_bytes(file.read_bytes())
    assert f"{copy.name} is a copy of {file.name}; remove it." in refused(tmp_path)
    file.unlink()
    assert f"no original is beside it; rename it to {file.name}." in refused(tmp_path)


def test_a_folder_in_small_letters_names_the_gpu(tmp_path: Path) -> None:
    add(tmp_path / "h200")
    assert refused(tmp_path).endswith("config/gpus.yaml writes H200; rename the folder to H200.")
    (tmp_path / "h200").rename(tmp_path / "h200@lab2")
    assert refused(tmp_path).endswith("rename the folder to H200@lab2.")


def test_what_file_managers_leave_is_no_cell_and_no_image(tmp_path: Path) -> None:
    file = add(tmp_path / "H200")
    for name in (f"._{file.name}", ".DS_Store", "Thumbs.db"):
        file.with_name(name).write_bytes(b"\0\5\26\7")
    report = check_results(tmp_path, GPUS)
    assert (report.refused, report.cells.height) == ([], 1)
    for name in ("._a.jpg", "a.jpg"):
        (tmp_path / name).write_bytes(b"x")
    assert list_photos(tmp_path) == [tmp_path / "a.jpg"]


def test_windows_line_ends_change_nothing(tmp_path: Path) -> None:
    for name in ("config/gpus.yaml", "workflow/schemas/gpus.schema.yaml", "data/published/deep_gap.csv"):
        (tmp_path / Path(name).name).write_bytes(
            (ROOT / name).read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        )
    there = load_gpus(tmp_path / "gpus.yaml", tmp_path / "gpus.schema.yaml")
    assert there == load_gpus(ROOT / "config/gpus.yaml", ROOT / "workflow/schemas/gpus.schema.yaml")
    published = read_published(tmp_path / "deep_gap.csv")
    assert published.equals(read_published(ROOT / "data/published/deep_gap.csv"))
