"""The library is a guest in somebody else's process: what breaks there, or what the program does to itself, must not
become the program's end, and must not take the library's figures."""
import json
import os
import shutil
import subprocess
import sys

import pytest
from preload_test import MIB, PROGRAM, SHIM, SIM, run

# Python ignores SIGPIPE and SIGXFSZ; the programs that these stand for do not.
DEFAULT_SIGNALS = """
import signal
for name in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(name, signal.SIG_DFL)
"""

# As programs do that write a title over their arguments and what follows: the environment.
OVERWRITE_ENVIRONMENT = """
import ctypes
fields = open("/proc/self/stat").read().rsplit(")", 1)[1].split()
start, end = int(fields[47]), int(fields[48])  # proc(5): env_start and env_end
ctypes.memset(start, ord("t"), end - start - 1)
"""
# What the simulated driver reads, which has no copies of its own.
NAME_THE_MACHINE = """
import os
os.environ["GPUROOM_SIM"] = "1GiB,host=2GiB"
"""


@pytest.fixture
def broken_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def run_with_stderr(stderr, tmp_path, program, **more):
    environment = {
        **os.environ,
        "LD_PRELOAD": str(SHIM),
        "LD_LIBRARY_PATH": str(SIM),
        "GPUROOM_SIM": "1GiB,host=2GiB",
        "GPUROOM_HBM_LIMIT": str(64 * MIB),
        "GPUROOM_HOST_LIMIT": str(96 * MIB),
        "GPUROOM_LEDGER": str(tmp_path / "ledger"),
        **more,
    }
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, stderr=stderr, stdout=subprocess.PIPE, text=True,
        timeout=120, check=False,
    )  # fmt: skip


def test_a_report_to_a_broken_pipe_leaves_the_exit_status(tmp_path, broken_pipe):
    program = DEFAULT_SIGNALS + PROGRAM + "\nimport sys\nsys.exit(7)"
    assert run_with_stderr(broken_pipe, tmp_path, program, GPUROOM_REPORT="1").returncode == 7


def test_a_log_line_to_a_broken_pipe_does_not_end_the_program(tmp_path, broken_pipe):
    program = DEFAULT_SIGNALS + PROGRAM + "\nimport sys\nsys.exit(7)"
    done = run_with_stderr(broken_pipe, tmp_path, program, GPUROOM_POLICY="no such policy")
    assert done.returncode == 7


