"""The driver through Python's ctypes, as small tools use it: totals agree, pieces
of memory keep what is written, all of it comes back."""

import ctypes
import sys

import common

POINTER = ctypes.c_uint64
SIZE = ctypes.c_size_t
OUT_OF_MEMORY = 2


class Driver:
    """libcuda.so.1 with a primary context current; calls raise on failure."""

    def __init__(self, device=0):
        try:
            self.library = ctypes.CDLL("libcuda.so.1")
        except OSError:
            common.skip("there is no libcuda.so.1 here")
        if self.library.cuInit(0) != 0:
            common.skip("cuInit failed: no usable GPU")
        self.device = ctypes.c_int()
        if self.library.cuDeviceGet(ctypes.byref(self.device), device) != 0:
            common.skip(f"there is no GPU {device}")
        context = ctypes.c_void_p()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self.device)
        self.call("cuCtxSetCurrent", context)

    def call(self, name, *arguments):
        result = getattr(self.library, name)(*arguments)
        if result != 0:
            raise RuntimeError(f"{name} failed with CUDA error {result}")

    def memory(self):
        free, total = SIZE(), SIZE()
        self.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def device_total(self):
        total = SIZE()
        self.call("cuDeviceTotalMem_v2", ctypes.byref(total), self.device)
        return total.value

    def allocate(self, size):
        """The address, or None when there is no more memory."""
        pointer = POINTER()
        result = self.library.cuMemAlloc_v2(ctypes.byref(pointer), SIZE(size))
        if result == OUT_OF_MEMORY:
            return None
        if result != 0:
            raise RuntimeError(f"cuMemAlloc failed with CUDA error {result}")
        return pointer.value

    def free(self, pointer):
        self.call("cuMemFree_v2", POINTER(pointer))

    def set_words(self, pointer, word, size):
        self.call("cuMemsetD32_v2", POINTER(pointer), ctypes.c_uint(word), SIZE(size // 4))

    def word(self, pointer):
        value = ctypes.c_uint32()
        self.call("cuMemcpyDtoH_v2", ctypes.byref(value), POINTER(pointer), SIZE(4))
        return value.value


def totals(report, driver, options):
    _, total = driver.memory()
    report.check("totals agree", total == driver.device_total(), f"{total} and {driver.device_total()}")
    if options.expect_total:
        report.check("total", total == options.expect_total, f"{total}, expected {options.expect_total}")


def pieces(report, driver, options):
    free_before, _ = driver.memory()
    held = [driver.allocate(options.piece) for _ in range(options.pieces)]
    report.check("allocated", None not in held, f"{held.count(None)} pieces were refused")
    held = [pointer for pointer in held if pointer is not None]
    for index, pointer in enumerate(held):
        driver.set_words(pointer, 0xA0000000 + index, options.piece)
    bad = 0
    for index, pointer in enumerate(held):
        for offset in (0, options.piece // 2, options.piece - 4):
            bad += driver.word(pointer + offset) != 0xA0000000 + index
    report.check("values", bad == 0, f"{bad} wrong words")
    for pointer in held:
        driver.free(pointer)
    free_after, _ = driver.memory()
    report.check("memory back", free_after >= free_before - 16 * common.MIB, f"{free_before}, then {free_after}")


def main():
    options = common.arguments()
    driver = Driver(options.device)
    report = common.Report("driver_ctypes")
    report.run(totals, driver, options)
    if options.pieces:
        report.run(pieces, driver, options)
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
