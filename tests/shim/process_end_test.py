"""What a process says as it ends, however it ends: workers of Python's multiprocessing leave by os._exit, servers'
children by quick_exit or from a signal's handler. It says it once, and only what used the GPU says anything."""
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys

import pytest
from guest_test import run_with_stderr
from preload_test import PROGRAM, SHIM, run

# PROGRAM ends here, with its memory still allocated.
ALLOCATES = PROGRAM.rsplit("check(cuda.cuMemFree_v2(pointer))", 1)[0]
LEAVE_AT_ONCE = {
    "os._exit": "import os; os._exit(7)",
    "_Exit": "ctypes.CDLL(None)._Exit(7)",
    "quick_exit": "ctypes.CDLL(None).quick_exit(7)",
    # exit's handlers run first, and one of them leaves at once.
    "in a handler of exit": "import atexit, os, sys; atexit.register(os._exit, 7); sys.exit(1)",
}


def lines(path):
    return [json.loads(text) for text in path.read_text().splitlines()]


def run_and_report(program, tmp_path, **more):
    stats = tmp_path / "stats"
    done = run([sys.executable, "-c", program], tmp_path, GPUROOM_REPORT="1", GPUROOM_STATS_FILE=str(stats), **more)
    return done, lines(stats) if stats.exists() else []


@pytest.mark.parametrize("way", LEAVE_AT_ONCE)
def test_a_process_reports_once_however_it_leaves(tmp_path, way):
    done, records = run_and_report(ALLOCATES + LEAVE_AT_ONCE[way], tmp_path)
    assert done.returncode == 7, done.stderr
    (line,) = done.stderr.splitlines()
    assert "GPU 0: HBM 62.0 MiB (peak 62.0 MiB), host node 0 2.0 MiB (peak 2.0 MiB)" in line
    (record,) = records
    assert record["devices"][0]["hbm_bytes"]["current"] == 62 << 20


def test_a_worker_of_multiprocessing_reports(tmp_path):
    program = f"""
import multiprocessing
def work():
    exec({ALLOCATES!r})
worker = multiprocessing.get_context("fork").Process(target=work)
worker.start()
worker.join()
assert worker.exitcode == 0
print("worker", worker.pid)
"""
    done, records = run_and_report(program, tmp_path)
    assert done.returncode == 0, done.stderr
    (record,) = records
    assert done.stdout.splitlines()[-1] == f"worker {record['pid']}"
    (line,) = done.stderr.splitlines()
    assert f"gpuroom[{record['pid']}]" in line


@pytest.mark.parametrize("child", [
    "pid = os.fork()\nif pid == 0: os._exit(0)\nos.waitpid(pid, 0)",
    # The C library's vfork, whose child shares the parent's memory and leaves by _exit, since there is no such file.
    "import subprocess\ntry: subprocess.run(['/nonexistent'])\nexcept OSError: pass",
    # By a system call, so that no handler of fork's runs in the child.
    "pid = libc.syscall(57)\nif pid == 0: libc._exit(0)\nos.waitpid(pid, 0)",
])  # fmt: skip
def test_a_child_that_did_not_use_the_gpu_says_nothing_and_silences_nobody(tmp_path, child):
    if "57" in child and platform.machine() != "x86_64":
        pytest.skip("this architecture has no system call fork")
    program = ALLOCATES + f"import os\nlibc = ctypes.CDLL(None)\n{child}\nprint('parent', os.getpid())\nos._exit(7)"
    program = program.replace("os._exit(7)", "sys.stdout.flush()\nos._exit(7)").replace("import ctypes", "import ctypes, sys", 1)
    done, records = run_and_report(program, tmp_path)
    assert done.returncode == 7, done.stderr
    (record,) = records
    assert done.stdout.splitlines()[-1] == f"parent {record['pid']}"
    assert len(done.stderr.splitlines()) == 1


