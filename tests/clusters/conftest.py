"""Shared by the tests under engines of others: workers on the simulated driver, and what has to hold of them."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("GPUROOM_BUILD_DIR", SOURCE / "build" / "dev"))
COMMAND = BUILD / "bin" / "gpuroom"
WORKER = pathlib.Path(__file__).with_name("worker.py")
LONG = 240  # seconds until a test gives up: engines are slow to start

HBM, HOST = 128, 256  # MiB: of each process, and of all together
OPTIONS = ("--sim", "1GiB,host=4GiB", "--hbm-limit", f"{HBM}MiB", "--reserve", "16MiB", "--host-limit", f"{HOST}MiB")


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + LONG
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end
        time.sleep(0.05)


class Worker:
    """One process under an engine, by its socket."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        with self.connect() as connection:
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        self.pid = struct.unpack("3i", credentials)[0]  # as this process sees it: the worker's own may be another

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(LONG)
        until(lambda: self.has_room_for(connection))
        return connection

    def has_room_for(self, connection: socket.socket) -> bool:
        """Connects, unless the queue is full: that is an error at once, and says that the worker is slow, or ending."""
        with contextlib.suppress(BlockingIOError):
            connection.connect(str(self.path))
            return True
        return False

    def ask(self, word: str) -> str:
        with self.connect() as connection:
            with connection.makefile("rw") as lines:
                print(word, file=lines, flush=True)
                return lines.readline().strip()

    def number(self, word: str) -> int:
        return int(self.ask(word))

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.wait_for_its_end()

    def wait_for_its_end(self) -> None:
        until(lambda: find_worker(self.path) is None)


def find_worker(path: pathlib.Path) -> Worker | None:
    """None where its process has gone."""
    try:
        return Worker(path)
    except ConnectionRefusedError:
        return None


class Node:
    """What the processes of one node share: a folder, with the ledger and the control sockets of this test alone."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.sockets = folder / "workers"
        self.sockets.mkdir()
        (folder / "control").mkdir(mode=0o700)
        kept = {name: value for name, value in os.environ.items()
                if not name.startswith(("GPUROOM_", "LD_", "SLURM_", "RAY_"))}  # fmt: skip
        self.environment = {
            **kept,
            "XDG_CACHE_HOME": "/nonexistent",
            "GPUROOM_LEDGER": str(folder / "ledger"),
            "GPUROOM_CONTROL_DIR": str(folder / "control"),
            "GPUROOM_HOST_KEEP": "0",  # what is freed goes back at once
        }

    def run(self, *arguments: object, **options: Any) -> str:
        """The output of a command that has to succeed."""
        options.setdefault("env", self.environment)
        done = subprocess.run([*map(str, arguments)], text=True, capture_output=True, timeout=LONG, check=False, **options)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def gpuroom(self, *arguments: object) -> str:
        return self.run(COMMAND, *arguments)

    def living(self) -> list[Worker]:
        return [worker for path in sorted(self.sockets.glob("*.sock")) if (worker := find_worker(path)) is not None]

    def workers(self, count: int) -> list[Worker]:
        """Waits until so many serve."""
        def there() -> list[Worker] | None:
            found = self.living()
            return found if len(found) >= count else None

        return until(there)

    def ps(self) -> dict[int, str]:
        """The state of each process that `ps` shows."""
        return {row["pid"]: row["state"] for row in json.loads(self.gpuroom("ps", "--json"))["processes"]}


def get_what_they_are_told(workers: list[Worker], part: int) -> None:
    """Each is told of HBM and its own part of the host memory, and gets nine tenths of that, as engines ask for."""
    assert [worker.number("told") for worker in workers] == [HBM + part] * len(workers)
    free = workers[0].number("free")
    for worker in workers[1:]:
        worker.number("take")
    assert workers[0].number("free") == free  # whatever the others do
    workers[0].number("take")
    assert all(worker.number("held") >= 0.9 * (HBM + part) for worker in workers)
    assert [worker.ask("check") for worker in workers] == ["True"] * len(workers)


def keep_within_the_budget(workers: list[Worker]) -> None:
    """Each is told of HBM and all of the host memory, and together they get that host memory once."""
    assert [worker.number("told") for worker in workers] == [HBM + HOST] * len(workers)
    for worker in workers:
        worker.number("take")
    spilled = [worker.number("spilled") for worker in workers]
    assert 0 < sum(spilled) <= HOST, spilled
    # The rest is less than a piece, but for the reserve that each keeps.
    assert sum(spilled) > HOST - 16 * (len(workers) + 1), spilled
    assert [worker.ask("check") for worker in workers] == ["True"] * len(workers)


def give_back_what_the_killed_held(alive: list[Worker], before: int) -> None:
    """`before`: MiB that `alive` had spilled while the others lived."""
    for worker in alive:
        worker.number("take")
    spilled = sum(worker.number("spilled") for worker in alive)
    assert before < spilled <= HOST
    assert spilled > HOST - 16 * (len(alive) + 1)
    assert [worker.ask("check") for worker in alive] == ["True"] * len(alive)


def are_reached_by_ps_and_sleep(node: Node, workers: list[Worker]) -> None:
    """Before they hold all of the host memory: the backups go there."""
    for worker in workers:
        worker.number("begin")
    pids = {worker.pid for worker in workers}
    assert pids <= set(node.ps())
    node.gpuroom("sleep", *sorted(pids))
    states = node.ps()
    assert {states[pid] for pid in pids} == {"asleep"}
    node.gpuroom("wake", *sorted(pids))
    assert [worker.ask("check") for worker in workers] == ["True"] * len(workers)


@pytest.fixture
def node() -> Iterator[Node]:
    """In a short path: the name of a socket has 107 bytes at most."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gpuroom-", dir="/tmp"))
    node = Node(folder)
    try:
        yield node
    finally:
        for worker in node.living():
            worker.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def processes() -> Iterator[Callable[..., subprocess.Popen]]:
    """processes(command, **options) starts one, in a group of its own that ends with the test."""
    started: list[subprocess.Popen] = []

    def start(*command: object, **options: Any) -> subprocess.Popen:
        started.append(subprocess.Popen([*map(str, command)], start_new_session=True, text=True, **options))
        return started[-1]

    yield start
    for process in reversed(started):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
