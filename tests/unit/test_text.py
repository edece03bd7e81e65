"""Text files are UTF-8, whatever the locale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deepgap.errors import DiskError
from deepgap.text import read_text, write_text
from tools.check_sources import without_encoding

WORDS = "1.4 × faster \N{MINUS SIGN} µs, Ψ\n"


def test_text_in_the_encoding_of_the_locale_is_found() -> None:
    assert without_encoding("path.read_text()\nrun(a, text=True)\npath.open('w')\npath.write_text(b)") == [1, 2, 3, 4]
    assert without_encoding("tarfile.open(file, 'w')\npath.open('w', encoding='utf-8')\npath.open('rb')") == []


def test_text_is_utf8_in_a_locale_that_is_not(tmp_path: Path) -> None:
    file = tmp_path / "out.txt"
    program = (
        "import sys; from pathlib import Path; from deepgap.text import read_text, write_text\n"
        f"assert not sys.flags.utf8_mode; file = Path({str(file)!r})\n"
        f"write_text(file, {WORDS!a}); assert read_text(file) == {WORDS!a}"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert file.read_bytes() == WORDS.encode("utf-8")


def test_windows_line_ends_and_a_byte_order_mark_are_tolerated(tmp_path: Path) -> None:
    file = tmp_path / "in.txt"
    file.write_bytes(b"\xef\xbb\xbf" + b"a\r\nb\r\n")
    assert read_text(file) == "a\nb\n"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "out.txt"
    write_text(file, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(file, "new \udc80")
    assert file.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_what_cannot_be_read_is_told_as_what_it_is(tmp_path: Path) -> None:
    file = tmp_path / "latin"
    file.write_bytes("µ".encode("latin-1"))
    with pytest.raises(DiskError, match=r"latin is not UTF-8 text \(byte 1\); save it as UTF-8\."):
        read_text(file)
    with pytest.raises(DiskError, match=r"cannot be read \(Is a directory\); a folder stands in its place"):
        read_text(tmp_path)


def test_a_script_prints_what_the_locale_cannot(tmp_path: Path) -> None:
    program = f"from deepgap.jobs.arguments import run_script\ndef main(job): print({WORDS!a}, end='')\n"
    program += "run_script(main, {'__doc__': ''})"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert run.stdout.decode("ascii") == WORDS.encode("ascii", errors="backslashreplace").decode("ascii")
