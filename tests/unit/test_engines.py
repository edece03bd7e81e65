"""Engine files give back what was written, and refuse everything else in a sentence."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepgap.build import engine_file as engines
from deepgap.build.engine_file import HEADER, Engine, read_engine, write_engine
from deepgap.errors import DiskError, EngineError

IDENTITY = {"gpu": "Tesla T4", "compute_capability": [7, 5], "libraries": {"triton": "3.8.0"}}
ENGINE = Engine(
    {
        "weight:conv1": np.arange(-6, 6, dtype=np.int8).reshape(2, 2, 3),
        "multiplier:conv1": np.array([0.5, 1e-30], np.float32),
        "plan:0123": np.frombuffer(b"\x00plan\xff", np.uint8),
    },
    {"batches": {"1": {"conv1": "cudnn"}}, "input_scale": 0.1},
)


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "engine.npz"
    write_engine(path, ENGINE, IDENTITY)
    return path


def equal(found: Engine, expected: Engine) -> bool:
    return (
        found.about == expected.about
        and found.parts.keys() == expected.parts.keys()
        and all(
            found.parts[name].dtype == part.dtype and np.array_equal(found.parts[name], part)
            for name, part in expected.parts.items()
        )
    )


def sentence(path: Path, identity: dict[str, object] = IDENTITY) -> str:
    """How an engine is refused: one line that names the file and says what to do."""
    with pytest.raises(EngineError) as refused:
        read_engine(path, identity)
    text = str(refused.value)
    assert str(path) in text
    assert text.endswith(".")
    assert "run Snakemake" in text
    return text


def test_an_engine_comes_back_as_it_was(path):
    found = read_engine(path, IDENTITY)
    assert equal(found, ENGINE)
    assert HEADER not in found.parts


@settings(max_examples=25, deadline=None)
@given(
    parts=st.dictionaries(
        st.text("abc:.0_", min_size=1, max_size=8).filter(lambda name: name not in ("", ".", "..")),
        hnp.arrays(
            st.sampled_from([np.int8, np.uint8, np.float16, np.float32]),
            hnp.array_shapes(min_dims=0, min_side=0, max_side=4),
            elements={"allow_nan": False},
        ),
        max_size=3,
    ),
    about=st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text(), max_size=3),
)
def test_any_parts_come_back_as_they_were(tmp_path_factory, parts, about):
    path = tmp_path_factory.mktemp("engines") / "engine.npz"
    write_engine(path, Engine(parts, about), IDENTITY)
    assert equal(read_engine(path, IDENTITY), Engine(parts, about))


def test_the_folder_is_made_and_nothing_else_is_left_in_it(tmp_path):
    path = tmp_path / "gpu/model/engine.npz"
    write_engine(path, ENGINE, IDENTITY)
    write_engine(path, Engine({}, {"second": True}), IDENTITY)
    assert [file.name for file in path.parent.iterdir()] == ["engine.npz"]
    assert equal(read_engine(path, IDENTITY), Engine({}, {"second": True}))


def test_the_identity_may_hold_what_json_changes(tmp_path):
    path = tmp_path / "engine.npz"
    identity = {"batch_sizes": (1, 8), "options": {1: "one"}}
    write_engine(path, ENGINE, identity)
    assert equal(read_engine(path, identity), ENGINE)


def test_equal_engines_are_equal_files_but_for_the_time(path, tmp_path):
    """The header does not depend on the order in which the identity was put together."""
    other = tmp_path / "other.npz"
    write_engine(other, ENGINE, dict(reversed(IDENTITY.items())))
    with zipfile.ZipFile(path) as first, zipfile.ZipFile(other) as second:
        assert first.namelist() == second.namelist()
        assert [first.read(name) for name in first.namelist()] == [second.read(name) for name in second.namelist()]


def test_a_missing_engine_is_to_be_built(tmp_path):
    assert "does not exist" in sentence(tmp_path / "engine.npz")


@pytest.mark.parametrize("share", [0, 0.01, 0.2, 0.5, 0.9, 0.999])
def test_a_truncated_engine_is_damaged(path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "damaged or not an engine" in sentence(path)


def test_a_changed_byte_of_an_array_is_found(path):
    whole = path.read_bytes()
    for value in (ENGINE.parts["weight:conv1"].tobytes(), b"\x00plan\xff", b"Tesla T4"):
        place = whole.index(value)
        for changed in (place, place + len(value) - 1):
            path.write_bytes(whole[:changed] + bytes([whole[changed] ^ 4]) + whole[changed + 1 :])
            assert "damaged or not an engine" in sentence(path)
    path.write_bytes(whole)
    assert equal(read_engine(path, IDENTITY), ENGINE)


@pytest.mark.filterwarnings("ignore")
def test_a_changed_byte_anywhere_is_found_or_changes_nothing(path):
    """Every byte: those of the archive's directory too, in which not all are checked by anything."""
    whole = path.read_bytes()
    wrong = set()
    for place in range(len(whole)):
        for mask in (0x01, 0x40, 0xFF):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :])
            try:
                if not equal(read_engine(path, IDENTITY), ENGINE):
                    wrong.add("another engine was read")
            except EngineError:
                continue
            except Exception as error:
                wrong.add(f"{type(error).__name__}: {error}")
    assert wrong == set()


