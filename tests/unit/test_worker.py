"""The warm worker and its client: who is killed, what makes no sense, and where the socket is."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import tempfile

import pytest

from deepgap.errors import DeepGapError
from deepgap.measure import worker as worker_module
from deepgap.measure.worker import SOCKET_VARIABLE, WarmWorker, _connect, _preload, run_request

SERVER = """
import socket, sys, time

listener = socket.socket(fileno=int(sys.argv[1]))
if sys.argv[2] == "connected":
    connection, _ = listener.accept()
if sys.argv[2] == "has read":
    connection, _ = listener.accept()
    socket.recv_fds(connection, 1 << 20, 1)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("state", ["is busy", "connected", "has read"])
def test_a_worker_that_is_killed_is_told_in_a_sentence(tmp_path, monkeypatch, state):
    """While it imports, when it has just been asked, and when it was about to fork."""
    address = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen()
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(listener.fileno()), state], pass_fds=[listener.fileno()]
        )
    monkeypatch.setenv(SOCKET_VARIABLE, address)
    killer = subprocess.Popen(["sh", "-c", f"sleep 1; kill -KILL {server.pid}"])
    with pytest.raises(DeepGapError, match="was killed; run Snakemake again"):
        run_request({})
    assert server.wait(timeout=5) == -signal.SIGKILL
    killer.wait()


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """A worker in a temporary folder with a path much longer than an address of a socket may be."""
    folder = tmp_path / ("a long name" * 10) / ("another" * 10)
    folder.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv(SOCKET_VARIABLE, "")
    worker = WarmWorker()
    yield worker
    worker.close()
    assert list(folder.glob("deepgap-*")) == []


def test_a_worker_outlives_what_makes_no_sense_and_clients_that_are_gone(worker, monkeypatch):
    address = os.environ[SOCKET_VARIABLE]
    assert len(address) > 108
    for _ in range(2):
        # Not a cell's request: reading ahead fails, and the cell fails in a process of its own, which says why.
        with pytest.raises(RuntimeError, match="measured the cell failed: KeyError: 'gpu'"):
            run_request({"recipe": {}})
        for message in (b"", b"{", b"[]"):
            connection = _connect(address)
            assert connection is not None
            if message:
                socket.send_fds(connection, [message], [2])
            connection.close()
    assert worker._process.poll() is None


@pytest.mark.parametrize("error", [RuntimeError("a broken file"), MemoryError(), KeyError("runtime")])
def test_reading_ahead_may_fail_in_any_way(monkeypatch, error):
    def fail(request: object) -> None:
        raise error

    monkeypatch.setattr("deepgap.measure.source.preload", fail)
    monkeypatch.setattr(worker_module, "_parse", lambda request: request)
    _preload({})
    gc.unfreeze()
