"""GPU profiles, and the devices that are really in this machine."""

from __future__ import annotations

import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from deepgap.errors import ConfigError, DeviceError
from deepgap.schema import check_schema, read_yaml

LOCK_POLL_S = 0.02
SITE_PATTERN = r"[a-z][a-z0-9]{0,31}"
"""Of `site` in the config, where the schema has it again."""
RENDER_HINT = "'snakemake --cores 1' renders the paper from the data present without any device"


@dataclass(frozen=True)
class Gpu:
    """One entry of config/gpus.yaml, maybe at a site (`H200@lab2`); units are in the names, rates are dense."""

    key: str
    name_pattern: str | None
    architecture: str
    compute_capability: str | None
    year: int | None
    inference_card: bool
    sm_count: int | None
    max_sm_clock_mhz: float | None
    memory_gb: float | None
    memory_bandwidth_gb_s: float | None
    l2_cache_mib: float | None
    tdp_w: float | None
    peak_tops: Mapping[str, float | None]
    sources: Mapping[str, list[str]]
    price_eur_per_hour: float | None = None

    @property
    def kind(self) -> str:
        """The key of its entry, without the site."""
        return split_site(self.key)[0]

    @property
    def device(self) -> str:
        """PyTorch's device type: `cpu` for the host's processor, else `cuda`."""
        return "cpu" if self.compute_capability is None else "cuda"


@dataclass(frozen=True)
class Device:
    """A physical device, as NVML tells it. The host's processor has the index -1 and the UUID `cpu`."""

    index: int
    uuid: str
    name: str
    compute_capability: str | None = None


HOST = Device(index=-1, uuid="cpu", name="CPU")


def load_gpus(path: Path, schema: Path) -> dict[str, Gpu]:
    """Read gpus.yaml and check it against the file of its schema.

    Raises:
        ConfigError: a file is missing or not YAML, or gpus.yaml breaks its schema.
    """
    entries = read_yaml(path)
    check_schema(entries, read_yaml(schema), path.name)
    for key, entry in entries.items():
        if entry["name_pattern"] is None and entry["compute_capability"] is not None:
            raise ConfigError(f"{path.name}: {key}.name_pattern is null, which only a processor's may be; give one.")
        try:
            re.compile(entry["name_pattern"] or "")
        except (re.error, OverflowError, RecursionError) as error:
            raise ConfigError(f"{path.name}: {key}.name_pattern is not a regular expression: {error}.") from None
    return {key: Gpu(key=key, **entry) for key, entry in entries.items()}


def split_site(key: str) -> tuple[str, str | None]:
    """`H200@lab2` is the GPU H200 at the site lab2; without a site it is the project's own."""
    kind, _, site = key.partition("@")
    return kind, site or None


def in_config(key: str) -> str:
    """How a GPU, at a site or not, is asked for: what stands after `--config`."""
    kind, site = split_site(key)
    return f"gpu={kind} site={site}" if site else f"gpu={kind}"


def with_sites(gpus: Mapping[str, Gpu], keys: Iterable[str]) -> dict[str, Gpu]:
    """All profiles, and after each kind the same profile for those of `keys` that are that kind at a site."""
    sites = sorted({key for key in keys if "@" in key})
    profiles = {}
    for kind, gpu in gpus.items():
        profiles[kind] = gpu
        profiles |= {key: replace(gpu, key=key) for key in sites if split_site(key)[0] == kind}
    return profiles


def find_sites(results: Path, gpus: Mapping[str, Gpu]) -> list[str]:
    """The folders below `results` that hold a known GPU at a site.

    Raises:
        ConfigError: the name of such a folder has a site that is no name.
    """
    found = []
    for folder in sorted(results.glob("*@*/")):
        kind, site = split_site(folder.name)
        if kind not in gpus:
            continue
        if not re.fullmatch(SITE_PATTERN, site or ""):
            raise ConfigError(
                f"{folder} names the site '{site or ''}', which is not made of small letters and digits; "
                f"rename the folder, for example to {kind}@lab2."
            )
        found.append(folder.name)
    return found


