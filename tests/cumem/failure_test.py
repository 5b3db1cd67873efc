"""Whatever fails is told once, undone, and does not stand in the way of the next call."""

import re

from conftest import BUILD, LIBRARIES

OOM = r"CUDA Error: out of memory at \w+\.cc:\d+ \(\w+ of \d+ bytes on device 0\)\n"


def test_every_call_of_an_allocation_fails_in_turn(program):
    program.passes("""
        pool = Pool()
        warm = pool.malloc(6 * MIB)
        before = sim.count("*")
        probe = pool.malloc(6 * MIB)
        calls = sim.count("*") - before
        pool.free(probe)
        assert calls >= 6, calls
        for k in range(1, calls + 1):
            sim.fail(f"*:{k}:999")
            p = pool.malloc(6 * MIB)
            sim.fail("")
            if p is not None:
                pool.free(p)
            assert set(pool.data) == {warm}, (k, pool.data)
            assert sim.used() == 6 * MIB, k
            p = pool.malloc(6 * MIB)
            sim.write(p, pattern(6 * MIB, k))
            pool.free(p)
        pool.free(warm)
        """, VLLM_ROCM_SLEEP_MEM_CHUNK_SIZE="2")


def test_every_call_of_a_sleep_and_a_wake_fails_in_turn(program):
    program.passes("""
        pool = Pool()
        p = pool.malloc(6 * MIB)
        handle = pool.data[p][0]
        def step(function):
            before = sim.count("*")
            function(*handle)
            return sim.count("*") - before
        calls = {f: step(f) for f in (cumem_allocator.python_unmap_and_release, cumem_allocator.python_create_and_map)}
        failed = 0
        for k in range(1, max(calls.values()) + 1):
            sim.write(p, pattern(6 * MIB, k))
            sim.fail(f"*:{k}:999")
            try:
                cumem_allocator.python_unmap_and_release(*handle)
            except RuntimeError as error:
                failed += 1
                sim.fail("")
                assert "CUDA Error: " in str(error), error
                assert sim.read(p, 6 * MIB) == pattern(6 * MIB, k), "a sleep that fails loses nothing"
                cumem_allocator.python_unmap_and_release(*handle)
            sim.fail("")
            assert sim.used() == 0, k
            sim.fail(f"*:{k}:999")
            try:
                cumem_allocator.python_create_and_map(*handle)
            except RuntimeError as error:
                failed += 1
                sim.fail("")
                assert sim.used() == 0, (k, "a wake that fails leaves it asleep")
                cumem_allocator.python_create_and_map(*handle)
            sim.fail("")
            sim.write(p, pattern(6 * MIB, k))
        assert failed >= 8, failed
        pool.free(p)
        """, VLLM_ROCM_SLEEP_MEM_CHUNK_SIZE="2")


def test_every_call_of_a_free_fails_in_turn(program):
    said = program.passes("""
        pool = Pool()
        for k in range(1, 20):
            p = pool.malloc(6 * MIB)
            sim.fail(f"*:{k}:999")
            pool.free(p)
            sim.fail("")
            assert pool.data == {}
            pool.free(pool.malloc(2 * MIB))  # gives back what was left
            assert sim.used() == 0 and sim.lines("leaks") == "", k
        """, VLLM_ROCM_SLEEP_MEM_CHUNK_SIZE="2")
    assert said.count("\n") <= 1, said  # no context, at most: all else is tried again at once


def test_what_stays_broken_is_given_back_when_it_works_again(hip):
    said = hip.passes("""
        pool = Pool()
        for call in "hipMemUnmap", "hipMemRelease", "hipMemAddressFree":
            p = pool.malloc(6 * MIB)
            sim.fail(f"{call}:1+:999")
            pool.free(p)
            other = pool.malloc(2 * MIB)
            sim.fail("")
            assert other is not None and other != p
            pool.free(other)
            assert sim.lines("leaks") == "", call
        """, VLLM_ROCM_SLEEP_MEM_CHUNK_SIZE="2")
    assert re.fullmatch(r"(CUDA Error: unknown error at record\.cc:\d+ \(\w+ of \d+ bytes on device 0\)\n)+", said), said


def test_out_of_memory_is_one_line_and_the_next_allocation_works(program):
    said = program.passes("""
        pool = Pool()
        big = pool.malloc(800 * MIB)
        assert pool.malloc(400 * MIB) is None
        assert set(pool.data) == {big}, "the callbacks have forgotten it again"
        small = pool.malloc(2 * MIB)
        pool.sleep()
        pool.wake()
        pool.free(small)
        pool.free(big)
        """)
    assert re.fullmatch(OOM, said), said


