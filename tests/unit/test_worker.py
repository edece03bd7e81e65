"""The client's end of the warm worker, when there is nobody at the other end any more."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest

from deepgap.errors import DeepGapError
from deepgap.measure.worker import SOCKET_VARIABLE, run_request

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
