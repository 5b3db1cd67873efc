"""Processes with the real control socket and a core that only counts, for scrape.py and top_cost.py: tests/cli's
gpuroom_control_double, which the target of that name builds."""

from __future__ import annotations

import os
import pathlib
import subprocess
from typing import Dict


def start(build: pathlib.Path, environment: Dict[str, str], gpu: int = 0) -> subprocess.Popen[str]:
    command = [str(build / "tests/cli/gpuroom_control_double"), str(gpu)]
    process = subprocess.Popen(command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()  # it can be asked now
    return process


def cpu_seconds(pid: int) -> float:
    """User and system time of a process: what it costs, however busy the machine is."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
