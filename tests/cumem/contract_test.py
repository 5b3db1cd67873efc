"""What vLLM's CuMemAllocator relies on, on both drivers."""

import re

import pytest


def test_memory_sleeps_and_wakes_at_the_same_addresses_with_its_contents(program):
    assert program.passes("""
        pool = Pool()
        pool.tag = "weights"
        weights = [pool.malloc(4 * MIB) for _ in range(3)]
        pool.tag = "kv_cache"
        cache = pool.malloc(20 * MIB)
        for i, p in enumerate(weights):
            sim.write(p, pattern(4 * MIB, i))
        sim.write(cache, pattern(20 * MIB, 9))
        assert sim.used() == 32 * MIB
        for _ in range(3):
            pool.sleep("weights")
            assert sim.used() == 0
            pool.wake("weights")
            assert sim.used() == 12 * MIB
            assert all(sim.read(p, 4 * MIB) == pattern(4 * MIB, i) for i, p in enumerate(weights))
            pool.wake("kv_cache")
            sim.write(cache, pattern(20 * MIB, 9))
        for p in [*weights, cache]:
            pool.free(p)
        assert pool.data == {}
        """) == ""


def test_the_callback_gets_the_reservation_before_the_mapping(cuda):
    cuda.passes("""
        seen = []
        def on_malloc(handle):
            seen.append((handle, sim.count("cuMemAddressReserve"), sim.count("cuMemCreate"), sim.count("cuMemMap")))
        cumem_allocator.init_module(on_malloc, lambda pointer: seen[0][0])
        my_malloc, my_free = functions()
        p = my_malloc(3 * MIB, 1, None)
        (handle, reserved, created, mapped), = seen
        assert (reserved, created, mapped) == (1, 0, 0)
        assert len(handle) == 4 and handle[:3] == (1, 4 * MIB, p) and all(type(x) is int for x in handle)
        assert sim.used(0) == 0 and sim.used(1) == 4 * MIB
        # The fourth is where the driver's handle lies, as it is in the original.
        live = ctypes.c_uint64.from_address(handle[3]).value
        text = ctypes.create_string_buffer(64)
        assert sim.library.cuMemGetAllocationPropertiesFromHandle(text, ctypes.c_uint64(live)) == 0
        my_free(p, 3 * MIB, 1, None)
        """)


def test_hip_tells_of_its_chunks_as_a_list(hip):
    hip.passes("""
        seen = []
        cumem_allocator.init_module(seen.append, lambda pointer: seen[-1])
        my_malloc, my_free = functions()
        p = my_malloc(9 * MIB, 1, None)
        device, size, address, chunks = seen[0]
        assert (device, size, address) == (1, 10 * MIB, p)
        assert [bytes_ for _, bytes_ in chunks] == [4 * MIB, 4 * MIB, 2 * MIB]
        # Device memory, whichever place is asked for by mistake: the properties say so.
        class Properties(ctypes.Structure):
            _fields_ = [("type", ctypes.c_int), ("handle", ctypes.c_int), ("where", ctypes.c_int), ("id", ctypes.c_int),
                        ("rest", ctypes.c_byte * 16)]
        for slot, _ in chunks:
            properties = Properties()
            live = ctypes.c_void_p.from_address(slot)
            assert sim.library.hipMemGetAllocationPropertiesFromHandle(ctypes.byref(properties), live) == 0
            assert (properties.type, properties.where, properties.id) == (1, 1, 1)
        cumem_allocator.python_unmap_and_release(*seen[0])
        assert sim.used(1) == 0
        cumem_allocator.python_create_and_map(*seen[0])
        my_free(p, 9 * MIB, 1, None)
        """, VLLM_ROCM_SLEEP_MEM_CHUNK_SIZE="4")


@pytest.mark.parametrize("text", ["0", "-4", "4MB", "", "0x", "99999999999999999999"])
def test_a_bad_chunk_size_is_named_and_the_default_used(hip, text):
    said = hip.passes("""
        pool = Pool()
        p = pool.malloc(300 * MIB)
        assert [size // MIB for _, size in pool.data[p][0][3]] == [256, 44]
        pool.free(p)
        """, VLLM_ROCM_SLEEP_MEM_CHUNK_SIZE=text)
    assert said.count("VLLM_ROCM_SLEEP_MEM_CHUNK_SIZE") == (1 if text else 0)
    assert f"is '{text}'; write a number of MB" in said or not text


def test_rdma_and_the_best_handle_that_the_machine_gives(cuda):
    # The simulated device says that it has fabric handles, and refuses them.
    cuda.passes("""
        pool = Pool()
        first, second = pool.malloc(2 * MIB), pool.malloc(2 * MIB)
        assert sim.count("cuMemCreate") == 3, "one refusal, and it is remembered"
        class Properties(ctypes.Structure):
            _fields_ = [("type", ctypes.c_int), ("handles", ctypes.c_int), ("where", ctypes.c_int), ("id", ctypes.c_int),
                        ("meta", ctypes.c_void_p), ("compression", ctypes.c_ubyte), ("rdma", ctypes.c_ubyte),
                        ("rest", ctypes.c_byte * 14)]
        for p in first, second:
            properties = Properties()
            live = ctypes.c_uint64.from_address(pool.data[p][0][3])
            assert sim.library.cuMemGetAllocationPropertiesFromHandle(ctypes.byref(properties), live) == 0
            assert (properties.handles, properties.rdma, properties.where) == (1, 1, 1)
            pool.free(p)
        """)


