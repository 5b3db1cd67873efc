"""What processes of one user can do to those of another, and to root: nothing but cost them a bounded time.

A victim and an attacker are played, each with a user's number that nobody has; that takes root."""

import os
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from conftest import FULL, LONG, SOON, Stage, listen, unused_user

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="two users are played here, which takes root")

VICTIM, ATTACKER, OTHER = 64321, 64322, 64323
LEDGER = f"/dev/shm/gpuroom-{VICTIM}.ledger"
# Where links lead: a file of the victim's, and a name that it could make.
KEPT, NOTHING = "/tmp/gpuroom-hostile-kept", "/tmp/gpuroom-hostile-nothing"


def folder_of(uid: int) -> str:
    return f"/tmp/gpuroom-{uid}"


def remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


@pytest.fixture(autouse=True, scope="module")
def python_for_all() -> None:
    try:
        subprocess.run([sys.executable, "-c", ""], user=VICTIM, group=VICTIM, extra_groups=[], cwd="/", check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"other users cannot run {sys.executable}")


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """None of these names exists before and after a test: they are of users that nobody is."""
    users = [unused_user(uid) for uid in (VICTIM, ATTACKER, OTHER)]
    paths = [LEDGER, KEPT, NOTHING, *map(folder_of, users)]
    for path in paths:
        remove(path)
    yield
    for path in paths:
        remove(path)


def make_file(path: str, mode: int) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write("mine")
    os.chmod(path, mode)


def make_folder(path: str, mode: int) -> None:
    os.mkdir(path)
    os.chmod(path, mode)


# What an attacker can have put where a victim's file or folder belongs.
SQUATS = {
    "private file": lambda path: make_file(path, 0o600),
    "open file": lambda path: make_file(path, 0o666),
    "empty file": lambda path: os.close(os.open(path, os.O_CREAT, 0o666)),
    "folder": lambda path: make_folder(path, 0o777),
    "private folder": lambda path: make_folder(path, 0o700),
    "fifo": lambda path: os.mkfifo(path, 0o666),
    "socket": lambda path: socket.socket(socket.AF_UNIX).bind(path),
    "link to nothing": lambda path: os.symlink(NOTHING, path),
    "link to a file of the victim's": lambda path: os.symlink(KEPT, path),
    "link to a folder of all": lambda path: os.symlink("/tmp", path),
    "link to itself": lambda path: os.symlink(path, path),
    "link to a terminal": lambda path: os.symlink("/dev/tty", path),
}


@pytest.fixture
def untouched() -> Iterator[None]:
    """What links may lead to stays as it is."""
    make_file(KEPT, 0o600)
    os.chown(KEPT, VICTIM, VICTIM)
    yield
    with open(KEPT, encoding="utf-8") as file:
        assert file.read() == "mine"
    assert not os.path.lexists(NOTHING)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("squat", SQUATS)
def test_the_host_budget_holds_whoever_has_the_ledgers_name(stage: Stage, squat: str) -> None:
    stage.attack(lambda: SQUATS[squat](LEDGER), ATTACKER).close()
    first, second = stage.program(VICTIM), stage.program(VICTIM)
    # 96 MiB of HBM each, 256 MiB of host memory together.
    assert first.ask("alloc 320") == "0"
    assert second.ask("alloc 320") == "2"
    assert second.ask("alloc 96") == "0"


def test_the_ledger_stays_where_it_is_once_the_attacker_leaves(stage: Stage) -> None:
    stage.attack(lambda: make_file(LEDGER, 0o600), ATTACKER).close()
    first = stage.program(VICTIM)
    assert first.ask("alloc 320") == "0"
    remove(LEDGER)
    assert stage.program(VICTIM).ask("alloc 320") == "2"


def test_strangers_neither_read_nor_lock_the_ledger(stage: Stage) -> None:
    program = stage.program(VICTIM)
    assert program.ask("alloc 320") == "0"

    def open_it() -> None:
        for flags in (os.O_RDONLY, os.O_WRONLY):
            with pytest.raises(PermissionError):
                os.open(LEDGER, flags)

    stage.attack(open_it, ATTACKER)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("squat", SQUATS)
