"""use() and pool() against PyTorch's own rules (fake_torch.py) with real memory on the simulated driver."""

import pytest

BEGIN = """
import fake_torch
torch = fake_torch.install()
import ctypes, threading, gpuroom, gpuroom.torch
from fake_torch import allocate, state
MIB = 1 << 20
def raised(kind, function, *arguments, **more):
    try:
        function(*arguments, **more)
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")
"""
LIMITS = "gpuroom.configure('256MiB', '512MiB')\n"


def run(python, program, **variables):
    import conftest

    path = f"{conftest.PACKAGE}:{conftest.SOURCE / 'tests' / 'python'}"
    return python.dlopened(BEGIN + program, PYTHONPATH=path, **variables)


def test_importing_gpuroom_torch_touches_no_cuda(python):
    run(python, """
assert not state.initialized and "libcuda" not in open("/proc/self/maps").read()
assert gpuroom.torch.use is not None
""")


def test_use_installs_functions_and_every_hook(python):
    run(python, """
gpuroom.torch.use(hbm_limit="256MiB", host_limit="512MiB", policy="gpu_first")
library = ctypes.CDLL(gpuroom.library_path())
def address(name):
    return ctypes.cast(getattr(library, "gpuroom_torch_" + name), ctypes.c_void_p).value
assert state.current.hooks == {
    "set_init_fn": address("init"), "set_reset_fn": address("reset"),
    "set_memory_fraction_fn": address("memory_fraction"), "set_base_alloc_fn": address("base_alloc"),
    "set_record_stream_fn": address("record_stream"),
    "set_begin_allocate_to_pool": address("begin_allocate_to_pool"),
    "set_end_allocate_to_pool_fn": address("end_allocate_to_pool"), "set_release_pool": address("release_pool")}
gpuroom.torch.use(hbm_limit="256MiB", host_limit="512MiB", policy="gpu_first")
assert "with other arguments before" in raised(gpuroom.Error, gpuroom.torch.use)
at, pool = allocate(100 * MIB)
assert at and pool is None
stats = gpuroom.stats()
assert stats.pool_allocated >= 100 * MIB and stats.pool_allocations == 1 and stats.device_limit == 256 * MIB
state.current.free(at, 100 * MIB, 0, None)
assert gpuroom.stats().pool_allocated == 0 and gpuroom.stats().pool_reserved >= 100 * MIB
gpuroom.trim()
assert gpuroom.stats().pool_reserved == 0
assert "use one of the two" in raised(gpuroom.Error, gpuroom.torch.pool)
""")


def test_use_comes_too_late(python):
    run(python, """
state.initialized = True
assert "call gpuroom.torch.use() before the first use" in raised(gpuroom.Error, gpuroom.torch.use)
state.initialized, state.backend = False, "pluggable"
assert "another allocator (pluggable)" in raised(gpuroom.Error, gpuroom.torch.use)
assert state.current is None
""")


def test_a_block_s_memory_lies_where_it_says(python):
    run(python, LIMITS + """
with gpuroom.torch.pool(hint="cold", tag="kv_cache"):
    cold, _ = allocate(64 * MIB)
with gpuroom.torch.pool(policy="gpu_first"):
    near, _ = allocate(64 * MIB)
assert gpuroom.describe(cold).host_bytes == 64 * MIB and gpuroom.describe(cold).hint == "cold"
assert gpuroom.describe(near).device_bytes == 64 * MIB
assert not state.recording
""")


def test_rules_see_the_tag(python):
    run(python, LIMITS + """
with gpuroom.torch.pool(tag="kv_cache"):
    tagged, _ = allocate(64 * MIB)
with gpuroom.torch.pool(tag="other"):
    other, _ = allocate(64 * MIB)
assert gpuroom.describe(tagged).host_bytes == 64 * MIB and gpuroom.describe(other).host_bytes == 0
""", GPUROOM_RULES="tag=kv_cache,hint=cold")


def test_nested_blocks_the_innermost_counts_and_the_outer_comes_back(python):
    run(python, LIMITS + """
outer, inner = gpuroom.torch.pool(hint="cold"), gpuroom.torch.pool(hint="hot")
with outer:
    one, first = allocate(32 * MIB)
    with inner:
        two, second = allocate(32 * MIB)
        with outer:                          # the same again: its own pool serves it
            three, third = allocate(32 * MIB)
        four, fourth = allocate(32 * MIB)
    five, fifth = allocate(32 * MIB)
assert first is third is fifth and second is fourth and first is not second
assert [gpuroom.describe(at).host_bytes // MIB for at in (one, two, three, four, five)] == [32, 0, 32, 0, 32]
assert allocate(1) == (None, None) and fake_torch.MemPool.alive == 2
""")


