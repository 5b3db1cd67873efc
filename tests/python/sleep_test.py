"""sleep, wake, sleep_states and region on the library and the simulated driver, with the library preloaded by
`gpuroom run` and opened by the package; and gpuroom.torch.region against PyTorch's rules (fake_torch.py)."""

import pytest
from allocator_test import LIMITS, run
from memory_test import ALLOCATE, SEGMENTS

CONTENTS = """
def fill(at, value, size):
    call("cuMemsetD8_v2", ctypes.c_uint64(at), ctypes.c_ubyte(value), ctypes.c_size_t(size))
def holds(at, value, size):
    data = (ctypes.c_ubyte * size)()
    call("cuMemcpyDtoH_v2", data, ctypes.c_uint64(at), ctypes.c_size_t(size))
    return bytes(data) == bytes([value]) * size
"""
PROGRAM = ALLOCATE + CONTENTS
OPENED = SEGMENTS + CONTENTS + """
def allocate(size):
    return library.gpuroom_segment_malloc(size, 0, None)
"""


@pytest.fixture(params=["preloaded", "opened"])
def passes(request, python):
    if request.param == "preloaded":
        return lambda program: python.under_gpuroom(PROGRAM + program)
    return lambda program: python.dlopened(OPENED + program, GPUROOM_HBM_LIMIT=str(256 << 20),
                                           GPUROOM_HOST_LIMIT=str(512 << 20))


def test_contents_come_back_at_the_same_address(passes):
    passes("""
at = allocate(64 * MIB)
fill(at, 7, 64 * MIB)
report = gpuroom.sleep()
assert (report.ranges, report.kept, report.released, report.dropped) == (1, 64 * MIB, 64 * MIB, 0), report
assert report.seconds > 0 and gpuroom.sleep_states()[""].kept == 64 * MIB
assert gpuroom.sleep().ranges == 0
assert gpuroom.stats().device_used < 64 * MIB and gpuroom.stats().asleep_bytes == 64 * MIB
report = gpuroom.wake()
assert (report.ranges, report.kept) == (1, 64 * MIB), report
assert gpuroom.wake().ranges == 0
assert holds(at, 7, 64 * MIB)
""")


def test_what_free_memory_shows_while_memory_sleeps(python):
    python.under_gpuroom(PROGRAM + """
def free():
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    return free.value
with gpuroom.region("kept"):
    kept = allocate(64 * MIB)
with gpuroom.region("lost"):
    lost = allocate(32 * MIB)
before, hbm = free(), gpuroom.stats().device_free
gpuroom.sleep("kept")
assert (free(), gpuroom.stats().device_free) == (before, hbm + 64 * MIB)  # as much on the host as in HBM before
gpuroom.sleep("lost", action="drop")
assert (free(), gpuroom.stats().device_free) == (before + 32 * MIB, hbm + 96 * MIB)
gpuroom.wake()
assert (free(), gpuroom.stats().device_free) == (before, hbm)
""")


def test_what_sleeps_with_its_contents_is_told_as_free_where_that_is_asked_for(python):
    python.under_gpuroom(PROGRAM + """
def free():
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    assert total.value == (256 + 512) * MIB
    return free.value
with gpuroom.region("kept"):
    kept = allocate(64 * MIB)
with gpuroom.region("spilled"):
    spilled = allocate(300 * MIB)
placed = gpuroom.describe(spilled)
assert placed.host_bytes > 0 and placed.device_bytes > 0
before = free()
gpuroom.sleep("kept")
assert free() == before + 64 * MIB  # as after a drop
gpuroom.sleep("spilled")
assert free() == before + 64 * MIB + placed.device_bytes  # what lay on the host lies there still
gpuroom.wake("kept")
assert free() == before + placed.device_bytes
gpuroom.sleep("kept", action="drop")
gpuroom.wake()
assert free() == before
""", env={"GPUROOM_KEPT_IS_FREE": "1"})