def test_a_control_folder_of_another_is_not_used_and_the_program_runs(stage: Stage, squat: str) -> None:
    folder = folder_of(VICTIM)
    stage.attack(lambda: SQUATS[squat](folder), ATTACKER).close()
    double = stage.double(VICTIM)
    assert "'gpuroom sleep' cannot reach this process" in double.log.read_text()
    assert stage.product.ps(uid=VICTIM) == {}
    assert not os.path.isdir(folder) or not any(name.endswith(".sock") for name in os.listdir(folder))
    assert double.pid not in stage.product.ps()


@pytest.mark.skipif(os.path.exists(f"/run/user/{VICTIM}"), reason="this user is somebody here")
def test_the_folder_of_the_login_serves_where_another_has_the_name_in_tmp(stage: Stage) -> None:
    stage.attack(lambda: make_folder(folder_of(VICTIM), 0o777), ATTACKER).close()
    login = f"/run/user/{VICTIM}"
    os.makedirs("/run/user", exist_ok=True)
    os.mkdir(login, 0o700)
    try:
        os.chown(login, VICTIM, VICTIM)
        double = stage.double(VICTIM)
        assert double.log.read_text() == ""
        assert stage.product.ps(uid=VICTIM) == {double.pid: ["awake"]}
        assert stage.product.ps()[double.pid] == ["awake"]
    finally:
        shutil.rmtree(login)


def test_a_stranger_reaches_nobodys_control_socket(stage: Stage) -> None:
    double = stage.double(VICTIM)
    path = f"{folder_of(VICTIM)}/{double.pid}.sock"

    def connect() -> None:
        with socket.socket(socket.AF_UNIX) as client, pytest.raises(PermissionError):
            client.connect(path)

    stage.attack(connect, ATTACKER)
    done = stage.product("sleep", double.pid, uid=ATTACKER)
    assert done.returncode == 5 and f"user {VICTIM}'s" in done.stderr
    assert stage.product.ps(uid=ATTACKER) == {}
    assert stage.product.ps(uid=VICTIM) == {double.pid: ["awake"]}


def test_root_is_not_led_to_a_socket_under_a_victims_number(stage: Stage) -> None:
    double = stage.double(VICTIM)
    for uid in (ATTACKER, OTHER):
        stage.attack(lambda uid=uid: listen(folder_of(uid), double.pid), uid)
    assert stage.product.ps()[double.pid] == ["awake"]
    done = stage.product("sleep", double.pid)
    assert done.returncode == 0, done.stderr
    assert stage.product.ps()[double.pid] == ["asleep"]


def test_root_is_not_led_there_by_a_queue_that_is_full(stage: Stage) -> None:
    double = stage.double(VICTIM)

    def fill() -> list[socket.socket]:
        sockets = [listen(folder_of(ATTACKER), double.pid)]
        sockets[0].listen(0)
        while True:
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            sockets.append(client)
            try:
                client.connect(sockets[0].getsockname())
            except BlockingIOError:
                return sockets

    stage.attack(fill, ATTACKER)
    assert stage.product.ps()[double.pid] == ["awake"]
    assert stage.product("sleep", double.pid).returncode == 0


def test_a_number_that_only_an_attacker_answers_for_is_no_process(stage: Stage) -> None:
    plain = stage.start(["/bin/sh", "-c", "echo here; read line"], VICTIM)
    stage.attack(lambda: listen(folder_of(ATTACKER), plain.pid), ATTACKER)
    assert plain.pid not in stage.product.ps()
    assert stage.product("sleep", plain.pid).returncode == 4


def test_root_does_not_wait_for_each_silent_process_of_a_stranger(stage: Stage) -> None:
    double = stage.double(VICTIM)
    silent = [stage.attack(lambda: listen(folder_of(ATTACKER)), ATTACKER) for _ in range(40)]
    shown = stage.product.ps()  # ended after SOON
    assert shown[double.pid] == ["awake"]
    assert all(shown[one.pid] == ["no answer"] for one in silent)


