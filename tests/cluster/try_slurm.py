"""Measure a tiny study through a real Slurm of this machine, kill a cell in its middle, and measure it again.

Run by hand, as root, where Debian's slurm-wlm and munge are installed and envs/cluster.txt is in the environment:

    python -m tests.cluster.try_slurm

Slurm is set up in a temporary folder and a link to it in /etc/slurm, with one node and two `gpu` that are none; its
daemons and the link end with this script. The study is gpu=CPU.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from deepgap.cells.cell_file import read_cell
from deepgap.study.artifacts import Artifacts
from deepgap.weights import Weights, save_weights
from tests.unit.networks import bare_model
from tests.workflow.conftest import TINY, Project, copy_project

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
PLUGIN = "snakemake_executor_plugin_slurm"
LONG_ITERATIONS = 60
"""Timed calls of a cell that lasts long enough to be killed in its middle."""
IN_TIMING_S = 8.0
"""A job's process has used this much of the processor when it times calls and no longer imports."""
IN_CELL_S = 6
"""So long after its beginning a cell of the warm worker is still being measured."""
WAIT_S = 300
RUN_S = 1200
"""The longest that a run of Snakemake may take: mostly the plugin's waits between its questions to Slurm."""
SYSTEM_CONF = Path("/etc/slurm/slurm.conf")
"""Where srun looks inside a job: the plugin takes SLURM_CONF out of a job's environment."""
# A Slurm of this machine answers at once and has no accounts and no accounting.
HERE = [
    "--slurm-no-account",
    *("--slurm-status-command", "squeue"),
    *("--slurm-init-seconds-before-status-checks", "3"),
    *("--latency-wait", "5"),
]
MEASURE = ["cells", "--workflow-profile", "profiles/slurm", *HERE, "--config", "gpu=CPU"]