@pytest.mark.parametrize(
    "content",
    [b"", b"not an engine", pickle.dumps({"header": 1}), b"PK\x03\x04" + bytes(40)],
    ids=["empty", "text", "pickle", "zip"],
)
def test_a_foreign_file_is_not_an_engine(path, content):
    path.write_bytes(content)
    assert "damaged or not an engine" in sentence(path)


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"\xff\xfe",
        b"[]",
        b"1",
        b"null",
        b"{}",
        b'{"identity": {}}',
        b'{"identity": null, "about": {}}',
    ],
)
def test_an_archive_without_a_proper_header_is_not_an_engine(path, header):
    arrays = {"weights": np.zeros(3)} | ({} if header is None else {HEADER: np.frombuffer(header, np.uint8)})
    with path.open("wb") as file:
        np.savez(file, **arrays)
    assert "damaged or not an engine" in sentence(path)


def test_a_single_array_is_not_an_engine(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    assert "damaged or not an engine" in sentence(path)


def test_a_folder_is_not_an_engine(tmp_path):
    with pytest.raises(DiskError, match=r"cannot be read \(Is a directory\); a folder stands in its place"):
        read_engine(tmp_path, IDENTITY)


class Trap:
    """Sets a mark when it is unpickled."""

    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


def test_a_pickled_array_is_refused_and_never_loaded(path):
    header = json.dumps({"identity": IDENTITY, "about": {}}).encode()
    with path.open("wb") as file:
        np.savez(file, **{HEADER: np.frombuffer(header, np.uint8), "weights": np.array([Trap()], object)})
    with np.load(path, allow_pickle=True) as archive:
        archive["weights"]
    assert Trap.sprung
    Trap.sprung = False
    assert "damaged or not an engine" in sentence(path)
    assert not Trap.sprung


def test_an_array_that_would_be_pickled_is_not_written(path):
    with pytest.raises(ValueError, match="allow_pickle"):
        write_engine(path, Engine({"weights": np.array([Trap()], object)}), IDENTITY)
    assert equal(read_engine(path, IDENTITY), ENGINE)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"gpu": "NVIDIA L4"}, "gpu Tesla T4, but NVIDIA L4 is needed here"),
        ({"compute_capability": [8, 9], "gpu": "NVIDIA L4"}, "compute_capability [7, 5], but [8, 9]"),
        ({"libraries": {"triton": "3.9.0"}}, 'libraries {"triton": "3.8.0"}, but {"triton": "3.9.0"}'),
        ({"driver": "580.1"}, "driver null, but 580.1"),
        ({"gpu": None}, "gpu Tesla T4, but null"),
    ],
)
def test_another_identity_is_refused_by_its_first_difference(path, change, named):
    before = path.read_bytes()
    text = sentence(path, IDENTITY | change)
    assert f"was built for {named}" in text
    assert text.count("was built for") == 1
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_identity_with_less_is_another_identity(path):
    less = {key: value for key, value in IDENTITY.items() if key != "gpu"}
    assert "was built for gpu Tesla T4, but null is needed here" in sentence(path, less)


class Unwritable:
    def __array__(self, dtype=None, copy=None):
        raise OSError("no space left on device")


def test_a_failed_write_leaves_the_old_engine_and_no_partial_file(path, monkeypatch):
    with pytest.raises(OSError, match="no space"):
        write_engine(path, Engine({"first": np.zeros(1000), "second": Unwritable()}), IDENTITY)
    assert [file.name for file in path.parent.iterdir()] == [path.name]

    def refuse(*_: object) -> None:
        raise PermissionError("refused")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError):
        write_engine(path, Engine({}), IDENTITY)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert equal(read_engine(path, IDENTITY), ENGINE)


def test_an_engine_appears_only_when_it_is_whole(path, monkeypatch):
    """While arrays are written, readers still find the engine of before."""
    seen = []
    savez = engines.np.savez

    def watch(file, **arrays):
        savez(file, **arrays)
        seen.append(equal(read_engine(path, IDENTITY), ENGINE))

    monkeypatch.setattr(engines.np, "savez", watch)
    write_engine(path, Engine({}, {"new": 1}), IDENTITY)
    assert seen == [True]
    assert read_engine(path, IDENTITY).about == {"new": 1}