def test_root_is_not_kept_by_what_lies_in_a_strangers_folder(stage: Stage) -> None:
    double = stage.double(VICTIM)
    folder = folder_of(ATTACKER)

    def litter() -> None:
        os.mkdir(folder, 0o700)
        os.mkfifo(f"{folder}/{double.pid}.sock")
        os.mkdir(f"{folder}/{os.getpid()}.sock")
        os.symlink(f"{folder_of(VICTIM)}/{double.pid}.sock", f"{folder}/2.sock")
        make_file(f"{folder}/3.sock", 0o666)
        for number in range(3000):
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(f"{folder}/{4000000 + number}.sock")
        for name in ("0", "00", "-1", "99999999999999999999", "x" * 200):
            with socket.socket(socket.AF_UNIX) as odd:
                os.chdir(folder)
                odd.bind(f"{name[:90]}.sock")

    stage.attack(litter, ATTACKER)
    shown = stage.product.ps()
    assert shown[double.pid] == ["awake"]
    assert 2 not in shown and 3 not in shown
    assert not any(name.startswith("4000") for name in os.listdir(folder))  # the dead are cleaned


def test_folders_that_are_not_whose_name_they_have_are_not_looked_into(stage: Stage) -> None:
    """Else one user could show as many as there are numbers."""

    def pretend() -> list[socket.socket]:
        os.symlink(folder_of(ATTACKER), f"/tmp/gpuroom-{OTHER}")
        os.makedirs(f"/tmp/gpuroom-0{ATTACKER}", 0o700)
        return [listen(f"/tmp/gpuroom-0{ATTACKER}"), listen(folder_of(ATTACKER))]

    try:
        attacker = stage.attack(pretend, ATTACKER)
        assert stage.product.ps()[attacker.pid] == ["no answer"]
    finally:
        remove(f"/tmp/gpuroom-0{ATTACKER}")


def memory_socket(pid: int) -> str:
    """The abstract name under which a process shares its memory."""
    inodes = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{name}")
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    with open("/proc/net/unix", encoding="utf-8") as table:
        for line in table:
            fields = line.split()
            if len(fields) == 8 and fields[6] in inodes and fields[7].startswith("@gpuroom-"):
                return "\0" + fields[7][1:]
    raise AssertionError("no such socket")


def test_a_stranger_at_the_memory_socket_uses_up_neither_log_nor_descriptors(stage: Stage) -> None:
    exporter, importer = stage.program(VICTIM), stage.program(VICTIM)
    assert exporter.ask(f"alloc {FULL}") == "0"
    handle = exporter.ask("export")
    name = memory_socket(exporter.pid)
    before = len(os.listdir(f"/proc/{exporter.pid}/fd"))

    def flood() -> None:
        for _ in range(1000):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
                client.connect(name)
                client.settimeout(SOON)
                assert client.recv(1) == b""  # closed, and nothing said

    stage.attack(flood, ATTACKER)
    assert importer.ask(f"open {handle}") == "0"
    # The exporter's own next word is heard.
    assert exporter.ask("open " + handle[:16] + "ff" * 56) != "0"
    lines = exporter.log.read_text().splitlines()
    assert len(lines) < 25
    assert "another user's process asked" in lines[0]
    assert "another user's" not in lines[-1]
    end = time.monotonic() + SOON  # the exporter closes what it has sent once it is sent
    while len(os.listdir(f"/proc/{exporter.pid}/fd")) > before + 1:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_stranger_in_the_place_of_an_exporter_is_not_asked(stage: Stage) -> None:
    """The exporter ends, and another user takes its socket's name: what is sent there would be the handle."""
    exporter, importer = stage.program(VICTIM), stage.program(VICTIM)
    assert exporter.ask(f"alloc {FULL}") == "0"
    handle = exporter.ask("export")
    name = memory_socket(exporter.pid)
    exporter.close()
    heard = os.pipe()

    def take_its_place() -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(name)
        listener.listen()

        def serve() -> None:
            client, _ = listener.accept()
            os.write(heard[1], client.recv(4096) or b"-")

        threading.Thread(target=serve, daemon=True).start()
        return listener

    stage.attack(take_its_place, ATTACKER)
    assert importer.ask(f"open {handle}") == "1"
    assert "the exporter is another user's" in importer.log.read_text()
    assert select.select([heard[0]], [], [], LONG)[0]
    assert os.read(heard[0], 1) == b"-"  # it was connected to, and told nothing


def test_a_listener_that_is_not_the_folder_owners_is_not_believed(stage: Stage) -> None:
    folder = folder_of(ATTACKER)
    with listen(folder):
        os.chown(folder, ATTACKER, ATTACKER)
        assert os.getpid() not in stage.product.ps()