SLURM_CONF = """\
ClusterName=try
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
KillWait=5
MinJobAge=3600
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=16000 Gres=gpu:2
PartitionName=try Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """What this machine lacks, as a sentence; None when a try can begin."""
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    if lacking:
        return f"This machine has no {', '.join(lacking)}; install slurm-wlm and munge."
    if os.geteuid() != 0:
        return "Slurm's daemons are started as root here."
    if SYSTEM_CONF.is_symlink() or SYSTEM_CONF.exists():
        return f"{SYSTEM_CONF} is there; this try needs a machine without a Slurm of its own."
    if importlib.util.find_spec(PLUGIN) is None:
        return "Snakemake's Slurm plugin is not installed; install envs/cluster.txt."
    return None


def main() -> None:
    if reason := missing():
        sys.exit(reason)
    # Ended from outside, it still ends its daemons.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended by a signal."))
    with tempfile.TemporaryDirectory(prefix="deepgap-slurm-") as folder, slurm(Path(folder)):
        project = prepare(Path(folder, "project"))
        measure_all(project)
        kill_one(project)
        measure_in_one_allocation(project)
    print("All held.")


@contextmanager
def slurm(folder: Path) -> Iterator[None]:
    """Munge, slurmctld and slurmd on this machine, with all their files in `folder`."""
    # Munge refuses a socket that others could not reach.
    folder.chmod(0o755)
    host = socket.gethostname().split(".")[0]
    controller_port, node_port = free_ports(2)
    text = SLURM_CONF.format(host=host, folder=folder, controller_port=controller_port, node_port=node_port)
    (folder / "slurm.conf").write_text(text, encoding="utf-8")
    # Slurm 22.05 counts no GPU without a file.
    (folder / "gres.conf").write_text("Name=gpu File=/dev/zero\nName=gpu File=/dev/full\n", encoding="utf-8")
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    SYSTEM_CONF.parent.mkdir(exist_ok=True)
    files = {"socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log", "seed-file": "munge.seed"}
    with ExitStack() as daemons:
        SYSTEM_CONF.symlink_to(folder / "slurm.conf")
        daemons.callback(SYSTEM_CONF.unlink)
        munged = ["munged", "--foreground", f"--key-file={key}"]
        munged += [f"--{option}={folder / name}" for option, name in files.items()]
        daemons.enter_context(daemon(munged, folder))
        wait_for((folder / "munge.socket").exists, "munge's socket")
        daemons.enter_context(daemon(["slurmctld", "-D"], folder))
        daemons.enter_context(daemon(["slurmd", "-D", "-N", host], folder))
        wait_for(lambda: "idle" in ask("sinfo", "--noheader", "-o", "%T"), "the node")
        print(f"{ask('sinfo', '-V').strip()}: {ask('sinfo', '--noheader', '-o', '%n %c CPUs %m MB %G').strip()}")
        try:
            yield
        finally:
            ask("scancel", "--user", "root")
            time.sleep(1)


@contextmanager
def daemon(command: list[str], folder: Path) -> Iterator[None]:
    """A process in the foreground, ended with all its children; its output goes to a file in `folder`."""
    with (folder / f"{command[0]}.out").open("w", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        yield
    finally:
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in family:
            if child.is_running():
                child.kill()


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in sockets]


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False).stdout


def wait_for(condition: Callable[[], bool], what: str, process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"Waited {WAIT_S} s for {what}.")
        if process is not None and process.poll() is not None:
            sys.exit(f"Snakemake ended while {what} was awaited:\n{process.communicate()[0]}")
        time.sleep(0.2)


def check(holds: bool, what: str, output: str = "") -> None:
    if not holds:
        sys.exit(f"Does not hold: {what}\n{output}")
    print(f"holds: {what}", flush=True)


def prepare(root: Path) -> Project:
    """A tiny study with plain random weights, which spare the conditioning's minute."""
    project = copy_project(root)
    shutil.rmtree(root / "results", ignore_errors=True)
    project.change(**TINY)
    study = project.study()
    model = study.model("resnet18")
    weights = root / Artifacts(study).weights(model)
    save_weights(weights, Weights(model, bare_model("resnet18").state_dict(), largest=1.0))
    return project


def cells(project: Project) -> dict[str, int]:
    """The cells there, each read and checked, with the time of their file."""
    found = sorted((project.root / "results/CPU/cells").glob("*"))
    for path in found:
        read_cell(path)
    return {path.stem: path.stat().st_mtime_ns for path in found}


def planned(project: Project) -> set[str]:
    return {Path(cell.path).stem for cell in project.study().cells("CPU")}


def measure(project: Project) -> subprocess.CompletedProcess[str]:
    process = project.start(*MEASURE)
    try:
        output, _ = process.communicate(timeout=RUN_S)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, output)


def logs(project: Project) -> str:
    """What the failed jobs of Slurm said."""
    files = (project.root / ".snakemake/slurm_logs").rglob("*.log")
    return "".join(f"\n{path}:\n{path.read_text(encoding='utf-8')}" for path in files)


def measure_all(project: Project) -> None:
    started = time.monotonic()
    run = measure(project)
    seconds = time.monotonic() - started
    check(run.returncode == 0, f"a study runs through the profile ({seconds:.0f} s)", run.stdout + logs(project))
    check(set(cells(project)) == planned(project), f"its {len(planned(project))} cells exist and are valid")
    check(project.plan(*MEASURE) == {}, "nothing is left to do", run.stdout)


def running_cell() -> tuple[str, str] | None:
    """The Slurm job and the stem of a cell that is being measured."""
    for line in ask("squeue", "--noheader", "--states", "RUNNING", "-o", "%i %k").splitlines():
        job, _, comment = line.partition(" ")
        if found := re.fullmatch(r"rule_measure_cell_wildcards_(\S+)", comment.strip()):
            return job, found[1]
    return None


