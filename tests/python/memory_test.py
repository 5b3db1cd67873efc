"""describe, migrate, prefetch, hint, stats and trim on the library and the simulated driver, with the library
preloaded by `gpuroom run` and opened by the package."""

from conftest import COMMAND, SIM

START = """
import ctypes, gpuroom
MIB = 1 << 20
cuda = ctypes.CDLL("libcuda.so.1")
def call(name, *arguments):
    result = getattr(cuda, name)(*arguments)
    assert result == 0, (name, result)
def start():
    device, context = ctypes.c_int(), ctypes.c_void_p()
    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(device), 0)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    call("cuCtxSetCurrent", context)
def allocate(size):
    address = ctypes.c_uint64()
    call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
    return address.value
def raised(kind, function, *arguments):
    try:
        function(*arguments)
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")
"""
ALLOCATE = START + "start()\n"

SEGMENTS = ALLOCATE + """
library = ctypes.CDLL(gpuroom.library_path())
library.gpuroom_segment_malloc.restype = ctypes.c_void_p
library.gpuroom_segment_malloc.argtypes = [ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
library.gpuroom_segment_free.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
"""


def test_describe_and_migrate_there_and_back(python):
    python.under_gpuroom(ALLOCATE + """
at = allocate(64 * MIB)
place = gpuroom.describe(at + 5)
assert (place.address, place.bytes, place.device_bytes, place.host_bytes) == (at, 64 * MIB, 64 * MIB, 0), place
assert place.device == 0 and place.hint == "none"
call("cuMemsetD8_v2", ctypes.c_uint64(at), ctypes.c_ubyte(7), ctypes.c_size_t(64 * MIB))
assert gpuroom.migrate(at, "host") == 64 * MIB
assert gpuroom.migrate(at, "host") == 0
assert gpuroom.describe(at).host_bytes == 64 * MIB
gpuroom.prefetch(at)
assert gpuroom.describe(at).device_bytes == 64 * MIB
data = (ctypes.c_ubyte * MIB)()
call("cuMemcpyDtoH_v2", data, ctypes.c_uint64(at + 63 * MIB), ctypes.c_size_t(MIB))
assert bytes(data) == b"\\7" * MIB
""")


def test_many_move_at_once_and_what_cannot_stays(python):
    python.under_gpuroom(ALLOCATE + """
from gpuroom import _memory
row = [allocate(size * MIB) for size in (32, 48, 64)]
free = gpuroom.stats().device_free
assert gpuroom.stats().device_total == 256 * MIB
assert _memory.migrate_all([row[0], 4096, row[2]], "host") == 96 * MIB
assert [gpuroom.describe(at).host_bytes for at in row] == [32 * MIB, 0, 64 * MIB]
assert gpuroom.stats().device_free == free + 96 * MIB
assert _memory.migrate_all(row, "device") == 96 * MIB
assert _memory.migrate_all([], "host") == 0
""")


def test_a_tensor_s_own_part_moves(python):
    """Views count from their first element to the end of their last."""
    python.under_gpuroom(ALLOCATE + """
class Tensor:
    def __init__(self, at, shape, stride):
        self.at, self.shape, self.strides = at, shape, stride
    def data_ptr(self): return self.at
    def numel(self): return self.shape[0] * self.shape[1]
    def stride(self): return self.strides
    def element_size(self): return 4
at = allocate(64 * MIB)
part = gpuroom.describe(at).bytes // 2
whole_rows = Tensor(at, (2, 10), (part // 4, 1))       # the first row and the beginning of the second half
assert gpuroom._memory.span_of(whole_rows) == (at, part + 40)
gpuroom.hint(whole_rows, "cold")
assert gpuroom.describe(whole_rows).hint == "cold"
assert gpuroom.migrate(Tensor(at, (1, 1), (1, 1)), "host") > 0
assert gpuroom.describe(at).host_bytes > 0
""")


