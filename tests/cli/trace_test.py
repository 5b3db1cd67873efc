"""Traces: --trace has each process write its events, and `gpuroom trace` makes a file for viewers of them. What that has to look
like is described in public: "Trace Event Format", https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import SOURCE, preloads

pytestmark = preloads

PROGRAM = SOURCE / "tests" / "hostile" / "gpu_program.py"
OPTIONS = ("--sim", "1GiB,host=4GiB", "--hbm-limit", "256MiB", "--host-limit", "512MiB", "--resident-below", "384MiB")
MIB = 1 << 20


@pytest.fixture
def traced(gpuroom, tmp_path):
    """traced(line, ...) runs the program under --trace, has it do these, and kills it. Its process number, and the time before."""
    folder = f"/tmp/gpuroom-trace-{os.getpid()}"
    env = {"GPUROOM_CONTROL_DIR": folder, "GPUROOM_LEDGER": str(tmp_path.with_name(tmp_path.name + "-ledger"))}

    def run(*lines):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        before = time.time()
        process = gpuroom.start("run", *OPTIONS, "--trace", tmp_path / "t", "--", sys.executable, PROGRAM, env=env, **pipes)
        assert process.stdout.readline() == "ready\n"
        for line in lines:
            if line in ("sleep", "wake"):
                assert gpuroom(line, process.pid, env=env).returncode == 0
                continue
            process.stdin.write(line + "\n")
            process.stdin.flush()
            process.stdout.readline()
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        return process.pid, before

    yield run
    shutil.rmtree(folder, ignore_errors=True)


def check_format(trace):
    """Against the description: "JSON Object Format", and each event's "Complete", "Instant" and "Metadata Events"."""
    assert isinstance(trace["traceEvents"], list) and trace["displayTimeUnit"] in ("ms", "ns")
    for event in trace["traceEvents"]:
        assert isinstance(event["name"], str) and isinstance(event["args"], dict)
        assert type(event["pid"]) is int and type(event["tid"]) is int
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name") and isinstance(event["args"]["name"], str)
            continue
        assert event["ph"] in ("X", "i") and isinstance(event["cat"], str) and event["ts"] >= 0
        assert event["dur"] >= 0 if event["ph"] == "X" else event["s"] in ("g", "p", "t")


def events_of(gpuroom, *arguments):
    done = gpuroom("trace", *arguments, "-o", "-")
    assert (done.returncode, done.stderr) == (0, "")
    trace = json.loads(done.stdout)
    check_format(trace)
    return trace


def named(trace, name):
    return [event for event in trace["traceEvents"] if event["name"] == name]


def test_all_kinds_of_events_of_a_process_that_was_killed(gpuroom, traced, tmp_path):
    pid, before = traced("alloc 80", "alloc 80", "alloc 80", "alloc 64", "alloc 4096", "sleep", "wake")
    trace = events_of(gpuroom, tmp_path / "t")
    assert [path.name for path in tmp_path.iterdir()] == [f"t.{pid}"]
    assert {event["pid"] for event in trace["traceEvents"]} == {pid}
    allocations = named(trace, "allocation")
    assert [event["args"]["bytes"] for event in allocations] == [80 * MIB] * 3 + [64 * MIB]
    assert all(event["args"]["device"] == 0 and event["tid"] == pid for event in allocations)
    assert named(trace, "plan")[0]["args"]["bytes"] == 80 * MIB
    (yielded,) = named(trace, "give way")
    moved = sum(event["args"]["to_host_bytes"] for event in named(trace, "move"))
    assert yielded["args"]["bytes_moved"] == moved > 0
    assert len(named(trace, "standstill")) == 3 and all(event["args"]["reached"] == 1 for event in named(trace, "standstill"))
    (refusal,) = named(trace, "refusal")
    assert refusal["args"]["bytes"] == 4096 * MIB
    (sleep,), (wake,) = named(trace, "sleep"), named(trace, "wake")
    assert sleep["args"]["kept_bytes"] == wake["args"]["restored_bytes"] == 304 * MIB
    assert sleep["ts"] + sleep["dur"] <= wake["ts"]
    # The time of day, and what contains what.
    first = trace["baseTimeNanoseconds"] / 1e9 + allocations[0]["ts"] / 1e6
    assert before <= first <= time.time()
    assert allocations[3]["ts"] <= yielded["ts"] and yielded["ts"] + yielded["dur"] <= allocations[3]["ts"] + allocations[3]["dur"]


def test_each_process_has_a_file_and_one_can_be_chosen(gpuroom, traced, tmp_path):
    first, second = traced("alloc 80")[0], traced("alloc 64")[0]
    trace = events_of(gpuroom, tmp_path / "t")
    assert {event["pid"] for event in trace["traceEvents"]} == {first, second}
    trace = events_of(gpuroom, tmp_path / f"t.{second}")
    assert [event["args"]["bytes"] for event in named(trace, "allocation")] == [64 * MIB]


def test_beside_the_profiler_s(gpuroom, traced, tmp_path):
    traced("alloc 80")
    (whole,) = named(events_of(gpuroom, tmp_path / "t"), "allocation")
    base = events_of(gpuroom, tmp_path / "t")["baseTimeNanoseconds"]
    profiler = tmp_path / "profiler.json"
    theirs = {"ph": "X", "cat": "cpu_op", "name": "aten::empty", "pid": 1, "tid": 1, "ts": 7.5, "dur": 1, "args": {}}
    profiler.write_text(json.dumps({"schemaVersion": 1, "displayTimeUnit": "ms", "baseTimeNanoseconds": base - 1000000, "traceEvents": [theirs]}))
    both = events_of(gpuroom, tmp_path / "t", "--beside", profiler)
    assert named(both, "aten::empty") == [theirs] and both["schemaVersion"] == 1
    (allocation,) = named(both, "allocation")
    assert allocation["ts"] == pytest.approx(whole["ts"] + 1000, abs=0.001)


def test_the_result_goes_to_a_file(gpuroom, traced, tmp_path):
    traced("alloc 80")
    out = tmp_path / "out.json"
    done = gpuroom("trace", tmp_path / "t", "-o", out)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    check_format(json.loads(out.read_text()))


def test_a_process_that_used_no_gpu_has_no_file(gpuroom, tmp_path):
    done = gpuroom("run", *OPTIONS, "--trace", tmp_path / "t", "--", "true")
    assert done.returncode == 0 and list(tmp_path.iterdir()) == []


def test_mistakes_are_one_sentence(gpuroom, tmp_path):
    (tmp_path / "none").write_text("x" * 5000)
    for words, arguments in (
        (["name a trace"], ["trace", "-o", "-"]),
        (["-o trace.json"], ["trace", tmp_path / "none"]),
        (["--output needs a value"], ["trace", tmp_path / "none", "-o"]),
        (["not a trace"], ["trace", tmp_path / "none", "-o", "-"]),
        (["there is no", "absent.PID", "--trace"], ["trace", tmp_path / "absent", "-o", "-"]),
        (["--trace", "cannot be written"], ["run", "--trace", tmp_path / "no" / "t", "--", "true"]),
        (["--trace", "cannot be written", "folder"], ["run", "--trace", f"{tmp_path}/", "--", "true"]),
    ):
        gpuroom.refuses(2, *words, arguments=arguments)
