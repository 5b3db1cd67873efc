#!/usr/bin/env python3
"""The processor time that `gpuroom top` takes beside many programs on eight GPUs, without a GPU.

  bench/top_cost.py [--build DIR] [--python PYTHON] [--processes N] [--seconds N] [--columns N] [--lines N]

PYTHON is one that has Textual, such as build/top/venv/bin/python. The view draws on a terminal that is read all the time. The
programs are those of bench/doubles.py, whose figures change with every look. Prints one line of JSON: per cent of one
core, of the view and of the command that looks for it, from the first look on.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pathlib
import pty
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from typing import List

from doubles import cpu_seconds, end, start

ROOT = pathlib.Path(__file__).resolve().parent.parent
GPUS = 8


def children(pid: int) -> List[int]:
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


class Screen:
    """A terminal of its own, which somebody reads."""

    def __init__(self, columns: int, lines: int) -> None:
        self.ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.text = b""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                self.text = (self.text + os.read(self.ours, 65536))[-(1 << 20) :]
            except OSError:  # the last who had it open has ended
                return

    def wait_for(self, text: bytes) -> None:
        while text not in self.text:
            time.sleep(0.05)


def measure(options: argparse.Namespace, environment: dict[str, str]) -> dict[str, float]:
    screen = Screen(options.columns, options.lines)
    command = [str(options.python), "-m", "gpuroom.top", str(options.build / "bin/gpuroom"), "2"]
    view = subprocess.Popen(command, env=environment, stdin=screen.theirs, stdout=screen.theirs, stderr=screen.theirs)
    try:
        screen.wait_for(f"processes: {options.processes}".encode())
        time.sleep(2)  # what starting leaves to do
        (looks,) = children(view.pid)
        before = cpu_seconds(view.pid), cpu_seconds(looks)
        begin = time.monotonic()
        time.sleep(options.seconds)
        passed = time.monotonic() - begin
        after = cpu_seconds(view.pid), cpu_seconds(looks)
    finally:
        view.kill()
        view.wait()
    cost = [100 * (late - early) / passed for early, late in zip(before, after)]
    return {"view": round(cost[0], 2), "looks": round(cost[1], 2), "both": round(sum(cost), 2)}


def main(arguments: List[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/dev")
    parser.add_argument("--python", type=pathlib.Path, default=ROOT / "build/top/venv/bin/python")
    parser.add_argument("--processes", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--columns", type=int, default=200)
    parser.add_argument("--lines", type=int, default=60)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="gpuroom-top-") as folder:
        environment = {**os.environ, "GPUROOM_CONTROL": "1", "GPUROOM_CONTROL_DIR": folder, "TERM": "xterm-256color",
                       "PYTHONPATH": str(ROOT / "python")}  # fmt: skip
        running = [start(options.build, environment, number % GPUS) for number in range(options.processes)]
        try:
            result = measure(options, environment)
        finally:
            for process in running:
                end(process)
    print(json.dumps({"processes": options.processes, "seconds": options.seconds, "columns": options.columns,
                      "lines": options.lines, "percent_of_a_core": result}))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
