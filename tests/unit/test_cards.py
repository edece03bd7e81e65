"""Cards that config/gpus.yaml does not have: their keys, what they tell, and how they come from somebody else."""

from __future__ import annotations

import runpy
import shutil
import sys
import tarfile
from pathlib import Path

import pynvml
import pytest
import yaml

from deepgap.cells.bounds import check_bounds
from deepgap.errors import CellError, ConfigError
from deepgap.measure import card as cards
from deepgap.measure import device as devices
from deepgap.measure.card import introduce
from deepgap.measure.device import Sighting, detect_gpu
from deepgap.study.cards import CARD_FILE, draft_entry, make_key, note_card
from deepgap.study.gpus import Device, find_cards, load_gpus
from tests.conftest import ROOT, read_yaml
from tests.unit.synthetic import (
    card_name,
    synthetic_footer,
    synthetic_recipe,
    synthetic_rows,
    write_synthetic_cell,
)

GPUS_FILE, SCHEMA = ROOT / "config/gpus.yaml", ROOT / "workflow/schemas/gpus.schema.yaml"
NAME, KEY = "NVIDIA GeForce RTX 4080 SUPER", "RTX4080SUPER"
FACTS = {"name": NAME, "compute_capability": "8.9", "sm_count": 80, "l2_cache_bytes": 64 << 20}
FACTS |= {"memory_bytes": 17_171_480_576, "driver": "580.95"}
FACTS |= {"max_sm_clock_mhz": 3105, "max_memory_clock_mhz": 11_501, "memory_bus_bits": 256}
FACTS |= {"default_power_limit_w": 320.0, "architecture": "Ada"}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (NAME, KEY),
        ("NVIDIA A100 80GB PCIe", "A100with80GBPCIe"),
        ("Tesla V100-SXM2-32GB", "V100SXM2with32GB"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX6000Ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "RTXPRO6000BlackwellMaxQWorkstation"),
        ("GRID T4", "GRIDT4"),
        ("é 5 (R)", "GPU5R"),
    ],
)
def test_a_key_is_made_from_the_name(gpus, name, key):
    assert make_key(name, gpus) == key
    pattern = read_yaml(SCHEMA)["propertyNames"]
    assert len(key) <= pattern["maxLength"] and key.isalnum() and key.isascii()


def test_an_entry_holds_what_the_driver_tells_and_no_peak(gpus, tmp_path):
    file = note_card(tmp_path, KEY, draft_entry(FACTS))
    card = load_gpus(GPUS_FILE, SCHEMA, find_cards(tmp_path))[KEY]
    assert file == tmp_path / KEY / CARD_FILE
    assert (card.sm_count, card.l2_cache_mib, card.memory_gb, card.tdp_w) == (80, 64, 17.2, 320)
    # NVIDIA's data sheet says 736 GB/s, too.
    assert card.memory_bandwidth_gb_s == 736
    assert card.peak_tops == dict.fromkeys(["fp32", "tf32", "fp16", "int8"])
    assert card.precisions == ("fp32", "tf32", "fp16", "int8", "bf16", "fp8")
    told = next(iter(card.sources.values()))
    assert "memory_bandwidth_gb_s" in told and "peak_tops" not in told and "year" not in told
    old = draft_entry({"name": "GeForce (X)", "compute_capability": "7.5"})
    assert list(old["peak_tops"]) == ["fp32", "fp16", "int8"]
    assert old["name_pattern"] == r"GeForce \(X\)"
    assert old["memory_bandwidth_gb_s"] is None


def test_gpus_yaml_counts_before_what_a_driver_told(tmp_path):
    note_card(tmp_path, "L4", draft_entry(FACTS))
    gpus = load_gpus(GPUS_FILE, SCHEMA, find_cards(tmp_path))
    assert gpus == load_gpus(GPUS_FILE, SCHEMA)


def test_a_card_in_the_wrong_folder_is_refused(tmp_path):
    note_card(tmp_path, KEY, draft_entry(FACTS)).parent.rename(tmp_path / "RTX4070")
    with pytest.raises(ConfigError, match=f"describes {KEY}, but its folder is RTX4070's"):
        load_gpus(GPUS_FILE, SCHEMA, find_cards(tmp_path))


