"""sleep, wake and ps: options, what is asked of a process and what is told of it, with a process that has the
real control socket and a core that only counts (control_double.cc). sleep_server_test.py has real programs."""

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import time

import pytest
from conftest import SIM, clean_environment
from doubles import DOUBLE, LONG, Double

GIB = 1 << 30
# Seconds within which an answer comes that waits for nobody in turn; the least that it took before was a minute.
SOON = 30


@pytest.fixture
def control(gpuroom, folder):
    """The command, asking in `folder`."""

    def ask(*arguments, **options):
        env = {"GPUROOM_CONTROL_DIR": folder, **options.pop("env", {})}
        return gpuroom(*arguments, env=env, **options)

    ask.env = {"GPUROOM_CONTROL_DIR": folder}
    return ask


@pytest.fixture
def double(folder):
    started = Double(folder)
    yield started
    started.kill()


def states(control):
    done = control("ps", "--json")
    assert done.returncode == 0, done.stderr
    return {process["pid"]: process for process in json.loads(done.stdout)["processes"]}


def raw(path, text):
    """What the socket answers to `text`."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(LONG)
        client.connect(path)
        client.sendall(text)
        parts = []
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts).decode()


class Silent:
    """A name under which this process listens and never answers."""

    def __init__(self, folder):
        os.makedirs(folder, 0o700, exist_ok=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(f"{folder}/{os.getpid()}.sock")
        self.listener.listen()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


def dead_names(folder, count):
    """Live processes under whose numbers nobody listens, as after an exec: the numbers, and what ends them."""
    os.makedirs(folder, 0o700, exist_ok=True)
    processes = [subprocess.Popen(["sleep", "600"]) for _ in range(count)]
    for process in processes:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{folder}/{process.pid}.sock")

    def end():
        for process in processes:
            process.kill()
            process.wait(timeout=LONG)

    return [process.pid for process in processes], end


def sockets_of(pid):
    """How many sockets a process has open."""
    folder = f"/proc/{pid}/fd"
    count = 0
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(f"{folder}/{name}").startswith("socket:")
    return count


def stands_still(pid):
    """Whether all threads of a process are stopped: the signal alone is no more than a request."""
    folder = f"/proc/{pid}/task"
    for thread in os.listdir(folder):
        with open(f"{folder}/{thread}/stat", encoding="utf-8") as file:
            if file.read().rpartition(")")[2].split()[0] != "T":
                return False
    return True


def until(condition):
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_sleep_and_wake(control, double):
    done = control("sleep", double.pid)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"process {double.pid} gave 7.0 GiB of GPU memory back in 1.500 s: 7.0 GiB kept in host memory\n"
    )
    assert states(control)[double.pid]["state"] == "asleep"
    assert "nothing to put to sleep" in control("sleep", double.pid).stdout
    done = control("wake", double.pid)
    assert done.returncode == 0 and "7.0 GiB restored" in done.stdout
    assert states(control)[double.pid]["state"] == "awake"
    assert "nothing to wake" in control("wake", double.pid).stdout


def test_tags_and_actions(control, double):
    assert control("sleep", double.pid, "--tag", "kv cache", "--action", "drop").returncode == 0
    process = states(control)[double.pid]
    assert process["state"] == "partly asleep"
    assert (process["dropped_bytes"], process["awake_on_gpu_bytes"]) == (2 * GIB, 5 * GIB)
    by_tag = {tag["tag"]: tag["state"] for tag in process["tags"]}
    assert by_tag == {"": "awake", "weights": "awake", "kv cache": "asleep"}
    done = control("wake", double.pid, "--tag", "kv cache", "--tag=weights", "--lazy")
    assert "2.0 GiB made anew" in done.stdout and "still in host memory" in done.stdout
    # Everything on disk but for one tag, and the tag of memory that has none.
    done = control("sleep", double.pid, "--disk", "/somewhere", "--drop-tag", "kv cache", "--json")
    (result,) = json.loads(done.stdout)["processes"]
    assert (result["pid"], result["result"]) == (double.pid, "ok")
    assert (result["on_disk_bytes"], result["dropped_bytes"], result["seconds"]) == (5 * GIB, 2 * GIB, 1.5)
    done = control("wake", double.pid, "--tag", "", "--json")
    assert json.loads(done.stdout)["processes"][0]["kept_bytes"] == GIB


def test_what_cannot_sleep_is_told(control, double):
    assert "; 512 MiB cannot sleep and stays" in control("sleep", double.pid, "--verify").stdout


def test_several_processes_and_all(control, folder, double):
    second = Double(folder)
    try:
        done = control("sleep", double.pid, 4194304, second.pid, "--json")
        assert done.returncode == 4 and "there is no process 4194304" in done.stderr
        results = json.loads(done.stdout)["processes"]
        assert [entry["result"] for entry in results] == ["ok", "unreachable", "ok"]
        assert control("wake", "--all").stdout.count("restored") == 2
        assert set(states(control)) == {double.pid, second.pid}
    finally:
        assert second.end() == 0
    assert not os.path.exists(second.socket)
    assert set(states(control)) == {double.pid}


def test_nobody_there(control):
    done = control("ps")
    assert (done.returncode, done.stdout) == (0, "no process is under gpuroom and uses a GPU\n")
    assert json.loads(control("ps", "--json").stdout) == {"processes": []}
    assert control("sleep", "--all").returncode == 0


def test_ps_shows_tags_in_a_table(control, double):
    control("sleep", double.pid, "--drop-tag", "kv cache")
    lines = control("ps").stdout.splitlines()
    assert [word for word in lines[0].split()][:3] == ["PID", "USER", "STATE"]
    assert str(double.pid) in lines[1] and "asleep" in lines[1] and "gpuroom_control_double" in lines[1]
    assert len(lines) == 5
    assert "without a tag" in lines[2] and "tag weights" in lines[3] and "4.0 GiB" in lines[3]
    assert "tag kv cache" in lines[4] and "2.0 GiB" in lines[4]


def test_bad_tag_and_no_room_are_the_process_s_own_sentences(control, gpuroom, double):
    gpuroom.refuses(
        2, f"process {double.pid}", "no memory has ever had this tag",
        arguments=["sleep", double.pid, "--tag", "absent"], env=control.env,
    )  # fmt: skip
    gpuroom.refuses(
        6, "no room for the backups; give --disk DIR, or --drop-tag",
        arguments=["sleep", double.pid, "--disk", "/full"], env=control.env,
    )  # fmt: skip
    assert states(control)[double.pid]["state"] == "awake"


def test_processes_that_cannot_be_asked(control, gpuroom, double):
    gpuroom.refuses(4, "there is no process 4194304", arguments=["sleep", 4194304], env=control.env)
    gpuroom.refuses(
        4, str(os.getpid()), "'gpuroom run'", arguments=["wake", os.getpid()], env=control.env
    )
    if os.getuid() != 0:
        gpuroom.refuses(5, "process 1 ", "as root", arguments=["sleep", 1], env=control.env)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["sleep"], ["name the process", "gpuroom ps"]),
        (["wake"], ["name the process", "gpuroom wake 1234"]),
        (["sleep", "me"], ["'me' is not the number of a process"]),
        (["sleep", "0"], ["'0' is not the number"]),
        (["sleep", "99999999999"], ["is not the number"]),
        (["sleep", "1", "--all"], ["not both"]),
        (["sleep", "1", "--action", "eat"], ["--action 'eat'", "keep, disk or drop"]),
        (["sleep", "1", "--action", "stay"], ["--action 'stay'"]),
        (["sleep", "1", "--action", "keep", "--disk", "/"], ["--disk", "leave one out"]),
        (["sleep", "1", "--on-launch", "crash"], ["--on-launch 'crash'", "wait, fail or pass"]),
        (["sleep", "1", "--on-launch", "none"], ["--on-launch 'none'"]),
        (["sleep", "1", "--tag", "a", "--drop-tag", "a"], ["'a' is both"]),
        (["sleep", "1", "--tag"], ["--tag needs a value"]),
        (["sleep", "1", "--tag", "--json"], ["--tag needs a value"]),
        (["sleep", "1", "--tga", "x"], ["unknown option '--tga'", "did you mean '--tag'"]),
        (["wake", "1", "--lasy"], ["did you mean '--lazy'"]),
        (["ps", "1"], ["'1' is not an option of 'ps'"]),
    ],
)
def test_bad_usage(gpuroom, arguments, words):
    gpuroom.refuses(2, *words, arguments=arguments)


@pytest.mark.parametrize("how", ["kill", "leave"])
def test_what_a_dead_process_left_behind_is_cleaned(control, gpuroom, double, how):
    double.process.kill() if how == "kill" else double.tell("leave")
    double.process.wait(timeout=LONG)
    assert os.path.exists(double.socket)
    gpuroom.refuses(4, "there is no process", arguments=["sleep", double.pid], env=control.env)
    assert states(control) == {}
    assert not os.path.exists(double.socket)


def test_a_name_whose_number_another_process_has_now_is_cleaned(control, gpuroom, folder):
    os.mkdir(folder, 0o700)
    name = f"{folder}/{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
    gpuroom.refuses(
        4, f"nobody answers for process {os.getpid()}", arguments=["wake", os.getpid()], env=control.env
    )
    assert not os.path.exists(name)


def test_sixty_dead_names_and_a_silent_socket_keep_nobody_waiting(control, folder, double):
    pids, end = dead_names(folder, 60)
    try:
        with Silent(folder):
            done = control("ps", "--json", timeout=SOON)
        shown = {process["pid"]: process for process in json.loads(done.stdout)["processes"]}
        assert {pid: process["state"] for pid, process in shown.items()} == {double.pid: "awake", os.getpid(): "no answer"}
        assert not any(os.path.exists(f"{folder}/{pid}.sock") for pid in pids)
    finally:
        end()


def test_several_silent_processes_are_waited_for_at_once(control, folder, double):
    silent = [Double(folder) for _ in range(12)]
    try:
        for one in silent:
            one.process.send_signal(signal.SIGSTOP)
            until(lambda one=one: stands_still(one.pid))
        done = control("ps", "--json", timeout=SOON)
        found = [process["state"] for process in json.loads(done.stdout)["processes"]]
        assert sorted(found) == ["awake"] + ["no answer"] * 12
        done = control("sleep", "--all", timeout=SOON)
        assert done.returncode == 1
        assert f"process {double.pid} gave 7.0 GiB" in done.stdout
        assert done.stderr.count("does not answer") == 12
    finally:
        for one in silent:
            one.process.kill()
            one.process.communicate(timeout=LONG)


def test_programs_that_others_replaced_are_forgotten_at_once(control, gpuroom, folder):
    replaced = [Double(folder) for _ in range(8)]
    try:
        for one in replaced:
            one.tell("exec")
            until(lambda one=one: os.readlink(f"/proc/{one.pid}/exe").endswith("sleep"))
        done = control("sleep", *(one.pid for one in replaced), timeout=SOON)
        assert done.returncode == 4
        for one in replaced:
            assert f"nobody answers for process {one.pid}" in done.stderr
        assert not any(os.path.exists(one.socket) for one in replaced)
        assert states(control) == {}
    finally:
        for one in replaced:
            one.process.kill()
            one.process.communicate(timeout=LONG)


def test_a_number_with_leading_zeros_is_no_other_process(control, folder, double):
    os.link(double.socket, f"{folder}/00{double.pid}.sock")
    listed = json.loads(control("ps", "--json").stdout)["processes"]
    assert [process["pid"] for process in listed] == [double.pid]
    done = control("sleep", double.pid, f"00{double.pid}", "--json")
    assert [entry["pid"] for entry in json.loads(done.stdout)["processes"]] == [double.pid]


def test_one_that_had_no_room_beside_others_is_asked_again_alone(control, folder, double):
    """Each backup fits by itself: what fails because two are made at once is not told as a failure."""
    second = Double(folder)
    try:
        done = control("sleep", double.pid, second.pid, "--disk", "/full-at-first", "--json")
        assert done.returncode == 0, done.stderr
        results = json.loads(done.stdout)["processes"]
        assert [entry["result"] for entry in results] == ["ok", "ok"]
        assert done.stderr == ""
    finally:
        assert second.end() == 0


def test_ps_touches_only_its_own_kind_of_names(control, folder, double):
    others = [f"{folder}/notes.txt", f"{folder}/1.sock"]
    for path in others:
        with open(path, "w", encoding="utf-8"):
            pass
    assert set(states(control)) == {double.pid}
    assert all(os.path.exists(path) for path in others)


def test_a_program_that_closes_all_descriptors_can_be_asked_again(control, double):
    assert states(control)[double.pid]["state"] == "awake"  # its thread runs
    for _ in range(3):
        double.tell("close")
        assert control("sleep", double.pid).returncode == 0
        assert control("wake", double.pid).returncode == 0


def test_a_status_is_answered_and_ctrl_c_explains_itself_while_a_sleep_takes_long(control, gpuroom, double):
    asking = gpuroom.start(
        "sleep", double.pid, "--disk", "/slow", env=control.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    until(lambda: states(control)[double.pid]["state"] == "falling asleep")
    assert states(control)[double.pid]["fresh"] is False
    asking.send_signal(signal.SIGINT)
    _, errors = asking.communicate(timeout=LONG)
    assert asking.returncode == 130
    assert f"the sleep goes on in process {double.pid}" in errors
    double.tell("go on")
    until(lambda: states(control)[double.pid]["state"] == "asleep")


def test_ctrl_c_keeps_the_answers_that_came_before(control, gpuroom, folder, double):
    slow = Double(folder)
    try:
        arguments = ("sleep", double.pid, slow.pid, "--disk", "/slow", "--json")
        double.tell("go on")
        asking = gpuroom.start(*arguments, env=control.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until(lambda: states(control)[slow.pid]["state"] == "falling asleep")
        until(lambda: states(control)[double.pid]["state"] == "asleep" and sockets_of(asking.pid) == 1)
        asking.send_signal(signal.SIGINT)
        output, errors = asking.communicate(timeout=LONG)
        assert asking.returncode == 130
        assert f"the sleep goes on in process {slow.pid}" in errors
        (answered,) = json.loads(output)["processes"]
        assert (answered["pid"], answered["result"]) == (double.pid, "ok")
    finally:
        slow.process.kill()
        slow.process.communicate(timeout=LONG)


def test_a_terminal_is_told_that_it_waits(control, gpuroom, double):
    ours, theirs = pty.openpty()
    asking = gpuroom.start("sleep", double.pid, "--disk", "/slow", env=control.env, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    text = b""
    while f"waiting for process {double.pid} ...".encode() not in text:
        text += os.read(ours, 1024)
    double.tell("go on")
    asking.communicate(timeout=LONG)
    assert asking.returncode == 0
    os.close(ours)


def test_a_process_that_dies_while_it_sleeps_is_told(control, gpuroom, double):
    asking = gpuroom.start("sleep", double.pid, "--disk", "/slow", env=control.env, stderr=subprocess.PIPE)
    until(lambda: states(control)[double.pid]["state"] == "falling asleep")
    double.process.kill()
    _, errors = asking.communicate(timeout=LONG)
    assert asking.returncode == 4 and f"process {double.pid} ended before it answered" in errors


def test_a_process_that_ends_before_it_comes_to_a_request_is_told(control, gpuroom, double):
    first = gpuroom.start("sleep", double.pid, "--disk", "/slow", env=control.env)
    until(lambda: states(control)[double.pid]["state"] == "falling asleep")
    second = gpuroom.start("wake", double.pid, env=control.env, stderr=subprocess.PIPE)
    until(lambda: sockets_of(double.pid) == 3)  # its own, and one for each who asks
    states(control)  # which is answered after the request before it was taken
    double.tell("end")
    _, errors = second.communicate(timeout=LONG)
    assert second.returncode == 4 and f"process {double.pid} ended before it answered" in errors
    first.wait(timeout=LONG)


def test_a_library_of_another_version_is_named(control, gpuroom, folder):
    os.mkdir(folder, 0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/{os.getpid()}.sock")
        listener.listen()
        asking = gpuroom.start("sleep", os.getpid(), env=control.env, stderr=subprocess.PIPE)
        while True:  # the first one only looks who is there
            client, _ = listener.accept()
            with client:
                if client.recv(4096).startswith(b"gpuroom 1 sleep"):
                    client.sendall(b"gpuroom 7 sorry\n")
                    break
        _, errors = asking.communicate(timeout=LONG)
    assert asking.returncode == 1 and "runs another version of gpuroom's library" in errors


def test_the_protocol_of_the_document(double):
    """docs/sleep.md shows a conversation as it takes place."""
    assert raw(double.socket, b"gpuroom 1 sleep do=drop:kv%20cache rest=keep hold=wait\n") == (
        "gpuroom 1 ok\n"
        "report ranges=3 kept=5368709120 on_disk=0 dropped=2147483648 released=7516192768 left_awake=0"
        " nanoseconds=1500000000\n"
        "end\n"
    )
    assert raw(double.socket, b"gpuroom 2 status\n").startswith("gpuroom 1 unsupported text=")


def test_a_folder_that_others_may_read_is_refused_and_the_program_runs(folder, tmp_path):
    os.mkdir(folder, 0o755)
    os.chmod(folder, 0o755)
    env = clean_environment(GPUROOM_CONTROL="1", GPUROOM_CONTROL_DIR=folder)
    done = subprocess.run([DOUBLE], env=env, text=True, input="", capture_output=True, timeout=LONG, check=True)
    assert "open to other users; make it private with chmod 700" in done.stderr
    assert os.listdir(folder) == []


def test_run_offers_control_unless_told_otherwise(gpuroom):
    assert gpuroom.plan(*SIM, "--", "true")["environment"]["GPUROOM_CONTROL"] == "1"
    plan = gpuroom.plan(*SIM, "--no-control", "--", "true", env={"GPUROOM_CONTROL": "1"})
    assert "GPUROOM_CONTROL" not in plan["environment"]
    assert "GPUROOM_CONTROL" in plan["environment_removed"]


def test_hint(control, double):
    done = control("hint", "cold", double.pid)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"process {double.pid}: 3 allocations are now cold\n", "")
    done = control("hint", "none", double.pid, "--tag", "weights")
    assert done.stdout == f"process {double.pid}: 1 allocation is now without a hint\n"
    done = control("hint", "hot", "--all", "--json", "--tag", "weights", "--tag", "")
    assert json.loads(done.stdout) == {"processes": [{"pid": double.pid, "result": "ok", "ranges": 2}]}


def test_a_hint_that_cannot_be_given(gpuroom, control, double):
    gpuroom.refuses(2, "no memory has ever had this tag", arguments=["hint", "hot", double.pid, "--tag", "x"], env=control.env)
    gpuroom.refuses(2, "'warm' is no hint", "hot, cold, stream or none", arguments=["hint", "warm", double.pid])
    gpuroom.refuses(2, "name the hint first", arguments=["hint"])
    gpuroom.refuses(2, "'gpuroom hint hot 1234'", arguments=["hint", "hot"])
    gpuroom.refuses(4, "no process 1048577", arguments=["hint", "hot", "1048577"], env=control.env)
