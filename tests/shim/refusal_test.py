"""The first refusal of each kind says in one line what was asked for, what there was, which limit refused it, and what to
change. PROGRAM is left with 64 MiB allocated, of which two lie on the host: HBM's limit is 64 MiB, the host's 96 MiB."""
import sys

import pytest
from preload_test import MIB, PROGRAM, SHIM, run

REFUSE = PROGRAM.rsplit("check(cuda.cuMemFree_v2(pointer))", 1)[0] + """
other = ctypes.c_uint64()
def refused(bytes):
    assert cuda.cuMemAlloc_v2(ctypes.byref(other), size(bytes)) == 2
"""
FREE = "\ncheck(cuda.cuMemFree_v2(pointer))\n"


def refusals(tmp_path, *steps, **more):
    done = run([sys.executable, "-c", REFUSE + "\n".join(steps) + FREE], tmp_path, **more)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


def test_more_than_there_is_at_all(tmp_path):
    (line,) = refusals(tmp_path, f"refused({1 << 40})", f"refused({1 << 41})")
    for words in ("GPU 0: 1.0 TiB refused", "HBM has 0 B free of 64.0 MiB", "the host 94.0 MiB free of 96.0 MiB",
                  "more than all of it", "--host-limit"):  # fmt: skip
        assert words in line


def test_more_host_memory_than_is_left_to_the_node_s_processes(tmp_path):
    (line,) = refusals(tmp_path, f"refused({128 * MIB})", f"refused({120 * MIB})")
    assert "GPU 0: 128 MiB refused" in line and "may use no more host memory; raise --host-limit" in line


def test_no_host_memory_may_be_used(tmp_path):
    (line,) = refusals(tmp_path, f"refused({128 * MIB})", GPUROOM_HOST_LIMIT="0", GPUROOM_RESERVE="0",
                       GPUROOM_HBM_LIMIT=str(96 * MIB))  # fmt: skip
    assert "no host memory may be used" in line and "--host-limit" in line


@pytest.mark.parametrize("result", ["CUDA_ERROR_OUT_OF_MEMORY", "CUDA_ERROR_NOT_PERMITTED"])
def test_the_driver_gives_no_host_memory(tmp_path, result):
    _, line = refusals(  # the first line says so of the machine, before anything is refused
        tmp_path, f"refused({128 * MIB})", GPUROOM_RESERVE="0", GPUROOM_HBM_LIMIT=str(96 * MIB),
        GPUROOM_SIM_FAIL=f"cuMemCreate.HOST_NUMA:1+:{result},cuMemCreate.HOST:1+:{result}",
    )  # fmt: skip
    assert "the driver gives no host memory here" in line and "gpuroom doctor" in line


def test_the_program_s_own_margin(tmp_path):
    (line,) = refusals(
        tmp_path,
        f"library = ctypes.CDLL({str(SHIM)!r})",
        f"library.gpuroom_set_memory_margin(ctypes.c_uint64({1 << 30}))",
        'assert library.gpuroom_set_thread_hint(0, b"weights") == 0',
        f"refused({32 * MIB})",
    )
    assert "set_memory_margin_bytes" in line


def test_the_line_is_a_warning(tmp_path):
    assert refusals(tmp_path, f"refused({1 << 40})", GPUROOM_LOG="error") == []
