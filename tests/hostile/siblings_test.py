"""What a hostile process of the same user can do to others: nothing but cost them a bounded time.

It could kill them, so this is no boundary. But what is broken behaves as what is hostile."""

import array
import fcntl
import os
import shutil
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from conftest import FULL, LONG, Stage, listen, until


@pytest.fixture
def folder() -> Iterator[str]:
    """Of control sockets. A short path: sockets' paths have at most 107 bytes."""
    path = tempfile.mkdtemp(prefix="gpuroom-siblings-", dir="/tmp")
    yield path
    shutil.rmtree(path, ignore_errors=True)


def serve(folder: str, answer: Callable[[socket.socket], None]) -> socket.socket:
    """Listens as what it is and meets each client with `answer`."""
    listener = listen(folder)

    def run() -> None:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=meet, args=(client,), daemon=True).start()

    def meet(client: socket.socket) -> None:
        try:
            with client:
                answer(client)
        except OSError:
            pass  # it has heard enough

    threading.Thread(target=run, daemon=True).start()
    return listener


def drip(client: socket.socket) -> None:
    client.sendall(b"gpuroom 1 ok\n")
    while True:
        client.sendall(b"tag name=x\n")
        time.sleep(0.05)


def pour(client: socket.socket) -> None:
    block = b"x" * (1 << 20)
    while True:
        client.sendall(block)


def say(text: bytes) -> Callable[[socket.socket], None]:
    """Takes the request and answers `text`."""

    def answer(client: socket.socket) -> None:
        client.recv(65536)
        client.sendall(text)

    return answer


# How a process answers that is not one of ours, and what `ps` shows of it.
ANSWERS: dict[str, tuple[Callable[[socket.socket], None], list[str] | None]] = {
    "silence": (lambda client: threading.Event().wait(), ["no answer"]),
    "an end at once": (lambda client: None, ["no answer"]),
    "an end after the request": (say(b""), ["no answer"]),
    "a drip": (drip, ["no answer"]),
    "a flood without lines": (pour, None),
    "garbage": (say(os.urandom(4096) + b"\n"), ["no answer"]),
    "zeros": (say(b"\0" * 100000), None),
    "half an answer": (say(b"gpuroom 1 ok\nprocess version=1 doing=noth"), None),
    "another version": (say(b"gpuroom 77 ok\nend\n"), ["no answer"]),
    "huge numbers": (say(b"gpuroom 1 ok\ntag name=a awake=99999999999999999999\nend\n"), ["awake"]),
    "numbers that overflow": (
        say(b"gpuroom 1 ok\n" + b"tag name=a awake=18446744073709551615 kept=18446744073709551615\n" * 2 + b"end\n"),
        ["partly asleep"],
    ),
    "a long name": (say(b"gpuroom 1 ok\ntag name=" + b"n" * 100000 + b"\nend\n"), ["awake"]),
    "a terminal's commands": (say(b"gpuroom 1 ok\ntag name=%1B%5B2J%00%0A\nend\n"), ["awake"]),
    "a broken encoding": (say(b"gpuroom 1 ok\ntag name=%zz\nend\n"), ["no answer"]),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_one_that_answers_badly_hides_nobody(stage: Stage, folder: str, answer: str) -> None:
    env = {"GPUROOM_CONTROL_DIR": folder}
    double = stage.double(**env)
    action, expected = ANSWERS[answer]
    bad = stage.attack(lambda: serve(folder, action))
    shown = stage.product.ps(env=env)
    assert shown.pop(double.pid) == ["awake"]
    assert shown.pop(bad.pid, None) == expected
    assert shown == {}
    if expected != ["no answer"]:
        assert stage.product("ps", env=env).stdout.replace("\n", "").isprintable()


def test_all_of_them_at_once_keep_nobody_from_going_to_sleep(stage: Stage, folder: str) -> None:
    env = {"GPUROOM_CONTROL_DIR": folder}
    for action, _ in ANSWERS.values():
        if action is not drip:  # which looks like a sleep that takes its time
            stage.attack(lambda action=action: serve(folder, action))
    doubles = [stage.double(**env) for _ in range(2)]
    done = stage.product("sleep", "--all", env=env)  # ended after SOON
    assert done.returncode != 0
    for double in doubles:
        assert f"process {double.pid} gave 7.0 GiB" in done.stdout


def test_bad_clients_keep_nobody_from_being_answered(stage: Stage, folder: str) -> None:
    env = {"GPUROOM_CONTROL_DIR": folder}
    double = stage.double(**env)
    path = f"{folder}/{double.pid}.sock"
    requests = [b"", b"gpuroom 1 sta", b"\0" * 1000, b"gpuroom 1 sleep do=", b"x" * 70000, os.urandom(1000)]

    def pester() -> list[socket.socket]:
        clients = []
        for _ in range(10):
            for request in requests:
                client = socket.socket(socket.AF_UNIX)
                client.connect(path)
                try:
                    client.sendall(request)
                except OSError:
                    pass  # refused
                clients.append(client)
        return clients

    stage.attack(pester)
    assert stage.product.ps(env=env) == {double.pid: ["awake"]}
    assert stage.product("sleep", double.pid, env=env).returncode == 0


def test_descriptors_that_come_with_a_request_are_not_kept(stage: Stage, folder: str) -> None:
    env = {"GPUROOM_CONTROL_DIR": folder}
    double = stage.double(**env)
    descriptors = f"/proc/{double.pid}/fd"
    before = len(os.listdir(descriptors))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{folder}/{double.pid}.sock")
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 100))
        client.sendmsg([b"gpuroom 1 status\n"], [rights])
        assert client.recv(4096).startswith(b"gpuroom 1 ok")
    until(lambda: len(os.listdir(descriptors)) == before)