@contextmanager
def nvml_session() -> Iterator[Any]:
    """NVML's module, started until the context ends. NVML counts its users, so contexts may lie in each other.

    Raises:
        pynvml.NVMLError: there is no driver.
    """
    import pynvml

    pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def list_devices() -> list[Device]:
    """The NVIDIA GPUs that NVML sees and CUDA_VISIBLE_DEVICES admits; empty without a driver."""
    import pynvml

    found = []
    with ExitStack() as stack:
        try:
            nvml = stack.enter_context(nvml_session())
        except pynvml.NVMLError:
            return []
        for index in range(nvml.nvmlDeviceGetCount()):
            # NVML counts devices that a cluster keeps from this job, and refuses to open them.
            with suppress(nvml.NVMLError_NoPermission):
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
                uuid, name = nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle)
                found.append(Device(index, _text(uuid), _text(name), f"{major}.{minor}"))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    wanted = [name.strip() for name in visible.split(",")]
    # CUDA numbers only the devices that may be opened.
    return [device for number, device in enumerate(found) if str(number) in wanted or device.uuid in wanted]


def cpu_name() -> str:
    """The name that the host's processor gives itself; its architecture where it gives none."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def keep_nvml_open() -> None:
    """Start NVML for as long as this process lives, where there is a driver.

    Starting it takes tens of milliseconds, and every query here starts and ends it; NVML counts its users, so all
    but the first start are then free.
    """
    import pynvml

    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()


def compute_processes(device: Device) -> int:
    """How many processes have a compute context on a GPU; 0 where the driver does not tell."""
    with nvml_session() as nvml:
        try:
            return len(nvml.nvmlDeviceGetComputeRunningProcesses(nvml.nvmlDeviceGetHandleByIndex(device.index)))
        except nvml.NVMLError:
            return 0


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def matching_devices(gpu: Gpu) -> list[Device]:
    """The devices of this machine that are this GPU.

    Raises:
        DeviceError: there is none; the sentence names what was found.
    """
    if gpu.device == "cpu":
        if gpu.name_pattern is None or re.fullmatch(gpu.name_pattern, cpu_name()):
            return [HOST]
        raise DeviceError(
            f"gpu={gpu.key} was asked for, but this machine's processor is {cpu_name()}; "
            "gpu=CPU measures any processor."
        )
    assert gpu.name_pattern is not None
    devices = list_devices()
    matches = [device for device in devices if re.fullmatch(gpu.name_pattern, device.name)]
    if matches:
        return matches
    names = ", ".join(sorted({device.name for device in devices})) or "no NVIDIA GPU"
    raise DeviceError(f"gpu={gpu.key} was asked for, but this machine has {names}; {RENDER_HINT}.")


def detect_gpu(gpus: Mapping[str, Gpu]) -> str:
    """The key of this machine's device: its first NVIDIA GPU, or CPU when there is none.

    Raises:
        DeviceError: the device has no entry in gpus.yaml.
    """
    devices = list_devices()
    for device in devices:
        for key, gpu in gpus.items():
            if gpu.device == "cuda" and gpu.name_pattern and re.fullmatch(gpu.name_pattern, device.name):
                return key
    if devices:
        raise DeviceError(
            f"This machine's {devices[0].name} has no entry in config/gpus.yaml; "
            "add one whose name_pattern matches that name."
        )
    processors = [key for key, gpu in gpus.items() if gpu.device == "cpu" and gpu.name_pattern is None]
    if not processors:
        raise DeviceError(
            "This machine has no NVIDIA GPU, and config/gpus.yaml has no entry for any processor, whose "
            "compute_capability and name_pattern are null; add one."
        )
    return processors[0]


_held: list[FileLock] = []


def take_device(gpu: Gpu, say: Callable[[str], None]) -> Device:
    """Lock the first free device that is this GPU until this process ends; wait when all are taken, and say so.

    The lock is a file in the system's temporary folder named by the device's UUID, so it holds between all
    workflows of a machine. The operating system frees it when the process is gone, and its CUDA context with it:
    freed any earlier, the next process would still find that context's memory in use.

    Raises:
        DeviceError: this machine has no such device.
    """
    devices = matching_devices(gpu)
    locks = [FileLock(Path(tempfile.gettempdir()) / f"deepgap-{device.uuid}.lock", mode=0o666) for device in devices]
    said = False
    while True:
        for device, lock in zip(devices, locks, strict=True):
            if _try_lock(lock):
                _held.append(lock)
                return device
        if not said:
            name = devices[0].name if len(devices) == 1 else f"Each of the {len(devices)} {devices[0].name}"
            say(f"{name} is being measured; waiting until one is free.")
            said = True
        time.sleep(LOCK_POLL_S)


def _try_lock(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def host_threads() -> int:
    """The cores this process may use. Set explicitly, because Snakemake exports OMP_NUM_THREADS to its jobs."""
    return len(os.sched_getaffinity(0))