def test_failures_have_their_own_exceptions_and_one_sentence(python):
    python.under_gpuroom(ALLOCATE + """
small = allocate(4096)
assert "has placed nothing at" in raised(gpuroom.NotFound, gpuroom.describe, small)
for function, more in ((gpuroom.migrate, "host"), (gpuroom.hint, "hot"), (gpuroom.prefetch, "device")):
    text = raised(gpuroom.NotFound, function, small, more)
    assert len(text) > 10 and "\\n" not in text, text
row = [allocate(100 * MIB) for _ in range(5)]
text = raised(gpuroom.OutOfMemory, lambda: [gpuroom.migrate(at, "device") for at in row])
assert text, text
assert "tier is 'disk'; use device, peer, host" in raised(gpuroom.InvalidArgument, gpuroom.migrate, row[0], "disk")
assert "hint is 'warm'" in raised(gpuroom.InvalidArgument, gpuroom.hint, row[0], "warm")
assert "neither a CUDA tensor nor an address" in raised(gpuroom.InvalidArgument, gpuroom.describe, "here")
assert isinstance(gpuroom.OutOfMemory("x"), gpuroom.Error) and isinstance(gpuroom.InvalidArgument("x"), ValueError)
""")


def test_lack_of_memory_is_pytorchs_error_too_where_that_is_loaded(python):
    python.under_gpuroom(ALLOCATE + """
import sys, types
row = [allocate(100 * MIB) for _ in range(5)]
def lack():
    try:
        for at in row:
            gpuroom.migrate(at, "device")
    except gpuroom.OutOfMemory as error:
        return error
assert type(lack()) is gpuroom.OutOfMemory
class OutOfMemoryError(RuntimeError):
    pass
sys.modules["torch"] = types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
error = lack()
assert isinstance(error, OutOfMemoryError) and isinstance(error, gpuroom.OutOfMemory) and str(error), repr(error)
assert type(error) is type(lack()) and type(error).__name__ == "OutOfMemory"
""")


def test_types_name_what_the_calls_take():
    from typing import get_args

    from gpuroom import _capi, _types

    for names, table in (
        (_types.Tier, _capi.TIERS), (_types.Policy, _capi.POLICIES), (_types.Backend, _capi.BACKENDS),
        (_types.Hint, _capi.HINTS), (_types.Action, _capi.ACTIONS), (_types.Hold, _capi.HOLDS),
    ):  # fmt: skip
        assert set(get_args(names)) == set(table)


def test_stats_under_gpuroom_run(python):
    python.under_gpuroom(ALLOCATE + """
row = [allocate(100 * MIB) for _ in range(3)]
stats = gpuroom.stats()
assert stats.device_limit == 256 * MIB and stats.host_limit == 512 * MIB, stats
assert stats.device_used + stats.host_used >= 300 * MIB and stats.host_used > 0
assert stats.allocations == 3 and stats.pool_reserved == 0
assert gpuroom.stats(0) == stats == gpuroom.stats("cuda:0")
call("cuMemFree_v2", ctypes.c_uint64(row[2])), call("cuMemFree_v2", ctypes.c_uint64(row[1]))
free = gpuroom.stats().device_free
gpuroom.set_reserve(1 * MIB)
assert gpuroom.stats().device_free > free, free
kept = gpuroom.stats().host_kept
gpuroom.trim()
assert gpuroom.stats().host_kept == 0 and kept >= 0
assert "device is 'cpu'" in raised(gpuroom.InvalidArgument, gpuroom.stats, "cpu")
assert raised(gpuroom.Error, gpuroom.stats, 77)
""")


def test_the_report_is_what_a_run_prints_at_the_end(python):
    program = ALLOCATE + """
assert gpuroom.report() == ""
memory = allocate(300 * MIB)
print(gpuroom.report(), end="")
"""
    limits = ("--hbm-limit", "256MiB", "--host-limit", "512MiB")
    done = python(program, command=(COMMAND, "run", "--sim", SIM, "--report", *limits, "--"))
    assert done.returncode == 0, done.stderr
    for lines in (done.stdout, done.stderr):
        (line,) = lines.splitlines()
        assert "GPU 0: HBM" in line and "1 allocations, 1 spilled, largest 300 MiB" in line
    assert done.stdout.split("; ")[:2] == done.stderr.split("; ")[:2]  # the rest is time


def test_opened_by_the_package_with_its_own_limits(python):
    python.dlopened(SEGMENTS.replace("\nstart()\n", "\nstart()\ngpuroom.configure('256MiB', '512MiB')\n", 1) + """
row = [library.gpuroom_segment_malloc(100 * MIB, 0, None) for _ in range(4)]
assert all(row)
places = [gpuroom.describe(at) for at in row]
assert sum(place.host_bytes for place in places) >= 144 * MIB, places
assert gpuroom.stats().host_limit == 512 * MIB and gpuroom.stats().device_limit == 256 * MIB
assert gpuroom.migrate(row[0], "host") > 0
for at in row:
    library.gpuroom_segment_free(at, 100 * MIB, 0, None)
assert gpuroom.stats().host_used == 0
""")