def test_a_wake_out_of_memory_leaves_it_asleep_and_a_later_one_works(program):
    program.passes("""
        pool = Pool()
        p = pool.malloc(800 * MIB)
        handle = pool.data[p][0]
        sim.write(p, pattern(2 * MIB, 3))
        backup = sim.read(p, 2 * MIB)
        cumem_allocator.python_unmap_and_release(*handle)
        other = pool.malloc(400 * MIB)
        text = raises(RuntimeError, cumem_allocator.python_create_and_map, *handle)
        assert text.startswith("CUDA Error: out of memory at record.cc:"), text
        assert CALLS + "Create" in text and sim.used() == 400 * MIB
        pool.free(other)
        cumem_allocator.python_create_and_map(*handle)
        sim.write(p, backup)
        assert sim.read(p, 2 * MIB) == pattern(2 * MIB, 3)
        pool.free(p)
        """)


def test_a_capture_is_refused_when_asked_and_waited_out_when_freed(hip):
    said = hip.passes("""
        pool = Pool()
        p, other = pool.malloc(2 * MIB), pool.malloc(2 * MIB)
        sim.control("set_capturing")(1)
        text = raises(RuntimeError, cumem_allocator.python_unmap_and_release, *pool.data[p][0])
        assert "end the capture first" in text, text
        pool.free(other)
        assert sim.used() == 4 * MIB
        sim.control("set_capturing")(0)
        pool.free(p)
        assert sim.used() == 0
        """)
    assert said.count("end the capture first") == 1 and said.count("\n") == 1, said


def test_work_in_flight_is_waited_for(program):
    program.passes("""
        pool = Pool()
        p = pool.malloc(2 * MIB)
        before = sim.count(DRAIN)
        pool.sleep()
        assert sim.count(DRAIN) == before + 1
        pool.wake()
        pool.free(p)
        assert sim.count(DRAIN) == before + 2
        """)


def test_a_malloc_callback_that_raises_gets_no_memory(program):
    said = program.passes("""
        calls = []
        def on_malloc(handle):
            calls.append(handle)
            raise ValueError("no such tag")
        cumem_allocator.init_module(on_malloc, lambda pointer: None)
        my_malloc, my_free = functions()
        assert my_malloc(2 * MIB, 0, None) is None and len(calls) == 1
        assert sim.used() == 0 and sim.lines("leaks") == ""
        pool = Pool()
        pool.free(pool.malloc(2 * MIB))
        """)
    assert "ValueError: no such tag" in said and said.count("Exception ignored in") == 1, said


def test_a_free_callback_that_raises_or_errs_frees_all_the_same(program):
    said = program.passes("""
        pool = Pool()
        p, q, r = (pool.malloc(2 * MIB) for _ in range(3))
        del pool.data[p]  # as vLLM forgets what it released by itself
        pool.free(p)
        cumem_allocator.init_module(print, lambda pointer: pool.data[r][0])
        pool.free(q)
        cumem_allocator.init_module(print, lambda pointer: "four")
        pool.free(r)
        assert sim.used() == 0
        """)
    assert said.count("Exception ignored in") == 3 and f"KeyError" in said, said
    assert "was asked for address" in said and "Expected a tuple of size 4" in said, said


def test_an_exception_on_its_way_is_not_lost(program):
    # In the callback there is none, and after it the one that was there.
    assert program.passes(f"""
        import sys
        pool = Pool()
        seen = []
        def on_free(pointer):
            seen.append(ctypes.pythonapi.PyErr_Occurred())
            return Pool.on_free(pool, pointer)
        cumem_allocator.init_module(pool.on_malloc, on_free)
        ctypes.pythonapi.PyErr_Occurred.restype = ctypes.c_void_p
        raiser = ctypes.PyDLL({str(BUILD / "tests" / "cumem" / "libgpuroom_cumem_raiser.so")!r})
        raiser.gpuroom_free_and_raise.restype = ctypes.py_object
        p = pool.malloc(2 * MIB)
        free = ctypes.cast(pool.free_, ctypes.c_void_p)
        text = raises(KeyError, raiser.gpuroom_free_and_raise, free, ctypes.c_void_p(p))
        assert text == "'mine'" and seen == [None], (text, seen)
        """) == ""


def test_without_a_gpu_the_reason_is_told_each_time(program):
    said = program.passes("""
        pool = Pool()
        assert pool.malloc(2 * MIB) is None
        assert pool.malloc(2 * MIB) is None
        """, GPUROOM_CUMEM_BACKEND="hip" if program.backend == "cuda" else "cuda")
    library = "libamdhip64.so" if program.backend == "cuda" else "libcuda.so.1"
    assert len(re.findall(rf"CUDA Error: no GPU at select\.cc:\d+ \(.*{re.escape(library)} was not found", said)) == 2, said


def test_a_backend_that_there_is_not_is_named(program):
    said = program.passes("""
        assert Pool().malloc(2 * MIB) is None
        """, GPUROOM_CUMEM_BACKEND="rocm")
    assert "GPUROOM_CUMEM_BACKEND is 'rocm'; write cuda or hip, or unset it" in said, said


def test_cuda_comes_before_hip(cuda):
    cuda.passes("""
        pool = Pool()
        p = pool.malloc(2 * MIB)
        assert type(pool.data[p][0][3]) is int and sim.used() == 2 * MIB
        pool.free(p)
        """, LD_LIBRARY_PATH=f"{LIBRARIES / 'sim'}:{LIBRARIES / 'sim' / 'hip'}")
