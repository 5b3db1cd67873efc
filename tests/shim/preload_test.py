"""The shim with the real LD_PRELOAD, in programs that know nothing of it."""
import ctypes
import json
import os
import pathlib
import subprocess
import sys

import pytest

BUILD = pathlib.Path(os.environ["GPUROOM_BUILD_DIR"])
SHIM = BUILD / "lib/gpuroom/libgpuroom.so"
SIM = BUILD / "lib/gpuroom/sim"
MIB = 1 << 20

PROGRAM = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
size = ctypes.c_size_t
def check(result):
    assert result == 0, result
context, pointer = ctypes.c_void_p(), ctypes.c_uint64()
check(cuda.cuInit(0))
check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
check(cuda.cuCtxSetCurrent(context))
free, total = size(), size()
check(cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)))
print(total.value)
check(cuda.cuMemAlloc_v2(ctypes.byref(pointer), size(64 << 20)))
check(cuda.cuMemsetD8_v2(pointer, ctypes.c_ubyte(7), size(64 << 20)))
data = (ctypes.c_ubyte * 16)()
check(cuda.cuMemcpyDtoH_v2(data, pointer, size(16)))
assert bytes(data) == b"\\7" * 16
check(cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)))
print(total.value - free.value)
check(cuda.cuMemFree_v2(pointer))
"""


def run(command, tmp_path, **more):
    environment = {
        **os.environ,
        "LD_PRELOAD": str(SHIM),
        "LD_LIBRARY_PATH": str(SIM),
        "GPUROOM_SIM": "1GiB,host=2GiB",
        "GPUROOM_SIM_STRICT": "1",
        "GPUROOM_HBM_LIMIT": str(64 * MIB),
        "GPUROOM_HOST_LIMIT": str(96 * MIB),
        "GPUROOM_HOST_KEEP": "0",
        "GPUROOM_LEDGER": str(tmp_path / "ledger"),
        **more,
    }
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_ctypes_sees_the_larger_device(tmp_path):
    done = run([sys.executable, "-c", PROGRAM], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(160 * MIB), str(64 * MIB)]
    assert done.stderr == ""


def test_host_memory_ahead_ends_with_the_program(tmp_path):
    for _ in range(5):  # the thread may be anywhere when the program ends
        done = run([sys.executable, "-c", PROGRAM], tmp_path, GPUROOM_HOST_AHEAD=str(64 * MIB))
        assert (done.returncode, done.stderr) == (0, "")


def test_report_and_stats_name_what_was_used(tmp_path):
    stats = tmp_path / "stats"
    done = run([sys.executable, "-c", PROGRAM], tmp_path, GPUROOM_REPORT="1", GPUROOM_STATS_FILE=str(stats))
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert "GPU 0: HBM 0 B (peak 62.0 MiB), host node 0 0 B (peak 2.0 MiB)" in line
    assert "1 allocations, 1 spilled, largest 64.0 MiB" in line
    (record,) = [json.loads(text) for text in stats.read_text().splitlines()]
    assert record["program"].startswith("python")
    (device,) = record["devices"]
    assert device["device"] == 0
    assert device["host_bytes"] == {"current": 0, "peak": 2 * MIB, "numa_node": 0}
    assert device["hbm_bytes"]["current"] == 0
    assert (device["allocations"], device["spilled"], device["largest"]) == (1, 1, 64 * MIB)
    assert record["shim_seconds"] > 0


def test_a_stats_file_that_cannot_be_written_is_one_warning(tmp_path):
    done = run([sys.executable, "-c", PROGRAM], tmp_path, GPUROOM_STATS_FILE=str(tmp_path / "no" / "such"))
    assert done.returncode == 0
    assert "cannot be opened" in done.stderr


@pytest.mark.parametrize("command", [["true"], ["sh", "-c", "echo hello | cat"], [sys.executable, "-c", "import ssl"]])
def test_programs_without_cuda_are_left_alone(tmp_path, command):
    stats = tmp_path / "stats"
    done = run(command, tmp_path, GPUROOM_REPORT="1", GPUROOM_STATS_FILE=str(stats))
    assert done.returncode == 0
    assert done.stderr == ""
    assert not stats.exists()
    assert not (tmp_path / "ledger").exists()


def test_children_inherit_it(tmp_path):
    done = run(["sh", "-c", f"exec {sys.executable} -c '{PROGRAM}'"], tmp_path)
    assert done.stdout.split() == [str(160 * MIB), str(64 * MIB)], done.stderr


def test_without_a_driver_programs_hear_so_from_the_loader(tmp_path):
    program = "import ctypes\ntry:\n ctypes.CDLL('libcuda.so.1')\nexcept OSError as error:\n print(error)"
    done = run([sys.executable, "-c", program], tmp_path, LD_LIBRARY_PATH="/nonexistent")
    if "libcuda.so.1" not in done.stdout:
        pytest.skip("this machine has a driver")
    assert done.returncode == 0
    assert "cannot open shared object file" in done.stdout


def test_without_limits_nothing_changes(tmp_path):
    done = run([sys.executable, "-c", PROGRAM], tmp_path, GPUROOM_HBM_LIMIT="", GPUROOM_HOST_LIMIT="")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(1024 * MIB), str(64 * MIB)]


def test_the_shim_loads_anywhere():
    assert ctypes.CDLL(str(SHIM)) is not None


@pytest.mark.parametrize(
    "profile, ratio, total, words",
    [
        ("1GiB,host=2GiB,coherent", "2", 128, "2 times the HBM; --oversubscription-ratio"),
        ("1GiB,host=2GiB,coherent", "5", 160, "raise --host-limit"),
        ("1GiB,host=2GiB", "5", 64, "without a hardware-coherent link"),
    ],
)
def test_managed_memory_is_capped_with_one_sentence(tmp_path, profile, ratio, total, words):
    program = PROGRAM.replace("64 << 20", "32 << 20") + "\nassert cuda.cuMemAlloc_v2(ctypes.byref(pointer), size(1 << 30)) == 2\n"
    done = run([sys.executable, "-c", program], tmp_path, GPUROOM_BACKEND="managed", GPUROOM_SIM=profile,
               GPUROOM_OVERSUBSCRIPTION_RATIO=ratio, GPUROOM_REPORT="1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(total * MIB), str(32 * MIB)]
    assert done.stderr.count("refused") == 1
    assert words in done.stderr
    assert f"managed memory 0 B (peak 32.0 MiB, cap {total}" in done.stderr


@pytest.mark.parametrize("how", [{"GPUROOM_BACKEND": "managed"}, {"GPUROOM_RULES": "min=1,backend=managed"}])
def test_managed_memory_needs_no_limits(tmp_path, how):
    """Also where nothing of the host can be spared and no HBM limit is set, the backend is the one asked for."""
    program = PROGRAM + """
check(cuda.cuMemAlloc_v2(ctypes.byref(pointer), size(64 << 20)))
managed = ctypes.c_uint()
check(cuda.cuPointerGetAttribute(ctypes.byref(managed), 8, pointer))
print(managed.value)
check(cuda.cuMemFree_v2(pointer))
"""
    done = run([sys.executable, "-c", program], tmp_path, GPUROOM_HBM_LIMIT="", GPUROOM_HOST_LIMIT="0", **how)
    assert done.returncode == 0, done.stderr
    total, used, managed = done.stdout.split()
    assert int(total) == 1024 * MIB and managed == "1"
    assert int(used) in (0, 64 * MIB)  # a rule's: the simulated driver never makes pages resident