@pytest.fixture
def unknown_card(monkeypatch):
    """This machine has one card that gpus.yaml does not know, and an older one at the place before it."""
    older = Device(0, "GPU-0", "NVIDIA GeForce GTX 1660", "7.5")
    monkeypatch.setattr(devices, "look_for_gpus", lambda: Sighting((older, Device(1, "GPU-1", NAME, "8.9"))))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    # Set and forgotten again, so that what the card's own questions set goes with the test.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name, answer in {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetMemoryBusWidth": lambda handle: 256,
        "nvmlDeviceGetPowerManagementDefaultLimit": lambda handle: 320_000,
        "nvmlDeviceGetArchitecture": lambda handle: pynvml.NVML_DEVICE_ARCH_ADA,
    }.items():
        monkeypatch.setattr(pynvml, name, answer)
    told = {"driver": "580.95", "max_sm_clock_mhz": 3105, "max_memory_clock_mhz": 11_501, "power_limit_w": 250.0}
    monkeypatch.setattr(cards, "driver_facts", lambda device: told)


def test_a_card_without_an_entry_is_introduced_once_and_known_from_then_on(gpus, unknown_card, monkeypatch, tmp_path):
    keys = ("compute_capability", "sm_count", "l2_cache_bytes", "memory_bytes")
    monkeypatch.setattr(cards, "cuda_facts", lambda: {key: FACTS[key] for key in keys})
    said: list[str] = []
    assert detect_gpu(gpus, lambda device: introduce(device, gpus, tmp_path, said.append)) == KEY
    assert len(said) == 1 and f"{tmp_path / KEY / CARD_FILE}" in said[0] and "no bound by a peak" in said[0]
    written = read_yaml(tmp_path / KEY / CARD_FILE)[KEY]
    assert written == draft_entry(FACTS)
    known = load_gpus(GPUS_FILE, SCHEMA, find_cards(tmp_path))
    assert detect_gpu(known, lambda device: pytest.fail("it is known")) == KEY


def test_a_card_that_cuda_cannot_open_is_described_by_its_driver_alone(gpus, unknown_card, monkeypatch, tmp_path):
    def fail() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old")

    monkeypatch.setattr(cards, "cuda_facts", fail)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda handle: type("Info", (), {"total": 16 << 30}))
    introduce(Device(1, "GPU-1", NAME, "8.9"), gpus, tmp_path, lambda text: None)
    written = read_yaml(tmp_path / KEY / CARD_FILE)[KEY]
    assert (written["sm_count"], written["memory_gb"], written["tdp_w"]) == (None, 17.2, 320)


def test_make_measures_the_newest_of_several_unknown_cards_and_names_the_others(
    unknown_card, monkeypatch, tmp_path, capsys
):
    checked: list[Device] = []
    monkeypatch.setattr("deepgap.measure.readiness.check_ready", checked.extend)
    monkeypatch.setattr(cards, "cuda_facts", dict)
    monkeypatch.setattr(cards, "driver_facts", lambda device: {"memory_bytes": 1 << 34})
    for file in ("config/gpus.yaml", "workflow/schemas/gpus.schema.yaml"):
        (tmp_path / file).parent.mkdir(parents=True)
        shutil.copy(ROOT / file, tmp_path / file)
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "workflow/scripts/detect_gpu.py"), run_name="__main__")
    printed = capsys.readouterr()
    assert printed.out == f"{KEY}\n"
    assert [device.name for device in checked] == [NAME]
    assert "This machine also has NVIDIA GeForce GTX 1660: 'CUDA_VISIBLE_DEVICES=GPU-... make'" in printed.err
    assert find_cards(Path("results")) == [Path("results") / KEY / CARD_FILE]


def write_card_cell(results: Path, key: str, name: str, sweep: int = 1) -> Path:
    """A cell below results/key of a card that calls itself so."""
    footer = synthetic_footer(synthetic_recipe(key, "resnet18", "eager-fp16", 8, sweep=sweep))
    footer.provenance["device"] |= {**FACTS, "name": name}
    for extra in ("memory_bus_bits", "default_power_limit_w", "architecture"):
        footer.provenance["device"].pop(extra)
    return write_synthetic_cell(
        results / key / "cells", synthetic_rows([[2.0, 2.0]] * 2, [2.0] * 2, enqueue=0.1), footer
    )


