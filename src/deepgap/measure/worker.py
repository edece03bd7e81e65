"""A warm parent that forks one fresh process for each cell, so that imports happen once a run.

`WarmWorker` is started by the Snakefile when cells are to be measured. The parent imports torch and torchvision
and never touches CUDA; each request forks a child, which measures and exits, so a cell still has a process and a
CUDA context of its own. The parent lives as long as the pipe to its starter is open: however that process ends,
the operating system closes the pipe, and the parent ends with all its children. Without a worker,
`run_request` measures in the calling process with the same result.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepgap.errors import DeepGapError, first_line
from deepgap.text import tell

if TYPE_CHECKING:
    from deepgap.measure.source import Request

SOCKET_VARIABLE = "DEEPGAP_WORKER"
MAX_REQUEST_BYTES = 1 << 20
LOOK_S = 0.2
MAX_SENTENCE_BYTES = 1 << 14
FAILED, CRASHED = 1, 70


class WarmWorker:
    """The starter's end of the worker: keep it until no more cells are to be measured."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="deepgap-")
        self.folder = Path(self._temporary.name)
        """A private folder that lives as long as the worker."""
        address = self.folder / "socket"
        read_end, self._lifeline = os.pipe()
        # Bound here, so that a job may connect while the worker is still importing.
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            with _short(address) as short:
                listener.bind(short)
            listener.listen()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deepgap.measure.worker", str(listener.fileno()), str(read_end)],
                pass_fds=[listener.fileno(), read_end],
                stdin=subprocess.DEVNULL,
                # Whether there is a GPU is asked of NVML: asking CUDA would spoil it for the forked processes.
                env={**os.environ, SOCKET_VARIABLE: "", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"},
            )
        os.close(read_end)
        os.environ[SOCKET_VARIABLE] = str(address)

    def close(self) -> None:
        """End the worker and its children. Safe to call twice."""
        if self._lifeline < 0:
            return
        os.close(self._lifeline)
        self._lifeline = -1
        os.environ.pop(SOCKET_VARIABLE, None)
        self._process.kill()
        self._process.wait()
        self._temporary.cleanup()


def run_request(request: Mapping[str, Any]) -> None:
    """Measure the cell of a request through the warm worker when there is one, else in this process.

    Args:
        request: the fields of `measure.Request` as plain values; `gpu` holds those of the profile.

    Raises:
        DeepGapError: the cell could not be measured; the sentence says why.
        RuntimeError: what measures it failed in a way that it does not expect; its output has the traceback.
    """
    address = os.environ.get(SOCKET_VARIABLE)
    connection = _connect(address) if address else None
    if connection is None:
        _measure(request)
        return
    with connection:
        try:
            socket.send_fds(connection, [json.dumps(request).encode()], [sys.stderr.fileno()])
            # A thread of a library may take the signal of Ctrl-C, which does not wake this one: look now and then.
            while not select.select([connection], [], [], LOOK_S)[0]:
                pass
            status = connection.recv(1 + MAX_SENTENCE_BYTES)
        except ConnectionError:
            # Killed before it has read the request.
            status = b""
    if not status:
        raise DeepGapError("The process that measured the cell was killed; run Snakemake again to measure it.")
    sentence = status[1:].decode(errors="ignore")
    if status[0] == FAILED:
        raise DeepGapError(sentence)
    if status[0]:
        raise RuntimeError(f"The process that measured the cell failed: {sentence}")


@contextmanager
def _short(address: Path) -> Iterator[str]:
    """Another name of a socket: its address has 108 bytes at most, and a temporary folder's path may be longer."""
    folder = os.open(address.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{address.name}"
    finally:
        os.close(folder)


def _connect(address: str) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with _short(Path(address)) as short:
            connection.connect(short)
    except OSError:
        connection.close()
        return None
    return connection


def _measure(request: Mapping[str, Any]) -> None:
    from deepgap.measure.cell import measure_cell
    from deepgap.measure.readiness import explain

    try:
        measure_cell(_parse(request), say=tell)
    except RuntimeError as error:
        trouble = explain(error, request["gpu"]["key"])
        if trouble is None:
            raise
        raise trouble from error


def _parse(request: Mapping[str, Any]) -> Request:
    from deepgap.measure.source import Request
    from deepgap.study.gpus import Gpu

    files = {name: value and Path(value) for name, value in request.items() if name.endswith("_file")}
    return Request(**{**request, **files, "gpu": Gpu(**request["gpu"])})


def _serve(listener: socket.socket, lifeline: int) -> None:
    """Accept requests until the lifeline closes, then kill every process of this session."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    import torch
    import torchvision  # noqa: F401

    # A fork of a process whose OpenMP threads have run could hang in them.
    torch.set_num_threads(1)
    # Polars has idle threads in this process, and they hold no lock.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    while True:
        ready, _, _ = select.select([listener.fileno(), lifeline], [], [])
        if lifeline in ready:
            os.killpg(0, signal.SIGKILL)
        # A client that is gone, or a request that makes no sense, is no reason to end: others follow.
        with suppress(Exception):
            _answer(listener, lifeline)


def _answer(listener: socket.socket, lifeline: int) -> None:
    """Take one request and fork a process for it."""
    connection, _ = listener.accept()
    with connection:
        text, descriptors, _, _ = socket.recv_fds(connection, MAX_REQUEST_BYTES, 1)
        if not descriptors:
            return
        output = descriptors[0]
        try:
            request = json.loads(text)
            _preload(request)
            if os.fork() == 0:
                status = CRASHED
                try:
                    listener.close()
                    os.close(lifeline)
                    status = _child(connection, request, output)
                finally:
                    os._exit(status)
        except OSError as error:
            reason = (
                f"No process could be started for the cell ({error.strerror}); run Snakemake again to measure it."
            )
            connection.send(bytes([FAILED]) + reason.encode())
        finally:
            os.close(output)


def _preload(request: Mapping[str, Any]) -> None:
    """Read what the cell needs into this process. What fails here fails in the cell again, which says why."""
    from deepgap.measure.source import preload

    with suppress(Exception):
        preload(_parse(request))
    # Frozen objects are no work for the children's garbage collectors, and their memory stays shared.
    gc.collect()
    gc.freeze()


def _child(connection: socket.socket, request: Mapping[str, Any], output: int) -> int:
    """Measure one cell in the forked child and send one byte of status, and behind it the sentence of a failure."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(output, 2)
    os.dup2(output, 1)
    os.close(output)
    _die_with(connection)
    sentence = ""
    try:
        _measure(request)
        status = 0
    except DeepGapError as error:
        status, sentence = FAILED, str(error)
    except BaseException as error:
        traceback.print_exc()
        status, sentence = CRASHED, f"{type(error).__name__}: {first_line(error)}"
    connection.send(bytes([status]) + sentence.encode()[:MAX_SENTENCE_BYTES])
    return status


def _die_with(connection: socket.socket) -> None:
    """End this process when the client is gone, so that a cancelled job leaves nothing running."""

    def watch() -> None:
        poll = select.poll()
        poll.register(connection, select.POLLHUP)
        while True:
            for _, event in poll.poll():
                if event & select.POLLHUP:
                    os._exit(CRASHED)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