def test_a_program_without_cuda_may_leave_at_once(tmp_path):
    done, records = run_and_report("import os; os._exit(7)", tmp_path)
    assert (done.returncode, done.stderr, records) == (7, "", [])


def test_a_process_that_is_killed_loses_one_interval(tmp_path):
    stats = tmp_path / "stats"
    program = ALLOCATES + f"""
import os, signal, time
while not os.path.exists({str(stats)!r}) or open({str(stats)!r}).read().count("\\n") < 3:
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGTERM)
"""
    done, records = run_and_report(program, tmp_path, GPUROOM_STATS_INTERVAL="10ms")
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")
    assert len(records) >= 3 and not any(record["last"] for record in records)
    assert records[-1]["devices"][0]["hbm_bytes"]["current"] == 62 << 20
    assert records[0]["time"] < records[2]["time"]


@pytest.mark.parametrize("way", ["import sys; check(cuda.cuMemFree_v2(pointer)); sys.exit(7)", "import os; os._exit(7)"])
def test_the_line_of_the_end_is_the_last(tmp_path, way):
    for _ in range(5):  # the thread may be anywhere as the process ends
        done, _ = run_and_report(ALLOCATES + way, tmp_path, GPUROOM_STATS_INTERVAL="10ms")
        assert done.returncode == 7, done.stderr
    by_process = {}
    for record in lines(tmp_path / "stats"):
        by_process.setdefault(record["pid"], []).append(record["last"])
    assert len(by_process) == 5
    assert all(of_one[-1] and sum(of_one) == 1 for of_one in by_process.values())


def test_a_forked_child_that_uses_the_gpu_has_intervals_of_its_own(tmp_path):
    """And the thread of a parent that only asked around, which is none."""
    stats = tmp_path / "stats"
    program = f"""
import os, time
if os.fork() == 0:
    exec({ALLOCATES!r})
    while not os.path.exists({str(stats)!r}):
        time.sleep(0.01)
    os._exit(0)
assert os.wait()[1] == 0
"""
    done, records = run_and_report(program, tmp_path, GPUROOM_STATS_INTERVAL="10ms")
    assert done.returncode == 0, done.stderr
    assert [record["last"] for record in records][-1:] == [True] and len(records) >= 2
    assert len({record["pid"] for record in records}) == 1


NO_MALLOC = """
#include <stdlib.h>
#include <unistd.h>
void* __libc_malloc(size_t);
static volatile int none_left;
void* malloc(size_t bytes) {
  if (none_left) abort();
  return __libc_malloc(bytes);
}
void leave(int status) {
  none_left = 1;
  _exit(status);
}
"""


def test_the_report_of_a_process_that_leaves_at_once_allocates_nothing(tmp_path):
    """It may leave in a signal's handler that interrupted malloc."""
    library = tmp_path / "no_malloc.so"
    (tmp_path / "no_malloc.c").write_text(NO_MALLOC)
    subprocess.run(["cc", "-shared", "-fPIC", "-fno-builtin", "-o", library, tmp_path / "no_malloc.c"], check=True)
    program = ALLOCATES + f"ctypes.CDLL({str(library)!r}).leave(7)"
    done, records = run_and_report(program, tmp_path, LD_PRELOAD=f"{library} {SHIM}")
    assert done.returncode == 7, done.stderr
    assert len(done.stderr.splitlines()) == len(records) == 1


def test_standard_error_that_nobody_reads_does_not_hold_a_process_that_leaves_at_once(tmp_path):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, b"x" * 4096):
            pass
    os.set_blocking(writer, True)
    stats = tmp_path / "stats"
    done = run_with_stderr(writer, tmp_path, ALLOCATES + "import os; os._exit(7)", GPUROOM_REPORT="1",
                           GPUROOM_STATS_FILE=str(stats))  # fmt: skip
    os.close(writer)
    os.close(reader)
    assert done.returncode == 7
    assert len(lines(stats)) == 1