@pytest.fixture
def run_tool(monkeypatch, capsys):
    """Run a tool; its exit, which is a sentence where it ends with one, and what it prints."""

    def run(name: str, *arguments: object) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        code: object = 0
        try:
            runpy.run_path(str(ROOT / "tools" / name), run_name="__main__")
        except SystemExit as end:
            code = end.code
        return code, capsys.readouterr().out

    return run


def test_a_folder_that_somebody_sends_is_checked_by_one_command(tmp_path, run_tool):
    write_card_cell(tmp_path, KEY, NAME)
    said, _ = run_tool("check_contribution.py", tmp_path / KEY)
    assert "no RTX4080SUPER" in said and "suggest_gpu.py FOLDER --save" in said
    assert run_tool("suggest_gpu.py", tmp_path / KEY, "--save")[0] == 0
    assert read_yaml(tmp_path / KEY / CARD_FILE)[KEY]["sm_count"] == 80
    archive = tmp_path / "sent.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / KEY, f"results/{KEY}")
    for sent in (tmp_path / KEY, archive):
        code, printed = run_tool("check_contribution.py", sent)
        assert code == 0
        assert f"{KEY}: 1 cells in order" in printed and f"copy it to results/{KEY}" in printed
        assert f"Not held against a peak rate, as none is known: {KEY}" in printed


def test_what_is_not_in_order_is_not_taken_in(tmp_path, run_tool):
    write_card_cell(tmp_path, "L4", card_name("L4"))
    write_card_cell(tmp_path, "L4", "NVIDIA L40", sweep=2)
    code, printed = run_tool("check_contribution.py", tmp_path / "L4")
    assert "cannot be taken in" in str(code)
    assert "was measured on NVIDIA L40, and the name_pattern of L4 is 'NVIDIA L4'" in printed
    (tmp_path / "text.tar").write_text("not an archive", encoding="utf-8")
    assert "cannot be unpacked" in str(run_tool("check_contribution.py", tmp_path / "text.tar")[0])
    (tmp_path / "outside").write_text("", encoding="utf-8")
    with tarfile.open(tmp_path / "out.tar", "w") as tar:
        tar.add(tmp_path / "outside", "../outside2")
    assert "cannot be unpacked" in str(run_tool("check_contribution.py", tmp_path / "out.tar")[0])
    assert not (tmp_path.parent / "outside2").exists()
    assert "holds none" in str(run_tool("check_contribution.py", tmp_path / "L4/cells")[0])


def test_sums_in_fp16_may_exceed_the_peak_of_sums_in_fp32(gpus):
    """The GeForce RTX 4090 multiplies 165 Tops/s in FP16 with sums in FP32, 330 with sums in FP16."""
    card = gpus["RTX4090"]
    assert card.fp16_accumulate_peak_tops == pytest.approx(2 * card.peak_tops["fp16"], rel=1e-3)
    recipe = synthetic_recipe("RTX4090", "resnet50", "eager-fp16", 8)

    def check(tera_operations_per_s: float, precision: str = "fp16") -> None:
        call_ms = 8 * 2 * 4e9 / (tera_operations_per_s * 1e12) * 1000
        rows = synthetic_rows([[call_ms, call_ms]], [call_ms])
        check_bounds(rows, recipe | {"precision": precision}, {"multiply_adds": 4e9}, card)

    check(300)
    with pytest.raises(CellError, match="the limit is 200 %"):
        check(340)
    with pytest.raises(CellError, match=r"dense bf16 peak of 165\.2 Tops/s, and the limit is 100 %"):
        check(300, "bf16")


def test_what_is_drafted_is_yaml_that_the_schema_takes(tmp_path):
    text = yaml.safe_dump({KEY: draft_entry(FACTS)})
    (tmp_path / "gpus.yaml").write_text(text, encoding="utf-8")
    assert load_gpus(tmp_path / "gpus.yaml", SCHEMA)[KEY].compute_capability == "8.9"
