"""GPU profiles and the device check."""

from __future__ import annotations

import re

import pynvml
import pytest
import yaml

from deepgap.errors import ConfigError, DeviceError
from deepgap.measure import device as devices
from deepgap.measure.device import detect_gpu, matching_devices
from deepgap.measure.provenance import device_memory_used
from deepgap.study.gpus import Device, load_gpus
from tests.conftest import ROOT, read_yaml

SCHEMA = ROOT / "workflow/schemas/gpus.schema.yaml"


@pytest.fixture
def machine(monkeypatch):
    """Pretend that NVML lists these device names."""

    def having(*names: str) -> None:
        listed = [Device(index, f"GPU-{index}", name) for index, name in enumerate(names)]
        monkeypatch.setattr(devices, "list_devices", lambda: listed)

    return having


def test_every_fact_has_a_source(gpus):
    for gpu in gpus.values():
        facts = {"architecture", "compute_capability", "year", "sm_count", "max_sm_clock_mhz", "memory_gb"}
        facts |= {"memory_bandwidth_gb_s", "l2_cache_mib", "tdp_w", "peak_tops"}
        sourced = {fact for fields in gpu.sources.values() for fact in fields}
        known = {fact for fact in facts if getattr(gpu, fact) is not None}
        if gpu.device == "cuda":
            assert known <= sourced, gpu.key


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Tesla T4", "T4"),
        ("NVIDIA T4", "T4"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
    ],
)
def test_devices_are_recognised_by_name(gpus, machine, name, key):
    machine(name)
    assert detect_gpu(gpus) == key
    assert [device.name for device in matching_devices(gpus[key])] == [name]


def test_no_name_matches_two_profiles(gpus):
    names = ["Tesla T4", "NVIDIA L4", "NVIDIA L40", "NVIDIA H200", "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB"]
    for name in names:
        assert sum(bool(g.name_pattern and re.fullmatch(g.name_pattern, name)) for g in gpus.values()) <= 1


def test_a_machine_without_a_gpu_is_a_cpu(gpus, machine):
    machine()
    assert detect_gpu(gpus) == "CPU"
    with pytest.raises(DeviceError, match=r"gpu=L4 .* no NVIDIA GPU; .*renders"):
        matching_devices(gpus["L4"])


@pytest.fixture
def nvml(monkeypatch):
    """Pretend that NVML counts four GPUs and lets this process open those of `allowed`."""

    def having(allowed: set[int], visible: str | None) -> None:
        def handle(index: int) -> int:
            if index not in allowed:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NO_PERMISSION)
            return index

        answers = {
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlDeviceGetCount": lambda: 4,
            "nvmlDeviceGetHandleByIndex": handle,
            "nvmlDeviceGetCudaComputeCapability": lambda device: (9, 0),
            "nvmlDeviceGetUUID": lambda device: f"GPU-{device}",
            "nvmlDeviceGetName": lambda device: "NVIDIA H200",
        }
        for name, answer in answers.items():
            monkeypatch.setattr(pynvml, name, answer)
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return having


@pytest.mark.parametrize(
    ("allowed", "visible", "uuids"),
    [
        ({0, 1, 2, 3}, None, ["GPU-0", "GPU-1", "GPU-2", "GPU-3"]),
        ({0, 1, 2, 3}, "2", ["GPU-2"]),
        ({0, 1, 2, 3}, "GPU-1,3", ["GPU-1", "GPU-3"]),
        ({0, 1, 2, 3}, "", []),
        # As in a job of Slurm that constrains devices: CUDA's first device is NVML's third.
        ({2}, "0", ["GPU-2"]),
        ({2}, None, ["GPU-2"]),
        ({1, 3}, "0,1", ["GPU-1", "GPU-3"]),
    ],
)
def test_only_devices_that_this_process_may_use_are_listed(nvml, allowed, visible, uuids):
    nvml(allowed, visible)
    assert [device.uuid for device in devices.list_devices()] == uuids
    assert {f"GPU-{device.index}" for device in devices.list_devices()} == set(uuids)


def fail(*arguments: object) -> None:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)


def test_nvml_is_ended_as_often_as_it_was_started(monkeypatch):
    calls = []
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: calls.append("start"))
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: calls.append("end"))
    for query in ("nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"):
        monkeypatch.setattr(pynvml, query, fail)
    device = Device(0, "GPU-0", "NVIDIA H200")
    with pytest.raises(pynvml.NVMLError):
        devices.list_devices()
    with pytest.raises(pynvml.NVMLError):
        device_memory_used(device)
    assert devices.compute_processes(device) == 0
    assert calls == ["start", "end"] * 3


def test_without_a_driver_there_is_no_device_and_nothing_to_end(monkeypatch):
    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: pytest.fail("it was never started"))
    assert devices.list_devices() == []


def test_another_gpu_is_named(gpus, machine):
    machine("NVIDIA L40", "NVIDIA L40")
    with pytest.raises(DeviceError, match=r"this machine has NVIDIA L40;"):
        matching_devices(gpus["L4"])
    with pytest.raises(DeviceError, match=r"NVIDIA L40 has no entry in config/gpus\.yaml"):
        detect_gpu(gpus)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"tdp_w": -1}, "T4.tdp_w is -1"),
        ({"peak_tops": {"fp8": 1}}, "unknown key 'fp8'"),
        ({"name_pattern": "(T4"}, "T4.name_pattern is not a regular expression"),
        ({"memory_gb": "16 GB"}, "T4.memory_gb is '16 GB'"),
    ],
)
def test_a_bad_hardware_file_is_refused(tmp_path, change, part):
    entries = read_yaml(ROOT / "config/gpus.yaml")
    entries["T4"] |= change
    file = tmp_path / "gpus.yaml"
    file.write_text(yaml.safe_dump(entries), encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(part)):
        load_gpus(file, SCHEMA)


def test_broken_yaml_is_refused(tmp_path):
    file = tmp_path / "gpus.yaml"
    file.write_text("T4: [", encoding="utf-8")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_gpus(file, SCHEMA)


@pytest.mark.parametrize("name", ["gpus.yaml", "gpus.schema.yaml"])
def test_a_missing_hardware_file_or_schema_is_named(tmp_path, name):
    files = {"gpus.yaml": ROOT / "config/gpus.yaml", "gpus.schema.yaml": SCHEMA} | {name: tmp_path / name}
    with pytest.raises(ConfigError, match=rf"{name} cannot be read \(No such file or directory\); restore it\."):
        load_gpus(*files.values())


def test_a_name_with_bare_brackets_explains_itself(tmp_path):
    entries = read_yaml(ROOT / "config/gpus.yaml")
    entries["EPYCGenoa"]["name_pattern"] = "Intel(R) Xeon(R) Gold.*"
    file = tmp_path / "gpus.yaml"
    file.write_text(yaml.safe_dump(entries), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"brackets of \(R\) make a group and match no bracket") as caught:
        load_gpus(file, ROOT / "workflow/schemas/gpus.schema.yaml")
    assert str(caught.value).endswith(r"write 'Intel\(R\) Xeon\(R\) Gold.*'.")
    entries["EPYCGenoa"]["name_pattern"] = r"Intel\(R\) Xeon(\(R\))? Gold.*"
    file.write_text(yaml.safe_dump(entries), encoding="utf-8")
    assert load_gpus(file, ROOT / "workflow/schemas/gpus.schema.yaml")
