"""sleep, wake, sleep_states and region on the library and the simulated driver, with the library preloaded by
`headroom run` and opened by the package; and headroom.torch.region against PyTorch's rules (fake_torch.py)."""

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
    return library.headroom_segment_malloc(size, 0, None)
"""


@pytest.fixture(params=["preloaded", "opened"])
def passes(request, python):
    if request.param == "preloaded":
        return lambda program: python.under_headroom(PROGRAM + program)
    return lambda program: python.dlopened(OPENED + program, HEADROOM_HBM_LIMIT=str(256 << 20),
                                           HEADROOM_HOST_LIMIT=str(512 << 20))


def test_contents_come_back_at_the_same_address(passes):
    passes("""
at = allocate(64 * MIB)
fill(at, 7, 64 * MIB)
report = headroom.sleep()
assert (report.ranges, report.kept, report.released, report.dropped) == (1, 64 * MIB, 64 * MIB, 0), report
assert report.seconds > 0 and headroom.sleep_states()[""].kept == 64 * MIB
assert headroom.sleep().ranges == 0
assert headroom.stats().device_used < 64 * MIB and headroom.stats().asleep_bytes == 64 * MIB
report = headroom.wake()
assert (report.ranges, report.kept) == (1, 64 * MIB), report
assert headroom.wake().ranges == 0
assert holds(at, 7, 64 * MIB)
""")


def test_tags_sleep_and_wake_by_name(passes):
    passes("""
with headroom.region("weights"):
    weights = allocate(32 * MIB)
    with headroom.region("kv"):
        kv = allocate(4 * MIB)
    more = allocate(4 * MIB)
plain = allocate(32 * MIB)
for at, size in ((weights, 32), (kv, 4), (more, 4), (plain, 32)):
    fill(at, size, size * MIB)
states = headroom.sleep_states()
assert {tag: states[tag].ranges for tag in ("weights", "kv", "")} == {"weights": 2, "kv": 1, "": 1}, states
assert headroom.sleep("weights", drop=["kv"]).kept == 36 * MIB
states = headroom.sleep_states()
assert (states["weights"].kept, states["kv"].dropped, states[""].awake_on_gpu) == (36 * MIB, 4 * MIB, 32 * MIB), states
assert headroom.wake(["weights"]).kept == 36 * MIB
assert headroom.wake("kv").dropped == 4 * MIB
assert headroom.sleep(["", "kv"], "drop").dropped == 36 * MIB
headroom.wake()
assert holds(weights, 32, 32 * MIB) and holds(more, 4, 4 * MIB)
""")


def test_what_needs_no_backup_is_dropped_whatever_the_action(passes):
    passes("""
with headroom.region("activations", backup=False):
    one = allocate(32 * MIB)
    with headroom.region("weights"):
        two = allocate(32 * MIB)
    three = allocate(32 * MIB)
report = headroom.sleep()
assert (report.dropped, report.kept) == (64 * MIB, 32 * MIB), report
headroom.wake()
""")


def test_to_disk_with_checksums(passes):
    passes("""
import tempfile, os
at = allocate(32 * MIB)
fill(at, 9, 32 * MIB)
with tempfile.TemporaryDirectory() as folder:
    report = headroom.sleep(action="disk", directory=folder, verify=True)
    assert report.on_disk == 32 * MIB and headroom.sleep_states()[""].on_disk == 32 * MIB
    headroom.wake()
    assert holds(at, 9, 32 * MIB)
""")


def test_lazily(passes):
    passes("""
at = allocate(32 * MIB)
fill(at, 9, 32 * MIB)
headroom.sleep()
report = headroom.wake(lazy=True)
assert report.kept == 32 * MIB and holds(at, 9, 32 * MIB)
""")


def test_mistakes_are_named(passes):
    passes("""
allocate(32 * MIB)
assert "absent" in raised(headroom.NotFound, headroom.sleep, "absent")
assert "absent" in raised(headroom.NotFound, headroom.wake, ["absent"])
for arguments, more, words in (
        ((None, "eat"), {}, "action is 'eat'; use keep, disk, drop"), (([],), {}, "tags is empty"),
        ((None,), {"hold": "on"}, "hold is 'on'; use none, wait, fail"), (([3],), {}, "3, which is no tag"),
        (("a",), {"drop": "a"}, "'a' is in both"), ((None, "disk"), {}, "HEADROOM_SLEEP_DIR")):
    text = raised(headroom.InvalidArgument, lambda: headroom.sleep(*arguments, **more))
    assert words in text, text