def test_tags_sleep_and_wake_by_name(passes):
    passes("""
with gpuroom.region("weights"):
    weights = allocate(32 * MIB)
    with gpuroom.region("kv"):
        kv = allocate(4 * MIB)
    more = allocate(4 * MIB)
plain = allocate(32 * MIB)
for at, size in ((weights, 32), (kv, 4), (more, 4), (plain, 32)):
    fill(at, size, size * MIB)
states = gpuroom.sleep_states()
assert {tag: states[tag].ranges for tag in ("weights", "kv", "")} == {"weights": 2, "kv": 1, "": 1}, states
assert gpuroom.sleep("weights", drop=["kv"]).kept == 36 * MIB
states = gpuroom.sleep_states()
assert (states["weights"].kept, states["kv"].dropped, states[""].awake_on_gpu) == (36 * MIB, 4 * MIB, 32 * MIB), states
assert gpuroom.wake(["weights"]).kept == 36 * MIB
assert gpuroom.wake("kv").dropped == 4 * MIB
assert gpuroom.sleep(["", "kv"], "drop").dropped == 36 * MIB
gpuroom.wake()
assert holds(weights, 32, 32 * MIB) and holds(more, 4, 4 * MIB)
""")


def test_what_needs_no_backup_is_dropped_whatever_the_action(passes):
    passes("""
with gpuroom.region("activations", backup=False):
    one = allocate(32 * MIB)
    with gpuroom.region("weights"):
        two = allocate(32 * MIB)
    three = allocate(32 * MIB)
report = gpuroom.sleep()
assert (report.dropped, report.kept) == (64 * MIB, 32 * MIB), report
gpuroom.wake()
""")


def test_to_disk_with_checksums(passes):
    passes("""
import tempfile, os
at = allocate(32 * MIB)
fill(at, 9, 32 * MIB)
with tempfile.TemporaryDirectory() as folder:
    report = gpuroom.sleep(action="disk", directory=folder, verify=True)
    assert report.on_disk == 32 * MIB and gpuroom.sleep_states()[""].on_disk == 32 * MIB
    gpuroom.wake()
    assert holds(at, 9, 32 * MIB)
""")


def test_lazily(passes):
    passes("""
at = allocate(32 * MIB)
fill(at, 9, 32 * MIB)
gpuroom.sleep()
report = gpuroom.wake(lazy=True)
assert report.kept == 32 * MIB and holds(at, 9, 32 * MIB)
""")


def test_mistakes_are_named(passes):
    passes("""
allocate(32 * MIB)
assert "absent" in raised(gpuroom.NotFound, gpuroom.sleep, "absent")
assert "absent" in raised(gpuroom.NotFound, gpuroom.wake, ["absent"])
for arguments, more, words in (
        ((None, "eat"), {}, "action is 'eat'; use keep, disk, drop"), (([],), {}, "tags is empty"),
        ((None,), {"hold": "on"}, "hold is 'on'; use none, wait, fail"), (([3],), {}, "3, which is no tag"),
        (("a",), {"drop": "a"}, "'a' is in both"), ((None, "disk"), {}, "GPUROOM_SLEEP_DIR")):
    text = raised(gpuroom.InvalidArgument, lambda: gpuroom.sleep(*arguments, **more))
    assert words in text, text
for tag in ("", "t" * 64, "a\\0b"):
    assert "1 to 63 bytes" in raised(gpuroom.InvalidArgument, gpuroom.region, tag)
raised(gpuroom.InvalidArgument, gpuroom.region("a;b").__enter__)
assert "tags is empty" in raised(gpuroom.InvalidArgument, gpuroom.wake, ())
assert gpuroom.sleep_states()[""].awake >= 32 * MIB
""")


def test_an_exception_restores_what_held_before(passes):
    passes("""
try:
    with gpuroom.region("weights", backup=False):
        raise ArithmeticError
except ArithmeticError:
    pass
at = allocate(32 * MIB)
states = gpuroom.sleep_states()
assert states[""].ranges == 1 and "weights" not in states, states
assert gpuroom.sleep().kept == 32 * MIB
gpuroom.wake()
""")


def test_threads_have_regions_of_their_own(passes):
    passes("""
import threading
def work():
    call("cuCtxSetCurrent", context)
    allocate(32 * MIB)
context = ctypes.c_void_p()
call("cuCtxGetCurrent", ctypes.byref(context))
with gpuroom.region("mine"):
    thread = threading.Thread(target=work)
    thread.start(); thread.join()
assert "mine" not in gpuroom.sleep_states() and gpuroom.sleep_states()[""].ranges == 1
""")


