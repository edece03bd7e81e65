"""What all tests share."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from deepgap.measure.locks import FOLDER_VARIABLE, release_all
from deepgap.study.gpus import Gpu, load_gpus

# Two workers on two cores: threads that spin while they wait would take the cores from the other one. OpenMP reads it
# when PyTorch is loaded, here and in the processes that tests start.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ROOT = Path(__file__).resolve().parent.parent


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def eventually(condition: Callable[[], object], seconds: float = 120) -> bool:
    """Whether something becomes true, however long the machine takes: the limit only ends a test that would fail."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


def runs(process: psutil.Process) -> bool:
    """Whether a process is there and not only its exit status, which waits for its parent, or for a slow init."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--whole-matrix", action="store_true", help="all rows of the staleness matrix (make test-all)")


@pytest.fixture(scope="session")
def config() -> dict[str, Any]:
    """The project's own config.yaml; copy it before changing it."""
    return read_yaml(ROOT / "config/config.yaml")


@pytest.fixture(scope="session")
def config_schema() -> dict[str, Any]:
    return read_yaml(ROOT / "workflow/schemas/config.schema.yaml")


@pytest.fixture(scope="session")
def gpus() -> dict[str, Gpu]:
    return load_gpus(ROOT / "config/gpus.yaml", ROOT / "workflow/schemas/gpus.schema.yaml")


@pytest.fixture(scope="session", autouse=True)
def own_locks(tmp_path_factory):
    """Each worker of a test run has locks of its own, and waits for no other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(tmp_path_factory.mktemp("locks")))
        yield


@pytest.fixture(autouse=True)
def no_lock_left():
    """A process keeps its locks until it ends; that of the tests goes on to the next one."""
    yield
    release_all()


@pytest.fixture(autouse=True)
def default_precision():
    """PyTorch's own settings of TF32 after each test: with others, torch.export refuses to work in this process."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.backends.cudnn.conv.fp32_precision = "tf32"
        torch.backends.cudnn.rnn.fp32_precision = "tf32"
        torch.backends.cuda.matmul.fp32_precision = "none"