def test_a_stats_fifo_without_a_reader_costs_one_line(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    done = run([sys.executable, "-c", PROGRAM + "\nimport sys\nsys.exit(7)"], tmp_path, GPUROOM_STATS_FILE=str(fifo))
    assert done.returncode == 7
    (line,) = done.stderr.splitlines()
    assert str(fifo) in line and "nobody reads" in line


def test_a_stats_fifo_whose_reader_stalls_costs_one_line(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    try:
        while os.write(writer, b"x" * 4096):
            pass
    except BlockingIOError:
        pass
    done = run([sys.executable, "-c", PROGRAM + "\nimport sys\nsys.exit(7)"], tmp_path, GPUROOM_STATS_FILE=str(fifo))
    os.close(writer)
    os.close(reader)
    assert done.returncode == 7
    (line,) = done.stderr.splitlines()
    assert "could not be written" in line


def test_a_stats_file_past_the_limit_on_file_sizes_costs_one_line(tmp_path):
    stats = tmp_path / "stats"
    program = DEFAULT_SIGNALS + PROGRAM + """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
sys.exit(7)
"""
    done = run([sys.executable, "-c", program], tmp_path, GPUROOM_STATS_FILE=str(stats))
    assert done.returncode == 7
    (line,) = done.stderr.splitlines()
    assert "could not be written" in line


@pytest.mark.parametrize("program", [OVERWRITE_ENVIRONMENT + NAME_THE_MACHINE + PROGRAM, PROGRAM + OVERWRITE_ENVIRONMENT])
def test_a_program_that_overwrites_its_environment_keeps_options_and_statistics(tmp_path, program):
    stats = tmp_path / "stats"
    done = run([sys.executable, "-c", program], tmp_path, GPUROOM_STATS_FILE=str(stats))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [str(160 * MIB), str(64 * MIB)]
    (record,) = [json.loads(text) for text in stats.read_text().splitlines()]
    assert record["devices"][0]["allocations"] == 1


def test_what_the_program_sets_or_unsets_itself_counts(tmp_path):
    stats = tmp_path / "stats"
    before = f"""
import os
os.environ["GPUROOM_HBM_LIMIT"] = str({128 * MIB})
del os.environ["GPUROOM_STATS_FILE"]
"""
    done = run([sys.executable, "-c", before + PROGRAM], tmp_path, GPUROOM_STATS_FILE=str(stats))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(224 * MIB), str(64 * MIB)]
    assert not stats.exists()


def test_closing_the_library_does_not_unload_it(tmp_path):
    """A thread that used it ends later than the program's dlclose."""
    program = f"""
import _ctypes, ctypes, threading
library = ctypes.CDLL({str(SHIM)!r})
stats = (ctypes.c_uint64 * 64)()
used, closed = threading.Event(), threading.Event()
def use():
    library.gpuroom_get_stats(0, stats, ctypes.c_size_t(512))
    used.set()
    closed.wait()
thread = threading.Thread(target=use)
thread.start()
used.wait()
_ctypes.dlclose(library._handle)
closed.set()
thread.join()
assert "libgpuroom.so" in open("/proc/self/maps").read()
"""
    done = run([sys.executable, "-c", program], tmp_path, LD_PRELOAD="")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_sleep_to_disk_past_the_limit_on_file_sizes_is_refused(tmp_path):
    program = DEFAULT_SIGNALS + PROGRAM.rsplit("check(cuda.cuMemFree_v2(pointer))", 1)[0] + f"""
import resource, sys
library = ctypes.CDLL({str(SHIM)!r})
class Action(ctypes.Structure):
    _fields_ = [("tag", ctypes.c_char_p), ("action", ctypes.c_int32)]
class Request(ctypes.Structure):
    _fields_ = [("tags", ctypes.POINTER(Action)), ("tag_count", size), ("directory", ctypes.c_char_p),
                ("hold", ctypes.c_int32), ("verify", ctypes.c_int32)]
rest_to_disk = Action(None, 1)
request = Request(ctypes.pointer(rest_to_disk), 1, {str(tmp_path)!r}.encode(), 0, 0)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
assert library.gpuroom_sleep(ctypes.byref(request), size(ctypes.sizeof(request)), None, size(0)) == 1  # GPUROOM_OUT_OF_MEMORY
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
check(cuda.cuMemcpyDtoH_v2(data, pointer, size(16)))
assert bytes(data) == b"\\7" * 16
check(cuda.cuMemFree_v2(pointer))
sys.exit(7)
"""
    done = run([sys.executable, "-c", program], tmp_path)
    assert (done.returncode, done.stderr) == (7, "")


@pytest.mark.parametrize("preload", ["", str(SHIM)])
def test_general_names_of_other_projects_are_in_a_library_of_their_own(tmp_path, preload):
    """It passes calls on to the libgpuroom.so that the process has already."""
    program = f"""
import ctypes
cuda, library = ctypes.CDLL("libcuda.so.1"), ctypes.CDLL({str(SHIM)!r})
assert cuda.cuInit(0) == 0
for name in ("managed_malloc", "managed_free", "set_memory_margin_bytes"):
    assert not hasattr(library, name) and not hasattr(ctypes.CDLL(None), name), name
compat = ctypes.CDLL({str(SHIM.with_name("libgpuroom_compat.so"))!r})
compat.managed_malloc.restype = ctypes.c_void_p
compat.managed_malloc.argtypes = [ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
compat.managed_free.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
def managed_bytes():
    stats = (ctypes.c_uint64 * 9)()  # gpuroom_stats up to managed_used
    assert library.gpuroom_get_stats(0, stats, ctypes.c_size_t(72)) == 0
    return stats[8]
memory = compat.managed_malloc(20 << 20, 0, None)
assert memory and managed_bytes() == 20 << 20
compat.managed_free(memory, 20 << 20, 0, None)
assert managed_bytes() == 0
compat.set_memory_margin_bytes(ctypes.c_uint64(1 << 20))
assert sum("libgpuroom.so" in line and " r-xp " in line for line in open("/proc/self/maps")) == 1
"""
    done = run([sys.executable, "-c", program], tmp_path, LD_PRELOAD=preload)
    assert (done.returncode, done.stderr) == (0, "")


PLUGIN = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
size_t total(void) {
  size_t free_bytes = 0, total_bytes = 0;
  int (*info)(size_t *, size_t *) =
      (int (*)(size_t *, size_t *))dlsym(dlopen("libcuda.so.1", RTLD_LAZY), "cuMemGetInfo_v2");
  return info && info(&free_bytes, &total_bytes) == 0 ? total_bytes : 0;
}
void *open_elsewhere(const char *name) { return dlmopen(LM_ID_NEWLM, name, RTLD_NOW); }
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """A library that finds the driver by itself, as libcudart does."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "plugin.c").write_text(PLUGIN)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / "plugin.so", folder / "plugin.c"], check=True)
    return folder / "plugin.so"


OPEN = """
import ctypes, os
plain = ctypes.CDLL({plugin!r})
"""
DEEP = """
deep = ctypes.CDLL({copy!r}, mode=os.RTLD_NOW | os.RTLD_DEEPBIND)
deep.total.restype = ctypes.c_size_t
"""
ELSEWHERE = """
plain.open_elsewhere.restype = ctypes.c_void_p
assert plain.open_elsewhere({copy!r}.encode())
"""


@pytest.mark.parametrize("how, words", [(DEEP, "with RTLD_DEEPBIND"), (ELSEWHERE, "in a namespace of its own (dlmopen)")])
@pytest.mark.parametrize("first", [True, False])
def test_a_library_that_cannot_be_served_is_told_of_once(tmp_path, plugin, how, words, first):
    copy = shutil.copy(plugin, tmp_path / "copy.so")
    how = (OPEN + how + how).format(plugin=str(plugin), copy=str(copy))
    before, after = PROGRAM.rsplit("check(cuda.cuMemFree_v2(pointer))", 1)
    program = how + PROGRAM if first else before + how + "\ncheck(cuda.cuMemFree_v2(pointer))" + after
    done = run([sys.executable, "-c", program], tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert f"{copy} is opened {words}" in line and "docs/limits.md" in line


def test_a_library_that_cannot_be_served_is_told_of_where_it_alone_uses_the_gpu(tmp_path, plugin):
    copy = shutil.copy(plugin, tmp_path / "copy.so")
    program = (OPEN + DEEP + "\ndeep.total()").format(plugin=str(plugin), copy=str(copy))
    done = run([sys.executable, "-c", program], tmp_path)
    assert done.returncode == 0 and "with RTLD_DEEPBIND" in done.stderr


def test_nothing_is_told_of_libraries_where_no_gpu_is_used(tmp_path, plugin):
    copy = shutil.copy(plugin, tmp_path / "copy.so")
    program = (OPEN + DEEP + ELSEWHERE).format(plugin=str(plugin), copy=str(copy))
    done = run([sys.executable, "-c", program], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_dlopen_keeps_its_caller(tmp_path, plugin):
    """A library finds another one beside itself by its own RUNPATH, and errors are the loader's own."""
    source = '#include <dlfcn.h>\nvoid *open_it(void) { return dlopen("beside.so", RTLD_NOW); }\n'
    (tmp_path / "opener.c").write_text(source)
    shutil.copy(plugin, tmp_path / "beside.so")
    opener = tmp_path / "opener.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wl,-rpath,$ORIGIN", "-o", opener, tmp_path / "opener.c"], check=True)
    program = f"""
import ctypes
opener = ctypes.CDLL({str(opener)!r})
opener.open_it.restype = ctypes.c_void_p
assert opener.open_it()
try:
    ctypes.CDLL("libno-such-library.so")
except OSError as error:
    assert "libno-such-library.so: cannot open shared object file" in str(error)
else:
    raise AssertionError
"""
    done = run([sys.executable, "-c", program], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
