"""A server under `gpuroom run` (sleep_server.cc, on the simulated driver) sleeps and wakes by its number while its
clients go on asking: every answer is right and none is an error."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
from conftest import BUILD

SERVER = BUILD / "tests" / "cli" / "gpuroom_sleep_server"
OPTIONS = ("--sim", "1GiB,host=4GiB", "--host-limit", "1GiB")
MIB = 1 << 20
LONG = 60


def until(condition):
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class Server:
    def __init__(self, gpuroom, folder, *options, hbm="256MiB", **more):
        self.gpuroom, self.env = gpuroom, {"GPUROOM_CONTROL_DIR": folder, **more}
        self.process = gpuroom.start(
            "run", *OPTIONS, "--hbm-limit", hbm, *options, "--", SERVER, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.pid = self.process.pid
        self.socket = f"{folder}/{self.pid}.sock"
        port = self.process.stdout.readline()
        assert port, self.process.stderr.read()
        self.address = f"http://127.0.0.1:{int(port)}"

    def get(self, path):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.address}/{path}", timeout=LONG) as answer:
            return answer.read().decode()

    def ask(self, *arguments):
        """One of sleep and wake, which has to succeed; what it tells."""
        done = self.gpuroom(arguments[0], self.pid, *arguments[1:], "--json", env=self.env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["processes"][0]

    def state(self):
        done = self.gpuroom("ps", "--json", env=self.env)
        assert done.returncode == 0, done.stderr
        return {entry["pid"]: entry for entry in json.loads(done.stdout)["processes"]}.get(self.pid)

    def quit(self):
        assert self.get("quit") == "bye"
        _, errors = self.process.communicate(timeout=LONG)
        assert (self.process.returncode, errors) == (0, "")

    def kill(self):
        self.process.kill()
        self.process.communicate(timeout=LONG)


def servers(gpuroom, folder, *given, **settings):
    """For a fixture: what begins a server that has these options as well, and kills it when the test ends."""
    begun = []

    def begin(*options, **more):
        begun.append(Server(gpuroom, folder, *given, *options, **settings, **more))
        return begun[-1]

    yield begin
    for server in begun:
        server.kill()


@pytest.fixture
def start(gpuroom, folder):
    yield from servers(gpuroom, folder)


class Clients:
    """Threads that ask all the time, and notice every answer that is not right."""

    def __init__(self, server, count=3):
        self.server, self.answers, self.wrong, self.stop = server, 0, [], False
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.work, args=(number,)) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def work(self, number):
        turn = number
        while not self.stop:
            turn += 1
            path = f"fill/{turn % 4}/{turn}" if turn % 5 == 0 else f"check/{turn % 4}"
            try:
                answer = self.server.get(path)
            except OSError as error:
                answer = repr(error)
            with self.lock:
                self.answers += 1
                if answer != "0":
                    self.wrong.append((path, answer))

    def more(self):
        before = self.answers
        until(lambda: self.wrong or self.answers > before + 8)
        assert not self.wrong

    def end(self):
        self.stop = True
        for thread in self.threads:
            thread.join(LONG)
        assert not self.wrong and not any(thread.is_alive() for thread in self.threads)


def test_clients_notice_nothing_but_time(start, tmp_path):
    server = start()
    clients = Clients(server)
    ways = [(), ("--disk", tmp_path), ("--verify",), ("--tag", "weights"), ("--tag", "")]
    try:
        for turn in range(10):
            clients.more()
            told = server.ask("sleep", *ways[turn % len(ways)])
            assert told["ranges"] == (2 if "--tag" in ways[turn % len(ways)] else 4)
            assert told["kept_bytes"] + told["on_disk_bytes"] >= told["ranges"] * 24 * MIB
            assert server.state()["state"] in ("asleep", "partly asleep")
            assert server.ask("wake", *(["--lazy"] if turn % 2 else []))["ranges"] == told["ranges"]
            assert server.state()["state"] == "awake"
        clients.more()
    finally:
        server.ask("wake")
        clients.end()
    assert os.listdir(tmp_path) == []
    server.quit()
    assert not os.path.exists(server.socket)


def test_nothing_is_answered_while_it_sleeps(start):
    server = start()
    server.ask("sleep")
    clients = Clients(server, 1)
    time.sleep(0.3)
    assert clients.answers == 0
    server.ask("wake", "--tag", "weights")
    time.sleep(0.3)
    assert clients.answers == 0  # until everything is awake
    server.ask("wake")
    clients.more()
    clients.end()
    server.quit()


def test_memory_is_given_back_and_the_states_tell(start):
    server = start()
    awake = server.state()
    assert awake["awake_on_gpu_bytes"] >= 96 * MIB
    told = server.ask("sleep", "--drop-tag", "weights")
    assert (told["kept_bytes"], told["dropped_bytes"]) == (48 * MIB, 48 * MIB)
    assert told["released_bytes"] == 96 * MIB
    state = server.state()
    assert (state["kept_bytes"], state["dropped_bytes"]) == (48 * MIB, 48 * MIB)
    assert state["awake_on_gpu_bytes"] == awake["awake_on_gpu_bytes"] - 96 * MIB
    assert {tag["tag"]: tag["dropped_bytes"] for tag in state["tags"]} == {"": 0, "weights": 48 * MIB}
    server.ask("wake")
    assert server.get("check/3") == "0"  # kept
    assert server.get("fill/0/5") == server.get("check/0") == "0"  # dropped, and filled anew
    server.quit()


def test_launches_fail_where_that_was_asked_for(start):
    server = start()
    server.ask("sleep", "--on-launch", "fail")
    with pytest.raises(urllib.error.HTTPError):
        server.get("check/0")
    server.ask("wake")
    assert server.get("check/0") == "0"


def test_what_goes_wrong_leaves_it_awake(start, gpuroom, folder, tmp_path):
    server = start()
    env = {"GPUROOM_CONTROL_DIR": folder}
    gpuroom.refuses(2, "absent", arguments=["sleep", server.pid, "--tag", "absent"], env=env)
    gpuroom.refuses(2, str(server.pid), arguments=["sleep", server.pid, "--disk", tmp_path / "absent"], env=env)
    gpuroom.refuses(2, "GPUROOM_SLEEP_DIR", arguments=["sleep", server.pid, "--action", "disk"], env=env)
    assert server.state()["state"] == "awake" and server.get("check/1") == "0"
    server.quit()


def test_killed_while_asleep(start, tmp_path):
    """Nothing is left but the socket's name, and ps takes that away."""
    server = start()
    server.ask("sleep", "--disk", tmp_path)
    server.kill()
    assert os.listdir(tmp_path) == []
    assert os.path.exists(server.socket)
    assert server.state() is None
    assert not os.path.exists(server.socket)