def test_copies_to_what_sleeps_are_refused_or_wait(python):
    """Only where the hooks stand in front."""
    python.passes(PROGRAM + """
import threading
context = ctypes.c_void_p()
call("cuCtxGetCurrent", ctypes.byref(context))
def look():
    call("cuCtxSetCurrent", context)
    seen.append(holds(at, 3, 32 * MIB))
at = allocate(32 * MIB)
gpuroom.sleep()
data = (ctypes.c_ubyte * MIB)()
assert cuda.cuMemcpyDtoH_v2(data, ctypes.c_uint64(at), ctypes.c_size_t(MIB)) == 401
gpuroom.wake()
fill(at, 3, 32 * MIB)
gpuroom.sleep(hold="wait")
seen = []
thread = threading.Thread(target=look)
thread.start()
thread.join(0.2)
assert thread.is_alive() and not seen
gpuroom.wake()
thread.join()
assert seen == [True]
""", command=(*python_command(), "--"), env={"GPUROOM_LOG": "off"})


def python_command():
    from conftest import COMMAND, SIM

    return (COMMAND, "run", "--sim", SIM, "--hbm-limit", "256MiB", "--host-limit", "512MiB")


def test_a_torch_region_has_a_pool_of_its_own(python):
    run(python, LIMITS + """
with gpuroom.torch.region("weights"):
    one, first = allocate(32 * MIB)
    with gpuroom.torch.region("kv", backup=False):
        two, second = allocate(32 * MIB)
    three, third = allocate(32 * MIB)
assert first is third and first is not second and not state.recording
states = gpuroom.sleep_states()
assert (states["weights"].ranges, states["kv"].ranges) == (2, 1), states
assert gpuroom.sleep().dropped == 32 * MIB
gpuroom.wake()
""")


def test_a_pool_in_a_region_has_its_tag_and_shares_with_nobody_else(python):
    run(python, LIMITS + """
block = gpuroom.torch.pool(hint="hot")
with gpuroom.region("weights"):
    with block:
        one, first = allocate(32 * MIB)
    with gpuroom.torch.pool(tag="kv"):
        with gpuroom.region("inner"):
            pass
        two, _ = allocate(32 * MIB)
    with block:
        three, third = allocate(32 * MIB)
with block:
    four, fourth = allocate(32 * MIB)
assert first is third and first is not fourth
states = gpuroom.sleep_states()
assert {tag: state.ranges for tag, state in states.items()} == {"weights": 2, "kv": 1, "": 1}, states
gpuroom.torch.region("weights").release()
""")


def test_a_torch_region_behind_use_sets_the_tag(python):
    run(python, """
gpuroom.torch.use(hbm_limit="256MiB", host_limit="512MiB")
with gpuroom.torch.region("weights"):
    at, pool = allocate(64 * MIB)
assert pool is None and gpuroom.sleep_states()["weights"].ranges == 1
assert gpuroom.sleep("weights").kept >= 64 * MIB
gpuroom.wake()
""")


# CudaEngine as `stream()` uses it, on memory of the test's allocator.
STREAM_ENGINE = """
import types
from gpuroom.torch._engine import CudaEngine
class Engine(CudaEngine):
    def __init__(self):
        self.device, self._copies = types.SimpleNamespace(type="cuda", index=0), None
    def _bytes(self, count):
        at, _ = allocate(count)
        return types.SimpleNamespace(at=at, record_stream=lambda stream: None)
engine = Engine()
first, _ = allocate(MIB)  # CUDA has started
"""


@pytest.mark.parametrize("begin", [
    'gpuroom.torch.use(hbm_limit="256MiB", host_limit="512MiB")\n', LIMITS])  # fmt: skip
def test_streamed_weights_have_the_tag_of_the_region_around_them(python, begin):
    run(python, begin + STREAM_ENGINE + """
with gpuroom.torch.region("weights"):
    piece = engine.empty(64 * MIB, "cold")
    if gpuroom.torch._allocator.in_use():
        gpuroom.trim(0)  # so that what follows is memory of its own
    after, _ = allocate(32 * MIB)
outside = engine.empty(64 * MIB, "cold")
states = gpuroom.sleep_states()
assert states["weights"].awake >= 96 * MIB and states["stream"].awake == 64 * MIB, states
assert gpuroom._intent.current() == gpuroom._intent.Intent()
""")


def test_a_torch_region_under_gpuroom_run(python):
    import conftest
    from allocator_test import BEGIN

    path = f"{conftest.PACKAGE}:{conftest.SOURCE / 'tests' / 'python'}"
    python.passes(BEGIN + """
with gpuroom.torch.region("weights"):
    at, pool = allocate(64 * MIB)
assert pool is not None and gpuroom.sleep_states()["weights"].ranges == 1
assert gpuroom.sleep("weights", "drop").released == 64 * MIB
gpuroom.wake()
""", command=(*python_command(), "--"), env={"PYTHONPATH": path})
