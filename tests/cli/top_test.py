"""`gpuroom top --once` and `--json`, and what is said where the view cannot be had. The processes have the real control socket and
a core that only counts (control_double.cc); tests/top has the view."""

import contextlib
import json
import os
import pty
import subprocess

import pytest
from conftest import clean_environment
from doubles import LONG, Double

GIB = 1 << 30


@pytest.fixture
def top(gpuroom, folder):
    def ask(*arguments):
        done = gpuroom("top", *arguments, env={"GPUROOM_CONTROL_DIR": folder})
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return ask


@pytest.fixture
def doubles(folder):
    """On GPU 0, 0 and 4, of which the last is next to the second NUMA node."""
    with contextlib.ExitStack() as stack:
        started = [Double(folder, gpu) for gpu in (0, 0, 4)]
        for double in started:
            stack.callback(double.kill)
        yield started


def test_json_has_gpus_with_what_their_processes_have(top, doubles):
    look = json.loads(top("--once", "--json"))
    assert look["version"] == 1 and look["seconds"] > 0
    first, second = (gpu for gpu in look["gpus"] if gpu["processes"])  # a real GPU may be beside them
    assert first["uuid"].endswith("0000") and second["uuid"].endswith("0004")
    assert first["hbm_bytes"] == {"used": 20 * GIB, "total": 80 * GIB}  # the largest limit
    assert (first["peer_bytes"], first["host_bytes"], first["processes"]) == (2 * GIB, 6 * GIB, 2)
    assert first["name"] is None and first["link_bytes_per_second"] is None
    assert look["host_bytes"] == {"limit": 256 * GIB, "used": 9 * GIB, "unclaimed": 200 * GIB}


def test_json_has_the_processes_that_ps_has(top, doubles, gpuroom, folder):
    look = json.loads(top("--once", "--json"))
    listed = json.loads(gpuroom("ps", "--json", env={"GPUROOM_CONTROL_DIR": folder}).stdout)["processes"]
    for shown, other in zip(look["processes"], listed):
        assert shown.keys() - {"misplaced"} == other.keys() and shown["pid"] == other["pid"]
    misplaced = {process["pid"]: process["misplaced"] for process in look["processes"]}
    assert misplaced[doubles[0].pid] == []
    assert f"process {doubles[2].pid}" in misplaced[doubles[2].pid][0] and "NUMA node 0" in misplaced[doubles[2].pid][0]


def test_text(top, doubles):
    lines = top("--once").splitlines()
    assert lines[0].split() == ["GPU", "NAME", "HBM", "OF", "PEER", "HOST", "PROCESSES", "HOST", "LINK"]
    assert any("9.0 GiB of the node's 256 GiB are in use, 200 GiB are unclaimed" in line for line in lines)
    for double in doubles:
        (line,) = (line for line in lines if line.split()[:1] == [str(double.pid)])
        assert "awake" in line and "10.0 GiB" in line
        (refusal,) = (line for line in lines if line.startswith(f"process {double.pid}: refused"))
        assert refusal.endswith("refused 300 GiB on GPU 0 (out_of_memory): host memory is used up")
    assert any(line.startswith(f"process {doubles[2].pid}: its host memory is on NUMA node 0") for line in lines)


def test_one_that_sleeps(top, doubles, gpuroom, folder):
    assert gpuroom("sleep", doubles[1].pid, env={"GPUROOM_CONTROL_DIR": folder}).returncode == 0
    (line,) = (line for line in top("--once").splitlines() if line.split()[:1] == [str(doubles[1].pid)])
    assert "asleep" in line and "7.0 GiB" in line


def test_without_processes(top, folder):
    assert "no process is under gpuroom" in top("--once")
    assert json.loads(top("--once", "--json"))["processes"] == []


def test_each_look_is_a_line(gpuroom, folder, doubles):
    env = {"GPUROOM_CONTROL_DIR": folder}
    process = gpuroom.start("top", "--json", "--interval", "1", env=env, stdout=subprocess.PIPE)
    first, second = (json.loads(process.stdout.readline()) for _ in range(2))
    assert second["seconds"] > first["seconds"]
    moved = [look["processes"][0]["stats"]["gpus"][0]["moved_bytes"]["to_host"] for look in (first, second)]
    assert moved[1] > moved[0]
    process.stdout.close()  # nobody reads any more
    assert process.wait(timeout=LONG) != 0


@pytest.mark.parametrize("interval", ["0", "3601", "1.5", "-1", "x"])
def test_an_interval_that_is_none_is_refused(gpuroom, interval):
    gpuroom.refuses(2, "--interval", "from 1 to 3600", arguments=["top", "--once", f"--interval={interval}"])


def test_the_view_needs_a_terminal(gpuroom):
    gpuroom.refuses(2, "terminal", "--once", arguments=["top"])


def has_textual(python):
    return subprocess.run([python, "-c", "import textual"], capture_output=True).returncode == 0


@pytest.mark.skipif(has_textual("/usr/bin/python3"), reason="the distribution's Python has Textual")
def test_the_view_says_what_it_needs(gpuroom, script):
    script("python3", "#!/bin/sh\nexit 1\n")
    ours, theirs = pty.openpty()
    folder = script("x", "").parent
    env = clean_environment(PATH=f"{folder}:/bin")
    done = subprocess.run([gpuroom.binary, "top"], env=env, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, text=True, timeout=LONG)
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "pip install 'gpuroom[top]'" in done.stderr and "--once" in done.stderr