def test_requests_that_are_taken_away_again_harm_nobody(stage: Stage, folder: str) -> None:
    env = {"GPUROOM_CONTROL_DIR": folder}
    double = stage.double(**env)
    for verb in (b"sleep", b"wake", b"status") * 20:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{folder}/{double.pid}.sock")
            client.sendall(b"gpuroom 1 " + verb + b"\n")
    assert stage.product("sleep", double.pid, env=env).returncode == 0
    assert stage.product.ps(env=env) == {double.pid: ["asleep"]}


# The ledger: a file of this user's, which one of its processes may have spoilt.
F_OFD_SETLK = 37  # the fcntl module has it from Python 3.9 on, where the C library does


def hold_every_lock(path: str) -> int:
    """The table's, and every slot's but the first, which is taken."""
    ledger = os.open(path, os.O_RDWR)
    for start, length in ((0, 1), (2, 0)):
        fcntl.fcntl(ledger, F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, start, length, 0))
    return ledger


def write_garbage(path: str) -> None:
    with open(path, "r+b") as ledger:
        ledger.write(os.urandom(os.path.getsize(path)))


def make_sparse(path: str) -> None:
    os.truncate(path, 1 << 40)


SPOILS: dict[str, Callable[[str], object]] = {
    "garbage": write_garbage,
    "nothing": lambda path: os.truncate(path, 0),
    "a terabyte of nothing": make_sparse,
    "another's locks": hold_every_lock,
    "no name": os.unlink,
    "a fifo": lambda path: (os.unlink(path), os.mkfifo(path)),
    "a link to nothing": lambda path: (os.unlink(path), os.symlink(path + ".nothing", path)),
    "two names": lambda path: os.link(path, path + ".second"),
    "no rights": lambda path: os.chmod(path, 0),
    "everybody's rights": lambda path: os.chmod(path, 0o666),
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_spoilt_ledger_neither_hangs_nor_ends_a_program(stage: Stage, folder: str, spoil: str) -> None:
    env = {"GPUROOM_LEDGER": f"{folder}/ledger"}
    before = stage.program(**env)
    assert before.ask("alloc 64") == "0"
    assert before.ask(f"alloc {FULL}") == "0"
    stage.attack(lambda: SPOILS[spoil](env["GPUROOM_LEDGER"]))
    # Whether the host budget counts is another matter: those who spoil it are of the same user.
    assert before.ask("alloc 32") in ("0", "2")
    after = stage.program(**env)
    assert after.ask("alloc 64") == "0"
    assert after.ask(f"alloc {FULL}") in ("0", "2")
    assert not os.path.lexists(env["GPUROOM_LEDGER"] + ".nothing")


# The memory socket: who opens a handle asks the process that the handle names.
def abstract(name: int) -> str:
    return f"\0gpuroom-{name:016x}"


def renamed(handle: str, name: int) -> str:
    """The same handle, with the socket of another process."""
    raw = bytearray(bytes.fromhex(handle))
    struct.pack_into("<Q", raw, 24, name)
    return raw.hex()


MAGIC = 0x9EC46370696D7267 + 1
# What passes for an exporter's first answer: bytes asked for, bytes, chunks.
REPLIES: dict[str, bytes] = {
    "nothing at all": b"",
    "half a reply": struct.pack("<QQ", MAGIC, 1),
    "garbage": os.urandom(48),
    "no memory": struct.pack("<QQQII16x", MAGIC, 0, 0, 0, 0),
    "more chunks than bytes": struct.pack("<QQQII16x", MAGIC, 1 << 21, 1 << 21, 0xFFFFFFFF, 0),
    "more bytes than there are": struct.pack("<QQQII16x", MAGIC, 1 << 62, 1 << 62, 1, 0),
    "no chunks behind it": struct.pack("<QQQII16x", MAGIC, 1 << 21, 1 << 21, 1, 0),
    "too long a reply": struct.pack("<QQQII16x", MAGIC, 1 << 21, 1 << 21, 1, 0) * 100,
}


@pytest.mark.parametrize("reply", REPLIES)
def test_an_exporter_that_lies_is_an_error_of_the_importers_call(stage: Stage, reply: str) -> None:
    exporter, importer = stage.program(), stage.program()
    assert exporter.ask("alloc 64") == "0"
    handle = exporter.ask("export")
    name = os.getpid() << 16 | 7

    def lie() -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(abstract(name))
        listener.listen()

        def run() -> None:
            while True:
                client, _ = listener.accept()
                with client:
                    client.recv(4096)
                    if REPLIES[reply]:
                        client.send(REPLIES[reply])
                        client.recv(4096)

        threading.Thread(target=run, daemon=True).start()
        return listener

    stage.attack(lie)
    assert importer.ask("open " + renamed(handle, name)) == "1"
    assert importer.ask(f"open {handle}") == "0"  # and no harm was done


def test_a_silent_exporter_costs_its_importer_a_bounded_time(stage: Stage) -> None:
    exporter, importer = stage.program(), stage.program()
    assert exporter.ask("alloc 64") == "0"
    handle = exporter.ask("export")
    name = os.getpid() << 16 | 8

    def stay_silent() -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(abstract(name))
        listener.listen()
        return listener

    stage.attack(stay_silent)
    answered: list[str] = []
    waiting = threading.Thread(target=lambda: answered.append(importer.ask("open " + renamed(handle, name))))
    waiting.start()
    waiting.join(timeout=LONG)
    assert answered == ["1"]
    assert "did not answer in time" in importer.log.read_text()
