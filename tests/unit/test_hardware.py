"""GPU profiles and the device check."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pynvml
import pytest
import yaml

from deepgap.errors import ConfigError, DeviceError
from deepgap.measure import device as devices
from deepgap.measure import readiness, worker
from deepgap.measure.device import Sighting, detect_gpu, look_for_gpus, matching_devices, visible_devices
from deepgap.measure.provenance import device_memory_used
from deepgap.measure.readiness import check_versions
from deepgap.study.gpus import Device, load_gpus
from tests.conftest import ROOT, read_yaml

SCHEMA = ROOT / "workflow/schemas/gpus.schema.yaml"


@pytest.fixture
def machine(monkeypatch):
    """Pretend that NVML lists these device names."""

    def having(*names: str) -> None:
        listed = tuple(Device(index, f"GPU-{index}", name) for index, name in enumerate(names))
        seen = Sighting(listed) if listed else Sighting((), "no NVIDIA GPU", hardware=False)
        monkeypatch.setattr(devices, "look_for_gpus", lambda: seen)

    return having


def test_every_fact_has_a_source(gpus):
    for gpu in gpus.values():
        facts = {"architecture", "compute_capability", "year", "sm_count", "max_sm_clock_mhz", "memory_gb"}
        facts |= {"memory_bandwidth_gb_s", "l2_cache_mib", "tdp_w", "peak_tops", "fp16_accumulate_peak_tops"}
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
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA A30", "A30"),
        ("NVIDIA A40", "A40"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA GeForce RTX 3090", "RTX3090"),
        ("GeForce RTX 3090", "RTX3090"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA GeForce RTX 5090", "RTX5090"),
        ("NVIDIA RTX A6000", "RTXA6000"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA GH200 480GB", "GH200"),
    ],
)
def test_devices_are_recognised_by_name(gpus, machine, name, key):
    machine(name)
    assert detect_gpu(gpus) == key
    assert [device.name for device in matching_devices(gpus[key])] == [name]


def test_no_name_matches_two_profiles(gpus):
    names = ["Tesla T4", "NVIDIA L4", "NVIDIA L40", "NVIDIA H200", "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB"]
    others = [
        "NVIDIA A10G",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 3090 Ti",
    ]
    assert not [name for name in others if devices.key_of(Device(0, "GPU-0", name), gpus)]
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
        ({0, 1, 2, 3}, "GPU-1,GPU-3", ["GPU-1", "GPU-3"]),
        ({0, 1, 2, 3}, "3,1", ["GPU-3", "GPU-1"]),
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


A, B = "GPU-7f8d9e05-eb0a-d29c-5d37-7001680dc125", "GPU-ebaa5f83-a418-3146-76b9-9a720b372b8f"


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("0,1", [A, B]),
        ("1,0", [B, A]),
        ("0,0", []),
        ("1,7,0", [B]),
        ("7,0", []),
        ("1x,0", [B, A]),
        (" 1", [B]),
        ("0, 1", [A, B]),
        ("-1,0", []),
        ("0,-1,1", [A]),
        ("", []),
        (A, [A]),
        ("GPU-7f8d9,GPU-ebaa5", [A, B]),
        ("GPU-7f8d9,1", [A]),
        (f"1,{A}", [B]),
        ("GPU-", []),
        (f"{B},{B}", []),
        ("NoDevFiles", []),
        (f"{A},GPU-zzz,{B}", [A]),
        ("0x1", [A]),
        ("01", [B]),
        ("+1", [B]),
        ("GPU-7F8D9E05-EB0A-D29C-5D37-7001680DC125", [A]),
        (A.lower(), []),
        ("0,,1", [A]),
        ("1, ", [B]),
        (f" {A} , {B}", []),
        ("GPU-7", [A]),
        ("abc", []),
        ("1.5,0", [B, A]),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(wanted, chosen):
    """What CUDA itself (cuInit, cuDeviceGetUuid) answered on a host with these two H100."""
    two = [Device(0, A, "NVIDIA H100 80GB HBM3"), Device(1, B, "NVIDIA H100 80GB HBM3")]
    assert [device.uuid for device in visible_devices(wanted, two)] == chosen


def test_slices_are_refused_in_one_sentence(gpus, nvml, monkeypatch):
    nvml({0, 1}, "MIG-1b2c3d4e-0000-0000-0000-000000000000")
    for ask in (lambda: detect_gpu(gpus), lambda: matching_devices(gpus["H200"])):
        with pytest.raises(DeviceError, match=r"CUDA_VISIBLE_DEVICES is 'MIG-1b2c.*\(MIG\) are not measured"):
            ask()
    nvml({0}, None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMigMode", lambda device: [1, 1])
    with pytest.raises(DeviceError, match="GPU 0, NVIDIA H200, is cut into MIG slices, which are not measured"):
        detect_gpu(gpus)


def test_numbers_of_several_kinds_of_cards_are_refused_where_cuda_may_order_them_otherwise(monkeypatch):
    """CUDA puts the fastest first unless told otherwise (CUDA C++ Programming Guide, CUDA_DEVICE_ORDER)."""
    two = [Device(0, A, "NVIDIA T1000"), Device(1, B, "NVIDIA H100 80GB HBM3")]
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    with pytest.raises(DeviceError, match=r"several kinds .*set CUDA_DEVICE_ORDER=PCI_BUS_ID, or give UUIDs"):
        visible_devices("0", two)
    assert [device.uuid for device in visible_devices("1,0", two)] == [B, A]
    assert [device.uuid for device in visible_devices(B, two)] == [B]
    assert visible_devices("7", two) == ()
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert [device.uuid for device in visible_devices("0", two)] == [A]


@pytest.mark.parametrize(
    ("query", "answer", "said"),
    [
        ("nvmlDeviceGetVirtualizationMode", pynvml.NVML_GPU_VIRTUALIZATION_MODE_VGPU, "is a virtual GPU"),
        ("nvmlDeviceGetComputeMode", pynvml.NVML_COMPUTEMODE_PROHIBITED, "'sudo nvidia-smi -i 0 -c DEFAULT'"),
    ],
)
def test_a_gpu_that_cannot_be_measured_alone_or_at_all_is_told(gpus, nvml, monkeypatch, query, answer, said):
    nvml({0}, None)
    monkeypatch.setattr(pynvml, query, lambda device: answer)
    with pytest.raises(DeviceError, match=f"GPU 0, NVIDIA H200, .*{said}"):
        detect_gpu(gpus)
    monkeypatch.setattr(pynvml, query, lambda device: 0)
    assert detect_gpu(gpus) == "H200"


@pytest.mark.parametrize(
    ("capability", "of_driver", "said"),
    [
        ("9.0", (12, 4), r"driver 550\.54 has CUDA 12\.4 at most, but PyTorch here needs CUDA 13\.0"),
        ("7.0", (13, 0), r"has compute capability 7\.0, but the CUDA 13\.0 of PyTorch here begins at 7\.5"),
        ("7.5", (13, 0), None),
        ("9.0", (13, 1), None),
        ("9.0", (14, 0), None),
        ("9.0", None, None),
    ],
)
def test_a_driver_or_a_card_too_old_for_pytorch_is_told_before_anything_starts(capability, of_driver, said):
    device = Device(0, "GPU-0", "NVIDIA X", capability)
    if said is None:
        check_versions([device], (13, 0), of_driver, "550.54")
        return
    with pytest.raises(DeviceError, match=said):
        check_versions([device], (13, 0), of_driver, "550.54")


def test_a_card_that_another_process_has_for_itself_is_told(nvml, monkeypatch):
    nvml({0, 1}, None)
    both = devices.list_devices()
    monkeypatch.setattr(readiness.metadata, "version", lambda package: "13.0.96")
    monkeypatch.setattr(pynvml, "nvmlSystemGetCudaDriverVersion_v2", lambda: 13000)
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "580.95")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeMode", lambda device: pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", lambda device: [1] if device == 0 else [])
    readiness.check_ready(both)
    with pytest.raises(DeviceError, match=r"exclusive-process mode, and another process has it.*-i 0 -c DEFAULT"):
        readiness.check_ready(both[:1])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("CUDA error: uncorrectable ECC error encountered\nCompile with `TORCH_USE_CUDA_DSA`", "its memory failed"),
        ("Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized", "fabric manager"),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", "another process has the card"),
    ],
)
def test_a_card_that_fails_is_told_in_a_sentence_and_the_code_that_fails_is_not(monkeypatch, gpus, words, said):
    request = {"gpu": asdict(gpus["H100"])}
    monkeypatch.setattr(worker, "_parse", dict)

    def fail(text: str) -> Callable[..., None]:
        def measure(request: object, say: object) -> None:
            raise RuntimeError(text)

        return measure

    monkeypatch.setattr("deepgap.measure.cell.measure_cell", fail(words))
    with pytest.raises(DeviceError, match=rf"H100 cannot be used \(.*\): .*{said}") as caught:
        worker._measure(request)
    assert "TORCH_USE_CUDA_DSA" not in str(caught.value)
    monkeypatch.setattr("deepgap.measure.cell.measure_cell", fail("CUDA error: an illegal memory access"))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        worker._measure(request)


@pytest.mark.parametrize(("version", "said"), [("2.11.0+cpu", "is built without CUDA"), (None, "is not installed")])
def test_a_pytorch_that_cannot_use_a_gpu_is_told(monkeypatch, version, said):
    def installed(package: str) -> str:
        if version is None:
            raise readiness.metadata.PackageNotFoundError(package)
        return version

    monkeypatch.setattr(readiness.metadata, "version", installed)
    with pytest.raises(DeviceError, match=said):
        readiness.check_ready([Device(0, "GPU-0", "NVIDIA H200", "9.0")])


def test_gpus_that_the_environment_hides_are_told_and_no_cpu_is_measured(gpus, nvml):
    for visible in ("", "7", "GPU-zzz"):
        nvml({0, 1, 2, 3}, visible)
        for ask in (lambda: detect_gpu(gpus), lambda: matching_devices(gpus["H200"])):
            with pytest.raises(DeviceError, match=f"NVIDIA H200, hidden by .*CUDA_VISIBLE_DEVICES is '{visible}'"):
                ask()


def test_one_lost_gpu_does_not_hide_the_others(nvml, monkeypatch):
    nvml({0, 1, 2, 3}, None)

    def name(device: int) -> str:
        if device == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return "NVIDIA H200"

    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", name)
    assert [device.uuid for device in look_for_gpus().devices] == ["GPU-0", "GPU-2", "GPU-3"]
    nvml({1}, None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", name)
    assert "GPU 1 cannot be read (GPU is lost)" in (look_for_gpus().absent or "")


@pytest.fixture
def kernel(tmp_path):
    """A root folder whose PCI bus has a device of this vendor and class."""

    def having(vendor: str, kind: str) -> Path:
        folder = tmp_path / "sys/bus/pci/devices/0000:00:06.0"
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"{vendor}\n", encoding="utf-8")
        (folder / "class").write_text(f"{kind}\n", encoding="utf-8")
        return tmp_path

    return having


def without_driver(monkeypatch, error: int) -> None:
    def start() -> None:
        raise pynvml.NVMLError(error)

    monkeypatch.setattr(pynvml, "nvmlInit", start)


@pytest.mark.parametrize("error", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED])
def test_only_where_there_is_no_nvidia_hardware_is_the_processor_measured(gpus, monkeypatch, kernel, error):
    without_driver(monkeypatch, error)
    # A network card of NVIDIA's own number, and another's GPU.
    for vendor, kind in (("0x10de", "0x020000"), ("0x1002", "0x030000")):
        root = kernel(vendor, kind)
        seen = look_for_gpus(root)
        assert (seen.devices, seen.hardware) == ((), False)
        shutil.rmtree(root / "sys")
    monkeypatch.setattr(devices, "look_for_gpus", lambda: seen)
    assert detect_gpu(gpus) == "CPU"


@pytest.mark.parametrize("hidden", [None, "void"])
def test_a_gpu_without_a_driver_stops_make_with_the_reason(gpus, monkeypatch, kernel, hidden):
    without_driver(monkeypatch, pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    monkeypatch.delenv("NVIDIA_VISIBLE_DEVICES", raising=False)
    if hidden:
        monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", hidden)
    seen = look_for_gpus(kernel("0x10de", "0x030200"))
    monkeypatch.setattr(devices, "look_for_gpus", lambda: seen)
    with pytest.raises(DeviceError, match=r"has an NVIDIA GPU, but no driver .*gpu=CPU' measures its") as caught:
        detect_gpu(gpus)
    assert ("NVIDIA_VISIBLE_DEVICES is 'void'" in str(caught.value)) == (hidden is not None)


@pytest.mark.parametrize("place", ["dev/nvidia0", "proc/driver/nvidia/gpus/0000:00:06.0"])
def test_files_of_the_driver_are_hardware_too(monkeypatch, tmp_path, place):
    without_driver(monkeypatch, pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    (tmp_path / place).mkdir(parents=True)
    assert look_for_gpus(tmp_path).hardware


def test_a_driver_that_does_not_work_is_told_in_its_own_words(gpus, monkeypatch):
    without_driver(monkeypatch, pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    for ask in (lambda: detect_gpu(gpus), lambda: matching_devices(gpus["H200"])):
        with pytest.raises(DeviceError, match=r"an NVIDIA driver that does not work .*version mismatch\)"):
            ask()


def test_make_measures_nothing_where_the_gpu_cannot_be_seen(monkeypatch, tmp_path):
    """The command of `make`, with an NVML that fails as after an update of the driver."""
    (tmp_path / "pynvml.py").write_text(
        "from importlib.util import find_spec\nimport sys\n"
        f"sys.path.remove({str(tmp_path)!r}); del sys.modules['pynvml']\n"
        "import pynvml\nsys.modules['pynvml'] = pynvml\n"
        "def nvmlInit():\n    raise pynvml.NVMLError(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)\n"
        "pynvml.nvmlInit = nvmlInit\n",
        encoding="utf-8",
    )
    run = subprocess.run(
        [sys.executable, "workflow/scripts/detect_gpu.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}"},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.startswith("deep-gap: This machine has an NVIDIA driver that does not work")
    assert len(run.stderr.splitlines()) == 1


def fail(*arguments: object) -> None:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)


def test_nvml_is_ended_as_often_as_it_was_started(monkeypatch):
    calls = []
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: calls.append("start"))
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: calls.append("end"))
    for query in ("nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"):
        monkeypatch.setattr(pynvml, query, fail)
    device = Device(0, "GPU-0", "NVIDIA H200")
    assert "Unknown Error" in (look_for_gpus().absent or "")
    assert device_memory_used(device) is None
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
