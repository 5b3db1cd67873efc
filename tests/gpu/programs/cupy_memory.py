"""Stock CuPy with more arrays than the GPU is said to hold, from its default pool
and from the stream-ordered one."""

import sys

import common

cupy = common.need("cupy")
import numpy  # noqa: E402  (CuPy brings it)


def wrong(array, seed):
    step = 1 << 24
    bad = 0
    for start in range(0, array.size, step):
        part = array[start : start + step]
        bad += int((part != cupy.arange(seed + start, seed + start + part.size, dtype=cupy.int32)).sum())
    return bad


def filled(elements, seed):
    array = cupy.empty(elements, dtype=cupy.int32)
    array[...] = 0
    step = 1 << 24
    for start in range(0, elements, step):
        stop = min(start + step, elements)
        array[start:stop] = cupy.arange(seed + start, seed + stop, dtype=cupy.int32)
    return array


def visible_memory(report, options):
    _, total = cupy.cuda.Device().mem_info
    properties = cupy.cuda.runtime.getDeviceProperties(options.device)
    report.check("totals agree", properties["totalGlobalMem"] == total, f"{properties['totalGlobalMem']}, {total}")
    if options.expect_total:
        report.check("total", total == options.expect_total, f"{total}, expected {options.expect_total}")


def arrays(report, options):
    held = [filled(options.piece // 4, 1000 * i) for i in range(options.pieces)]
    bad = sum(wrong(array, 1000 * i) for i, array in enumerate(held))
    report.check("values", bad == 0, f"{bad} wrong elements")
    places = [common.describe(array.data.ptr) for array in held]
    if options.expect_total:
        host = sum(place.host_bytes for place in places if place is not None)
        report.figure("host_bytes", host)
        report.check("some spilled", host > 0, "no array lies in host memory")
    copy = held[0].copy()
    report.check("copy", wrong(copy, 0) == 0, "wrong elements")
    del copy
    report.check("copy to host", bool((held[0].get() == numpy.arange(held[0].size, dtype=numpy.int32)).all()), "wrong")
    left = held[0].view(cupy.float32)[: 1024 * 1024].reshape(1024, 1024)
    left[...] = cupy.random.RandomState(1).standard_normal((1024, 1024), dtype=cupy.float32)
    product = cupy.asnumpy(left @ left)
    host_left = cupy.asnumpy(left).astype(numpy.float64)
    reference = host_left @ host_left
    error = float(abs(product - reference).max() / abs(reference).max())
    report.check("matmul", error < 2e-3, f"relative error {error}")  # TF32 allowed


def out_of_memory(report, options):
    try:
        cupy.empty(1 << 42, dtype=cupy.uint8)
        report.check("over-large request", False, "4 TiB were given")
    except cupy.cuda.memory.OutOfMemoryError:
        report.check("over-large request", True)
    report.check("goes on", int(cupy.arange(10).sum()) == 45, "wrong sum")


def memory_back(report, free_before):
    cupy.get_default_memory_pool().free_all_blocks()
    free_after, _ = cupy.cuda.Device().mem_info
    report.figure("free_lost_bytes", free_before - free_after)
    report.check("memory back", free_after >= free_before - 128 * common.MIB, f"{free_before}, then {free_after}")


def stream_ordered_pool(report, options):
    pool = cupy.cuda.MemoryAsyncPool()
    with cupy.cuda.using_allocator(pool.malloc):
        held = [filled(options.piece // 4, 77 * i) for i in range(options.pieces)]
        bad = sum(wrong(array, 77 * i) for i, array in enumerate(held))
        report.check("stream-ordered values", bad == 0, f"{bad} wrong elements")
        held.clear()
    cupy.cuda.Device().synchronize()


def main():
    options = common.arguments()
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        common.skip(f"CuPy finds no GPU: {error}")
    if count <= options.device:
        common.skip(f"there is no GPU {options.device}")
    cupy.cuda.Device(options.device).use()
    report = common.Report("cupy_memory")
    report.run(visible_memory, options)
    wrong(filled(1 << 20, 1), 1)  # compiles the kernels
    cupy.get_default_memory_pool().free_all_blocks()
    free_before, _ = cupy.cuda.Device().mem_info
    report.run(arrays, options)
    report.run(out_of_memory, options)
    report.run(memory_back, free_before)
    report.run(stream_ordered_pool, options)
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