def times_calls(project: Project) -> bool:
    for process in psutil.process_iter(["cmdline", "cwd"]):
        command = process.info["cmdline"] or []
        if process.info["cwd"] == str(project.root) and any(part.endswith(".measure_cell.py") for part in command):
            try:
                return process.cpu_times().user > IN_TIMING_S
            except psutil.NoSuchProcess:
                return False
    return False


def kill_one(project: Project) -> None:
    tiny = {**TINY["protocols"]["tiny"], "timed_iterations": LONG_ITERATIONS}
    project.change(batch_sizes=[1], protocols={**TINY["protocols"], "tiny": tiny})
    before = cells(project)
    process = project.start(*MEASURE)
    try:
        wait_for(lambda: running_cell() is not None and times_calls(project), "a cell being timed", process)
        job, stem = running_cell() or ("", "")
        asked = ask("scontrol", "show", "job", job)
        check("gres:gpu:1" in asked, "the cell's job has one GPU", asked)
        subprocess.run(["scancel", job], check=True)
        output, _ = process.communicate(timeout=RUN_S)
    finally:
        process.kill()
    check(process.returncode != 0 and "CANCELLED" in output, "Snakemake says that the job was cancelled", output)
    after = cells(project)
    check(stem not in after and stem in planned(project), f"{stem} left no cell", output)
    check(not list(project.root.rglob("*.tmp")), "no partial file is left")
    check(set(after) - set(before) == planned(project) - {stem}, "the other cell was measured all the same", output)
    check(project.plan(*MEASURE) == {"measure_cell": 1, "cells": 1}, "exactly it is left to do", output)
    run = measure(project)
    check(run.returncode == 0, "the next call ends well", run.stdout)
    again = cells(project)
    check(set(again) - set(after) == {stem}, "it measured the killed cell", run.stdout)
    check(all(again[name] == written for name, written in after.items()), "and touched no other")


def submit_allocation(project: Project, *options: str) -> str:
    """The Slurm job of a whole run, with the default profile and its warm worker; its output is allocation.log."""
    command = f"{sys.executable} -m snakemake --cores 1 cells --config gpu=CPU"
    batch = [
        "sbatch",
        "--parsable",
        "--gpus=1",
        "--cpus-per-task=2",
        "--mem=8000",
        "--output=allocation.log",
        *options,
    ]
    run = subprocess.run(
        [*batch, f"--wrap={command}"],
        cwd=project.root,
        env=project.environment({}),
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=False,
        timeout=RUN_S,
    )
    return run.stdout.strip()


def measure_in_one_allocation(project: Project) -> None:
    """A run in one allocation, cancelled in its first cell, and submitted again."""
    output = project.root / "allocation.log"
    # Counts of its own, because cells of the same counts are the same cells.
    other = {**TINY["protocols"]["other"], "timed_iterations": LONG_ITERATIONS + 1}
    project.change(protocol="other", batch_sizes=[1, 2], protocols={**TINY["protocols"], "other": other})
    before = cells(project)
    job = submit_allocation(project)
    wait_for(lambda: output.exists() and "[cell 1 of 2]" in output.read_text(encoding="utf-8"), "the first cell")
    time.sleep(IN_CELL_S)
    subprocess.run(["scancel", job], check=True)
    wait_for(lambda: job not in ask("squeue", "--noheader", "-o", "%i").split(), "the end of the allocation")
    check(cells(project) == before, "a cancelled allocation leaves no cell", output.read_text(encoding="utf-8"))
    check(not list(project.root.rglob("*.tmp")), "and no partial file")
    submit_allocation(project, "--wait")
    measured = set(cells(project)) - set(before)
    check(measured == planned(project), "submitted again it measures its 2 cells", output.read_text(encoding="utf-8"))
    check(
        "[cell 2 of 2" in output.read_text(encoding="utf-8"),
        "with the warm worker",
        output.read_text(encoding="utf-8"),
    )
    print(*re.findall("Elapsed time: .*", output.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