def test_neither_kind_of_handle_is_needed(cuda):
    cuda.passes("""
        pool = Pool()
        sim.fail("cuMemCreate:2:CUDA_ERROR_NOT_SUPPORTED")
        p = pool.malloc(2 * MIB)
        sim.write(p, b"x" * 64)
        pool.free(p)
        """)


def test_the_size_that_pytorch_says_is_not_believed(program):
    assert program.passes("""
        pool = Pool()
        p = pool.malloc(3 * MIB)
        pool.free(p, 17, 1)
        assert sim.used() == 0
        """) == ""


def test_free_of_memory_that_sleeps(program):
    assert program.passes("""
        pool = Pool()
        p = pool.malloc(2 * MIB)
        pool.sleep()
        pool.free(p)
        """) == ""


@pytest.mark.parametrize("call", ["pool.free(4096)", "pool.free(p); pool.free(p)", "pool.free(p + 4096); pool.free(p)",
                                  "pool.free(None); pool.free(p)"])
def test_free_of_what_is_not_ours_is_told_and_harmless(program, call):
    said = program.passes(f"""
        pool = Pool()
        p = pool.malloc(2 * MIB)
        {call}
        if p in pool.data: pool.free(p)
        """)
    assert re.fullmatch(r"CUDA Error: invalid argument at \w+\.cc:\d+ \(0x\w+ is no address that my_malloc gave and "
                        r"that is in use\)\n", said), said


def test_doing_it_twice_is_refused_and_changes_nothing(program):
    program.passes("""
        pool = Pool()
        p = pool.malloc(2 * MIB)
        handle = pool.data[p][0]
        sim.write(p, pattern(2 * MIB, 1))
        assert "is mapped already; python_unmap_and_release comes first" in raises(
            RuntimeError, cumem_allocator.python_create_and_map, *handle)
        assert sim.read(p, 2 * MIB) == pattern(2 * MIB, 1)
        cumem_allocator.python_unmap_and_release(*handle)
        assert "is unmapped already; python_create_and_map comes first" in raises(
            RuntimeError, cumem_allocator.python_unmap_and_release, *handle)
        cumem_allocator.python_create_and_map(*handle)
        pool.free(p)
        assert "is no address that my_malloc gave" in raises(
            RuntimeError, cumem_allocator.python_create_and_map, *handle)
        """)


def test_the_record_counts_and_not_what_the_caller_says(program):
    program.passes("""
        pool = Pool()
        p = pool.malloc(4 * MIB)
        device, size, address, handles = pool.data[p][0]
        cumem_allocator.python_unmap_and_release(1, 1, address, handles)
        assert sim.used() == 0
        other = handles + 8 if BACKEND == "cuda" else handles * 2
        assert "the handles are not those" in raises(
            RuntimeError, cumem_allocator.python_create_and_map, device, size, address, other)
        cumem_allocator.python_create_and_map(1, 2 * MIB, address, handles)
        assert sim.used(0) == 4 * MIB and sim.used(1) == 0
        pool.free(p)
        """)


def test_wrong_arguments_are_named(program):
    program.passes("""
        pool = Pool()
        p = pool.malloc(2 * MIB)
        for step in cumem_allocator.python_create_and_map, cumem_allocator.python_unmap_and_release:
            assert raises(TypeError, step, 0, 1, 2) == "Expected a tuple of size 4"
            assert raises(TypeError, step, 0, 1, p, "text")
            assert raises(TypeError, step, 0, 1, p, []) == "Expected a list of (address, size) tuples"
            assert raises(TypeError, step, 0, 1, p, [7]) == "Expected a list of (address, size) tuples"
            assert raises(TypeError, step, None, 1, p, 7)
            assert raises(OverflowError, step, -1, 1, p, 7)
        assert raises(TypeError, cumem_allocator.init_module, 1, 2) == "Both arguments must be callables"
        assert raises(TypeError, cumem_allocator.init_module, print)
        pool.free(p)
        """)


@pytest.mark.parametrize("size,device", [(0, 0), (-1, 0), (1 << 62, 0), (2 << 20, -1), (2 << 20, 99)])
def test_what_cannot_be_allocated_is_refused_in_one_line(program, size, device):
    said = program.passes(f"""
        pool = Pool()
        assert pool.malloc({size}, {device}) is None and pool.data == {{}}
        p = pool.malloc(2 * MIB)
        pool.free(p)
        """)
    assert re.fullmatch(r"CUDA Error: [\w ]+ at \w+\.cc:\d+ \(.+\)\n", said), said


def test_without_callbacks_nothing_is_allocated(program):
    said = program.passes("""
        my_malloc, my_free = functions()
        assert my_malloc(2 * MIB, 0, None) is None
        my_free(4096, 0, 0, None)
        """)
    assert said.startswith("ERROR: g_python_malloc_callback not set; call init_module first.\nCUDA Error: "), said