def test_it_ends_well_while_asleep(start):
    server = start()
    server.ask("sleep")
    server.quit()
    assert not os.path.exists(server.socket)


def test_without_control_nobody_reaches_it(start, gpuroom, folder):
    server = start("--no-control")
    assert not os.path.exists(folder)
    gpuroom.refuses(
        4, str(server.pid), "--no-control", arguments=["sleep", server.pid], env={"GPUROOM_CONTROL_DIR": folder}
    )
    server.quit()


FORKS = """
import ctypes, os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
cuda = ctypes.CDLL("libcuda.so.1")
def use_gpu():
    context, at = ctypes.c_void_p(), ctypes.c_uint64()
    assert cuda.cuInit(0) == 0
    assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0 == cuda.cuCtxSetCurrent(context)
    assert cuda.cuMemAlloc_v2(ctypes.byref(at), ctypes.c_size_t(32 << 20)) == 0
if sys.argv[1] == "parent":
    use_gpu()
child = os.fork()
if child == 0:
    if sys.argv[1] == "child":
        use_gpu()
    print(os.getpid(), flush=True)
    sys.stdin.read()
    os._exit(0)
signal.sigwait([signal.SIGUSR1])
"""


@pytest.mark.parametrize("user", ["parent", "child"])
def test_only_the_process_that_uses_the_gpu_is_reached(gpuroom, folder, user):
    """A forked child keeps nothing of its parent's socket and has its own when it uses the GPU itself."""
    env = {"GPUROOM_CONTROL_DIR": folder}
    process = gpuroom.start(
        "run", *OPTIONS, "--", sys.executable, "-W", "ignore", "-c", FORKS, user,
        env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        check_forks(gpuroom, process, env, user)
    finally:
        process.kill()
        process.communicate(timeout=LONG)  # and the child ends with its input


def check_forks(gpuroom, process, env, user):
    child = int(process.stdout.readline())
    there = process.pid if user == "parent" else child
    listed = json.loads(gpuroom("ps", "--json", env=env).stdout)["processes"]
    assert [entry["pid"] for entry in listed] == [there]
    assert gpuroom("sleep", there, env=env).returncode == 0
    if user == "parent":
        process.send_signal(signal.SIGUSR1)
        assert process.wait(LONG) == 0
        os.kill(child, 0)  # lives, and does not answer in its parent's name
        assert not os.path.exists(f"{env['GPUROOM_CONTROL_DIR']}/{process.pid}.sock")
    assert gpuroom("wake", child, env=env).returncode == (4 if user == "parent" else 0)
