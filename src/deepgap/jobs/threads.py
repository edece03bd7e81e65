"""How a build uses the host's processor."""

from __future__ import annotations

import os

from deepgap.host import host_threads


def use_all_threads() -> None:
    """Let PyTorch compute on all cores of this process, with threads that sleep while they wait.

    Threads that spin cost nothing on an idle host, and several times the work itself where others want its cores. It
    is for what is built, never for what is timed. PyTorch's OpenMP reads the setting when it is loaded, so call this
    before anything imports PyTorch.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    torch.set_num_threads(host_threads())
