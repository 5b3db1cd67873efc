"""Shared by the tests of hostile neighbours: users, the product where all of them can run it, programs and attackers."""

import contextlib
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import pytest

BUILD = pathlib.Path(os.environ["GPUROOM_BUILD_DIR"])
PROGRAM = pathlib.Path(__file__).with_name("gpu_program.py")
LONG = 60  # seconds until a test gives up
# Within so many seconds every command ends, whoever is silent. Each bound is a few seconds; what waits for one
# neighbour after the other takes longer with as many as these tests have.
SOON = 30
LIMITS = ("--sim", "1GiB,host=4GiB", "--hbm-limit", "128MiB", "--reserve", "16MiB", "--host-limit", "256MiB")
FULL = 128  # MiB that one program gets, spilled or not, where nobody holds the host budget


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class Product:
    """The command, run as a user; `uid` None: as who we are."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.command = root / "bin" / "gpuroom"
        self.double = root / "double"
        self.program = root / PROGRAM.name

    @staticmethod
    def options(uid: int | None, env: dict[str, str] | None = None) -> dict:
        clean = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent", "GPUROOM_QUIET": "1"}
        options: dict = {"env": {**clean, **(env or {})}, "text": True, "cwd": "/"}
        return options if uid is None else {**options, "user": uid, "group": uid, "extra_groups": []}

    def __call__(self, *arguments: object, uid: int | None = None, env: dict[str, str] | None = None):
        return subprocess.run(
            [self.command, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SOON,
            check=False,
            **self.options(uid, env),
        )

    def ps(self, **options) -> dict[int, list[str]]:
        """The states that `ps` shows, by PID: one for each row."""
        done = self("ps", "--json", **options)
        assert done.returncode == 0, done.stderr
        shown: dict[int, list[str]] = {}
        for process in json.loads(done.stdout)["processes"]:
            shown.setdefault(process["pid"], []).append(process["state"])
        return shown


class Program:
    """A process under test that does what it reads."""

    def __init__(self, arguments: list[object], options: dict, log: pathlib.Path) -> None:
        self.log = log
        with open(log, "w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                list(map(str, arguments)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, **options
            )
        self.pid = self.process.pid
        self.first = self.process.stdout.readline().strip()
        assert self.first, log.read_text()

    def ask(self, line: str) -> str:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=LONG)


class Attacker:
    """A forked child that does something bad as a user. Ready once that has returned, and there until it is closed."""

    def __init__(self, action: Callable[[], object], uid: int | None = None) -> None:
        ready, tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(ready)
            self._play(action, uid, tell)
        os.close(tell)
        with os.fdopen(ready, "rb") as pipe:
            told = pipe.read(1)
        self.alive = True
        if told != b"x":
            self.close()
            raise AssertionError("the attacker failed")

    def _play(self, action: Callable[[], object], uid: int | None, tell: int) -> None:
        try:
            if uid is not None:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            self.kept = action()  # what it opened stays open
            os.write(tell, b"x")
            os.close(tell)
            while True:
                signal.pause()
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        finally:
            os._exit(1)

    def close(self) -> None:
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self.alive = False


def listen(folder: str, pid: int | None = None) -> socket.socket:
    """A listener under the name of a process, this one's where none is given."""
    os.makedirs(folder, 0o700, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{folder}/{pid or os.getpid()}.sock")
    listener.listen()
    return listener


@pytest.fixture(scope="session")
def product() -> Iterator[Product]:
    """A copy that every user can run: the build tree may be somebody's own."""
    root = pathlib.Path(tempfile.mkdtemp(prefix="gpuroom-hostile-", dir="/tmp"))
    try:
        root.chmod(0o755)
        (root / "bin").mkdir()
        shutil.copy2(BUILD / "bin" / "gpuroom", root / "bin")
        shutil.copytree(BUILD / "lib" / "gpuroom", root / "lib" / "gpuroom", symlinks=True)
        shutil.copy2(BUILD / "tests" / "cli" / "gpuroom_control_double", root / "double")
        shutil.copy2(PROGRAM, root)
        for path in [root, *root.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755)
        yield Product(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


class Stage:
    """Starts what a test needs, and ends all of it."""

    def __init__(self, product: Product, folder: pathlib.Path, stack: contextlib.ExitStack) -> None:
        self.product, self.folder, self.stack = product, folder, stack
        self.count = 0

    def attack(self, action: Callable[[], object], uid: int | None = None) -> Attacker:
        attacker = Attacker(action, uid)
        self.stack.callback(attacker.close)
        return attacker

    def start(self, arguments: list[object], uid: int | None = None, env: dict[str, str] | None = None) -> Program:
        self.count += 1
        program = Program(arguments, self.product.options(uid, env), self.folder / f"log{self.count}")
        self.stack.callback(program.close)
        return program

    def double(self, uid: int | None = None, **env: str) -> Program:
        """A process that can be asked to sleep, and has no GPU."""
        return self.start([self.product.double], uid, {"GPUROOM_CONTROL": "1", **env})

    def program(self, uid: int | None = None, **env: str) -> Program:
        """One that allocates on the simulated GPU."""
        command = [self.product.command, "run", *LIMITS, "--", sys.executable, self.product.program]
        program = self.start(command, uid, env)
        assert program.first == "ready"
        return program


@pytest.fixture
def stage(product: Product, tmp_path: pathlib.Path) -> Iterator[Stage]:
    with contextlib.ExitStack() as stack:
        yield Stage(product, tmp_path, stack)


def unused_user(number: int) -> int:
    """A user that nobody is."""
    with contextlib.suppress(KeyError):
        pwd.getpwuid(number)
        pytest.skip(f"user {number} is somebody here")
    return number
