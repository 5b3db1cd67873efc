"""Numba's CUDA target: it calls the driver through ctypes of its own."""

import sys

import common

common.need("numba")
try:
    from numba import cuda
    import numpy
except ImportError as error:
    common.skip(f"numba.cuda cannot be imported: {error}")


@cuda.jit
def add(data, value):
    i = cuda.grid(1)
    while i < data.size:
        data[i] += value
        i += cuda.gridsize(1)


def arrays(report, options):
    free, total = cuda.current_context().get_memory_info()
    report.figure("free", free)
    if options.expect_total:
        report.check("total", total == options.expect_total, f"{total}, expected {options.expect_total}")
    base = numpy.arange(options.piece // 8, dtype=numpy.int64)
    held = []
    for index in range(options.pieces):
        held.append(cuda.to_device(base))
        add[256, 256](held[-1], index)
    bad = sum(int((array.copy_to_host() != base + index).sum()) for index, array in enumerate(held))
    report.check("values", bad == 0, f"{bad} wrong elements")
    if options.expect_total:
        places = [common.describe(array.__cuda_array_interface__["data"][0]) for array in held]
        host = sum(place.host_bytes for place in places if place is not None)
        report.check("some spilled", host > 0, "no array lies in host memory")


def main():
    options = common.arguments()
    if not cuda.is_available():
        common.skip("Numba finds no GPU")
    report = common.Report("numba_memory")
    report.run(arrays, options)
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