def test_blocks_used_again_share_one_pool_and_threads_get_their_own(python):
    run(python, LIMITS + """
seen = set()
for _ in range(5):
    with gpuroom.torch.pool(hint="cold", tag="x"):
        seen.add(id(allocate(2 * MIB)[1]))
assert len(seen) == 1
one = gpuroom.torch.pool(hint="cold", tag="x")
barrier, ids, failures = threading.Barrier(4), [], []
def work():
    try:
        for _ in range(3):
            with one:
                barrier.wait()
                ids.append(id(allocate(2 * MIB)[1]))
                barrier.wait()
    except Exception as error:
        failures.append(error); barrier.abort()
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
assert not failures, failures
assert len(set(ids)) == 4 == fake_torch.MemPool.alive and not state.recording
""")


def test_an_exception_leaves_the_block_and_memory_lives_on(python):
    run(python, LIMITS + """
block = gpuroom.torch.pool(hint="cold")
try:
    with block:
        at, _ = allocate(32 * MIB)
        raise ArithmeticError
except ArithmeticError:
    pass
assert not state.recording and gpuroom.describe(at).host_bytes == 32 * MIB
del block
assert gpuroom.describe(at).host_bytes == 32 * MIB and fake_torch.MemPool.alive == 1
""")


def test_release_gives_back_what_is_idle(python):
    run(python, LIMITS + """
block, other = gpuroom.torch.pool(hint="cold"), gpuroom.torch.pool(hint="cold", tag="other")
with other, block:
    at, _ = allocate(32 * MIB)
    block.release()                                   # in use: stays
    assert gpuroom.describe(at).bytes == 32 * MIB
with other:
    kept, _ = allocate(32 * MIB)
block.release()
assert "has placed nothing" in raised(gpuroom.NotFound, gpuroom.describe, at)
assert gpuroom.describe(kept).bytes == 32 * MIB and fake_torch.MemPool.alive == 1
with block:
    assert gpuroom.describe(allocate(32 * MIB)[0]).host_bytes == 32 * MIB
""")


@pytest.mark.parametrize("backup", ["0", "1"])
def test_a_thread_that_begins_in_a_region_stays_in_it(python, backup):
    run(python, LIMITS + f"BACKUP = {backup}" + """
library = gpuroom._library.load()
def segment():
    malloc = library.handle.gpuroom_segment_malloc
    malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
    return malloc(8 * MIB, 0, None)
def work():
    with gpuroom.torch.pool(hint="hot"):
        assert allocate(8 * MIB)[0]
    with gpuroom.torch.region("kept"):
        assert allocate(8 * MIB)[0]
    with gpuroom.region("lost", backup=False):
        assert segment()
    assert segment()
thread = threading.Thread(target=work); thread.start(); thread.join()
work()
states = gpuroom.sleep_states()
assert {tag: state.ranges for tag, state in states.items()} == {"default": 4, "kept": 2, "lost": 2}, states
gpuroom.sleep()
states = gpuroom.sleep_states()
assert states["kept"].kept == 16 * MIB and states["lost"].dropped == 16 * MIB, states
assert (states["default"].kept, states["default"].dropped)[not BACKUP] == 32 * MIB, states
""", TMS_INIT_ENABLE="1", TMS_INIT_ENABLE_CPU_BACKUP=backup)


def test_lack_of_memory_is_pytorch_s_own_exception_and_the_next_request_works(python):
    run(python, LIMITS + """
with gpuroom.torch.pool():
    raised(torch.cuda.OutOfMemoryError, allocate, 4096 * MIB)
    at, _ = allocate(64 * MIB)
assert gpuroom.describe(at).bytes == 64 * MIB and not state.recording
""", GPUROOM_LOG="error")


def test_bad_arguments_are_named(python):
    run(python, """
for arguments, words in (({"policy": "fast"}, "policy is 'fast'"), ({"hint": "warm"}, "hint is 'warm'; use none, hot"),
                         ({"backend": "x"}, "backend is 'x'"), ({"tag": "t" * 64}, "1 to 63 bytes"),
                         ({"tag": ""}, "1 to 63 bytes"), ({"device": "cpu"}, "device is 'cpu'")):
    assert words in raised(gpuroom.InvalidArgument, gpuroom.torch.pool, **arguments), arguments
""")


def test_the_process_ends_well_with_pools_and_tensors_alive(python):
    run(python, LIMITS + """
import atexit
atexit.register(lambda: print(fake_torch.MemPool.alive))
with gpuroom.torch.pool(hint="cold"):
    allocate(64 * MIB)
""")
