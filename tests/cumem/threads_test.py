"""Any thread, with Python's lock or without it; and the end of the process."""

import pytest

from conftest import BUILD

STORM = """
    import threading
    pool = Pool(ctypes.{loader})
    mistakes = []
    stop = threading.Event()
    def churn(seed):
        try:
            mine = []
            for i in range(60):
                p = pool.malloc(2 * MIB * (1 + (i + seed) % 3), seed % 2)
                sim_device(seed % 2)
                sim.write(p, bytes([seed, i]) * 512)
                mine.append((p, bytes([seed, i]) * 512))
                handle = pool.data[p][0]
                if i % 3 == 0:
                    cumem_allocator.python_unmap_and_release(*handle)
                    cumem_allocator.python_create_and_map(*handle)
                    sim.write(p, mine[-1][1])
                if i % 4 == 3:
                    for q, data in mine:
                        assert sim.read(q, len(data)) == data
                        pool.free(q)
                    mine = []
        except BaseException as error:
            mistakes.append(repr(error))
    def sim_device(device):
        if BACKEND == "hip":
            sim.library.hipSetDevice(device)
    def spin():
        while not stop.is_set():
            sum(range(1000))
    spinners = [threading.Thread(target=spin) for _ in range(2)]
    workers = [threading.Thread(target=churn, args=(seed,)) for seed in range(6)]
    for thread in spinners + workers:
        thread.start()
    for thread in workers:
        thread.join(120)
        assert not thread.is_alive(), "stuck"
    stop.set()
    assert mistakes == [], mistakes
    assert pool.data == {{}}
"""


@pytest.mark.parametrize("loader", ["CDLL", "PyDLL"])
def test_threads_that_contend_for_pythons_lock(program, loader):
    assert program.passes(STORM.format(loader=loader)) == ""


def test_the_lock_is_free_after_every_kind_of_failure(program):
    # A lock that is kept would stop the other thread for ever.
    program.passes("""
        import threading
        pool = Pool()
        def all_failures():
            sim.fail(f"{CALLS}Create:1:2")
            assert pool.malloc(2 * MIB) is None
            sim.fail(f"{CALLS}AddressReserve:1:2")
            assert pool.malloc(2 * MIB) is None
            sim.fail("")
            p = pool.malloc(2 * MIB)
            del pool.data[p]
            pool.free(p)
            pool.free(4096)
        for _ in range(3):
            thread = threading.Thread(target=all_failures)
            thread.start()
            thread.join(60)
            assert not thread.is_alive(), "the lock was kept"
        """)


def test_threads_that_python_has_never_seen(cuda):
    # PyTorch frees from threads of its own: a C thread calls my_malloc and my_free.
    cuda.passes("""
        pool = Pool()
        libc = ctypes.CDLL(None)
        START = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
        address = ctypes.cast(pool.free_, ctypes.c_void_p).value
        p = pool.malloc(2 * MIB)
        thread = ctypes.c_ulong()
        # my_free(pointer, ...) looks at its first argument alone, which is what a thread's start gets.
        assert libc.pthread_create(ctypes.byref(thread), None, ctypes.c_void_p(address), ctypes.c_void_p(p)) == 0
        assert libc.pthread_join(thread, None) == 0
        assert pool.data == {} and sim.used() == 0
        """)


def test_memory_that_is_left_at_the_end_does_no_harm(program):
    done = program("""
        import atexit
        pool = Pool()
        p, q = pool.malloc(2 * MIB), pool.malloc(2 * MIB)
        atexit.register(pool.free, p)
        print("end")
        """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_under_gpuroom_run_it_spills_and_sleeps(cuda):
    # The hooks see its calls like any others': more than the HBM's limit fits, and sleeping gives all of it back.
    command = [BUILD / "bin" / "gpuroom", "run", "--quiet", "--sim", "1GiB,host=1GiB", "--hbm-limit", "256MiB", "--host-limit",
               "512MiB", "--"]
    done = cuda("""
        pool = Pool()
        pool.tag = "weights"
        pointers = [pool.malloc(64 * MIB) for _ in range(6)]
        assert None not in pointers
        assert sim.used(0) <= 256 * MIB and sim.used(0) + sim.used(-1) == 384 * MIB
        for i, p in enumerate(pointers):
            sim.write(p, pattern(64 * MIB, i))
        pool.sleep("weights")
        assert sim.used(0) == 0
        pool.wake()
        assert all(sim.read(p, 64 * MIB) == pattern(64 * MIB, i) for i, p in enumerate(pointers))
        for p in pointers:
            pool.free(p)
        assert sim.used(0) == 0 and sim.lines("strict_errors") == ""
        """, command=command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