for tag in ("", "t" * 64, "a\\0b"):
    assert "1 to 63 bytes" in raised(headroom.InvalidArgument, headroom.region, tag)
raised(headroom.InvalidArgument, headroom.region("a;b").__enter__)
assert "tags is empty" in raised(headroom.InvalidArgument, headroom.wake, ())
assert headroom.sleep_states()[""].awake >= 32 * MIB
""")


def test_an_exception_restores_what_held_before(passes):
    passes("""
try:
    with headroom.region("weights", backup=False):
        raise ArithmeticError
except ArithmeticError:
    pass
at = allocate(32 * MIB)
states = headroom.sleep_states()
assert states[""].ranges == 1 and "weights" not in states, states
assert headroom.sleep().kept == 32 * MIB
headroom.wake()
""")


def test_threads_have_regions_of_their_own(passes):
    passes("""
import threading
def work():
    call("cuCtxSetCurrent", context)
    allocate(32 * MIB)
context = ctypes.c_void_p()
call("cuCtxGetCurrent", ctypes.byref(context))
with headroom.region("mine"):
    thread = threading.Thread(target=work)
    thread.start(); thread.join()
assert "mine" not in headroom.sleep_states() and headroom.sleep_states()[""].ranges == 1
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
headroom.sleep()
data = (ctypes.c_ubyte * MIB)()
assert cuda.cuMemcpyDtoH_v2(data, ctypes.c_uint64(at), ctypes.c_size_t(MIB)) == 401
headroom.wake()
fill(at, 3, 32 * MIB)
headroom.sleep(hold="wait")
seen = []
thread = threading.Thread(target=look)
thread.start()
thread.join(0.2)
assert thread.is_alive() and not seen
headroom.wake()
thread.join()
assert seen == [True]
""", command=(*python_command(), "--"), env={"HEADROOM_LOG": "off"})


def python_command():
    from conftest import COMMAND, SIM

    return (COMMAND, "run", "--sim", SIM, "--hbm-limit", "256MiB", "--host-limit", "512MiB")


def test_a_torch_region_has_a_pool_of_its_own(python):
    run(python, LIMITS + """
with headroom.torch.region("weights"):
    one, first = allocate(32 * MIB)
    with headroom.torch.region("kv", backup=False):
        two, second = allocate(32 * MIB)
    three, third = allocate(32 * MIB)
assert first is third and first is not second and not state.recording
states = headroom.sleep_states()
assert (states["weights"].ranges, states["kv"].ranges) == (2, 1), states
assert headroom.sleep().dropped == 32 * MIB
headroom.wake()
""")


def test_a_pool_in_a_region_has_its_tag_and_shares_with_nobody_else(python):
    run(python, LIMITS + """
block = headroom.torch.pool(hint="hot")
with headroom.region("weights"):
    with block:
        one, first = allocate(32 * MIB)
    with headroom.torch.pool(tag="kv"):
        with headroom.region("inner"):
            pass
        two, _ = allocate(32 * MIB)
    with block:
        three, third = allocate(32 * MIB)
with block:
    four, fourth = allocate(32 * MIB)
assert first is third and first is not fourth
states = headroom.sleep_states()
assert {tag: state.ranges for tag, state in states.items()} == {"weights": 2, "kv": 1, "": 1}, states
headroom.torch.region("weights").release()
""")


def test_a_torch_region_behind_use_sets_the_tag(python):
    run(python, """
headroom.torch.use(hbm_limit="256MiB", host_limit="512MiB")
with headroom.torch.region("weights"):
    at, pool = allocate(64 * MIB)
assert pool is None and headroom.sleep_states()["weights"].ranges == 1
assert headroom.sleep("weights").kept >= 64 * MIB
headroom.wake()
""")


def test_a_torch_region_under_headroom_run(python):
    import conftest
    from allocator_test import BEGIN

    path = f"{conftest.PACKAGE}:{conftest.SOURCE / 'tests' / 'python'}"
    python.passes(BEGIN + """
with headroom.torch.region("weights"):
    at, pool = allocate(64 * MIB)
assert pool is not None and headroom.sleep_states()["weights"].ranges == 1
assert headroom.sleep("weights", "drop").released == 64 * MIB
headroom.wake()
""", command=(*python_command(), "--"), env={"PYTHONPATH": path})
