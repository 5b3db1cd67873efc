"""Slurm, with its controller and one node on this machine: a job whose script has the line of `gpuroom env --format slurm`,
and one in a control group that limits its memory."""

import getpass
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import pytest
from conftest import (
    COMMAND,
    OPTIONS,
    WORKER,
    are_reached_by_ps_and_sleep,
    give_back_what_the_killed_held,
    keep_within_the_budget,
    until,
)

PROGRAMS = ["slurmctld", "slurmd", "sbatch", "srun", "munged", "mungekey"]
PATH = os.environ["PATH"] + ":/usr/sbin"
missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
pytestmark = [
    pytest.mark.skipif(bool(missing), reason=f"not installed: {missing}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="slurmd wants to be root"),
]
MEMORY_GROUP = pathlib.Path("/sys/fs/cgroup/memory")  # version 1, which Slurm 22.05 can use without systemd
HOST = socket.gethostname().split(".")[0]
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin={plugin}
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
MpiDefault=none
ReturnToService=2
MailProg=/bin/true
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=4096 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def free_ports(count):
    holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports


class Slurm:
    def __init__(self, node, processes):
        self.node = node
        folder = node.folder
        self.environment = {**node.environment, "PATH": PATH, "SLURM_CONF": str(folder / "slurm.conf")}
        plugin = "task/cgroup" if MEMORY_GROUP.is_dir() else "task/none"
        text = CONFIGURATION.format(host=HOST, user=getpass.getuser(), folder=folder, ports=free_ports(2), plugin=plugin)
        (folder / "slurm.conf").write_text(text)
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nConstrainRAMSpace=yes\n")
        (folder / "state").mkdir()
        (folder / "spool").mkdir()
        folder.chmod(0o711)  # munged wants its socket to be in reach of others
        node.run("mungekey", "--create", "--keyfile", folder / "munge.key", env=self.environment)
        log = open(folder / "log", "w", encoding="utf-8")
        options = {"env": self.environment, "stdout": log, "stderr": log, "cwd": folder}
        processes("munged", "--foreground", "--force", "--key-file", folder / "munge.key", "--socket", folder / "munge.sock",
                  "--pid-file", folder / "munge.pid", "--log-file", folder / "munge.log",
                  "--seed-file", folder / "munge.seed", **options)  # fmt: skip
        until((folder / "munge.sock").exists)
        processes("slurmctld", "-D", **options)
        processes("slurmd", "-D", "-N", HOST, **options)
        until(lambda: "idle" in self.output("sinfo", "--noheader", "--format=%T"))

    def output(self, *command):
        done = subprocess.run(command, env=self.environment, text=True, capture_output=True, check=False)
        return done.stdout

    def submit(self, script, *options):
        """The number of the job."""
        path = self.node.folder / "script.sh"
        path.write_text(script)
        out = self.node.folder / "out-%j"
        # What the job gets of gpuroom, it gets from its script.
        plain = {name: value for name, value in self.environment.items() if not name.startswith("GPUROOM_")}
        job = self.node.run("sbatch", "--parsable", f"--output={out}", *options, path, env=plain, cwd=self.node.folder)
        return job.strip()

    def result(self, job):
        """What the job has written, once it has ended."""
        ended = {"COMPLETED", "FAILED", "CANCELLED", "OUT_OF_MEMORY", "NODE_FAIL", "TIMEOUT"}

        def state():
            words = self.output("scontrol", "--oneliner", "show", "job", job).split()
            return next((word.split("=")[1] for word in words if word.startswith("JobState=")), "")

        until(lambda: state() in ended)
        return (self.node.folder / f"out-{job}").read_text()


@pytest.fixture
def slurm(node, processes):
    slurm = Slurm(node, processes)
    yield slurm
    slurm.output("scancel", "--signal=KILL", "--state=RUNNING", "--user", getpass.getuser())
    until(lambda: slurm.output("squeue", "--noheader").strip() == "")


def rules(node):
    """In a variable whose value has commas."""
    path = node.folder / "rules.json"
    path.write_text('{"rules": [{"min": "1GiB", "max": "2GiB", "hint": "cold"}]}')
    return ["--rules", path]


def test_the_tasks_of_a_job_share_one_budget_and_killed_ones_give_theirs_back(node, slurm):
    line = node.gpuroom("env", "--format", "slurm", *OPTIONS, *rules(node))
    srun = f"srun --ntasks=4 --cpus-per-task=1 --no-kill --kill-on-bad-exit=0 {sys.executable} {WORKER} {node.sockets}"
    slurm.submit(f"#!/bin/sh\n#SBATCH --ntasks=4\n{line}\n{srun}\n")
    workers = node.workers(4)
    are_reached_by_ps_and_sleep(node, workers)
    keep_within_the_budget(workers)
    for worker in workers[:2]:
        worker.kill()
    give_back_what_the_killed_held(workers[2:], 0)


def test_what_env_prints_arrives_as_it_is(node, slurm):
    told = json.loads(node.gpuroom("env", "--format", "json", *OPTIONS, *rules(node)))["environment"]
    assert "," in told["GPUROOM_RULES"]
    line = node.gpuroom("env", "--format", "slurm", *OPTIONS, *rules(node))
    output = slurm.result(slurm.submit(f"#!/bin/sh\n{line}\nsrun env\n"))
    found = dict(entry.split("=", 1) for entry in output.splitlines() if "=" in entry)
    assert {name: found.get(name) for name in told} == told


@pytest.mark.skipif(not MEMORY_GROUP.is_dir(), reason="Slurm's plug-in needs control groups of version 1 here")
def test_auto_keeps_within_the_memory_of_the_job(node, slurm):
    """gpuroom runs on the node, inside the job's control group, and sees its limit."""
    plan = f"srun {COMMAND} run --dry-run --json -- true"
    output = slurm.result(slurm.submit(f"#!/bin/sh\n{plan}\n", "--mem=600M"))
    told = json.loads(output)
    assert "cgroup" in told["host"]["limited_by"], output
    assert told["limits"]["host_bytes"] < 600 << 20