def test_limits_cannot_change_once_the_library_works(python):
    python.dlopened(ALLOCATE + """
import os
gpuroom.configure(hbm_limit="256MiB", host_limit=1 << 29, policy="balanced", reserve="16MiB", resident_below="8M",
                   expect="1GiB", oversubscription_ratio=2, allow_oversubscription=False, prefetch_below=5)
assert os.environ["GPUROOM_EXPECT"] == str(1 << 30)
assert os.environ["GPUROOM_HBM_LIMIT"] == str(256 << 20) and os.environ["GPUROOM_OVERSUBSCRIPTION_RATIO"] == "2.0"
gpuroom.stats()
gpuroom.configure(hbm_limit="256MiB")
try:
    gpuroom.configure(hbm_limit="128MiB")
except gpuroom.Error as error:
    assert "GPUROOM_HBM_LIMIT cannot change; call" in str(error)
else:
    raise AssertionError("changed")
""")


def test_a_limit_may_be_a_part_of_the_gpu(python):
    python.dlopened(ALLOCATE + """
import os
gpuroom.configure(hbm_limit="50%", host_limit="512MiB", host_part="25%")
assert os.environ["GPUROOM_HOST_PART"] == "25%"
assert os.environ["GPUROOM_HBM_LIMIT"] == "50%"
stats = gpuroom.stats()
assert stats.device_limit == 512 << 20 and stats.host_limit == 128 << 20, stats
""")


def test_auto_is_what_the_command_would_offer(python):
    out = python.dlopened(ALLOCATE + """
import os
gpuroom.configure()
print(os.environ["GPUROOM_HOST_LIMIT"])
assert gpuroom.stats().host_limit == int(os.environ["GPUROOM_HOST_LIMIT"]) > 0
""", PATH=str(__import__("conftest").COMMAND.parent))
    assert int(out) > 1 << 20


def test_auto_without_a_command_says_what_to_give(python):
    python.dlopened("""
import gpuroom
try:
    gpuroom.configure(host_limit="auto")
except gpuroom.Unsupported as error:
    assert "give a size such as '64GiB'" in str(error)
else:
    raise AssertionError("no error")
""", PATH="/nonexistent")


def test_under_gpuroom_run_its_options_hold(python):
    python.under_gpuroom(ALLOCATE + """
import warnings
gpuroom.configure()
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    gpuroom.configure(hbm_limit="1GiB")
assert "GPUROOM_HBM_LIMIT" in str(seen[0].message), seen
assert gpuroom.stats().device_limit == 256 << 20
""")


def test_stats_before_cuda_has_started_says_so(python):
    python.dlopened(START + """
gpuroom.configure("256MiB", "512MiB")
assert "has CUDA started?" in raised(gpuroom.NotFound, gpuroom.stats)
start()
assert gpuroom.stats().device_limit == 256 * MIB
""")


def test_bad_settings_are_named(python):
    python.dlopened("""
import gpuroom
for arguments, words in (({"policy": "fast"}, "policy is 'fast'; use gpu_first, balanced, cpu_first"),
                         ({"backend": "disk"}, "backend is 'disk'; use tiers, managed"),
                         ({"hbm_limit": "1KiB"}, "the least is 2MiB"),
                         ({"hbm_limit": "0%"}, "a whole number from 1% to 100%"), ({"host_limit": "lots"}, "host_limit is 'lots'"),
                         ({"expect": "1GiB", "policy": "gpu_first"}, "expect is for policy='balanced'"),
                         ({"oversubscription_ratio": 0}, "oversubscription_ratio is 0; use a number from 0.1 to 100"),
                         ({"oversubscription_ratio": 0.05}, "oversubscription_ratio is 0.05"),
                         ({"oversubscription_ratio": 500}, "oversubscription_ratio is 500")):
    try:
        gpuroom.configure(**arguments)
    except gpuroom.InvalidArgument as error:
        assert words in str(error), error
    else:
        raise AssertionError(arguments)
""")
