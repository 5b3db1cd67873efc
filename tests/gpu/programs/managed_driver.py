"""Large allocations under a managed backend, through the driver by ctypes: what the driver
says of them, that they keep what is written, that the CPU reads them, and that there is an end."""

import ctypes
import sys

import common
from driver_ctypes import POINTER, SIZE, Driver

IS_MANAGED = 8  # CU_POINTER_ATTRIBUTE_IS_MANAGED
PREFERRED, ACCESSED_BY, LAST_PREFETCH = 2, 3, 4  # CU_MEM_RANGE_ATTRIBUTE_...


def is_managed(driver, pointer):
    value = ctypes.c_uint(7)
    driver.call("cuPointerGetAttribute", ctypes.byref(value), IS_MANAGED, POINTER(pointer))
    return value.value == 1


def range_attribute(driver, pointer, size, attribute):
    value = ctypes.c_int(-77)
    driver.call("cuMemRangeGetAttribute", ctypes.byref(value), SIZE(4), attribute, POINTER(pointer), SIZE(size))
    return value.value


def placed(report, driver, options, held):
    report.check("managed", all(is_managed(driver, pointer) for pointer in held))
    small = driver.allocate(common.MIB)
    report.check("small ones are not", not is_managed(driver, small))
    driver.free(small)
    for name, attribute in (("preferred", PREFERRED), ("last_prefetch", LAST_PREFETCH)):
        found = {range_attribute(driver, pointer, options.piece, attribute) for pointer in held}
        report.check(name, found == {options.device}, f"{sorted(found)}, expected GPU {options.device}")
    report.figure("accessed_by", range_attribute(driver, held[0], options.piece, ACCESSED_BY))


def contents(report, driver, options, held):
    for index, pointer in enumerate(held):
        driver.set_words(pointer, 0xB0000000 + index, options.piece)
    driver.call("cuCtxSynchronize")
    offsets = (0, options.piece // 2, options.piece - 4)
    bad = sum(driver.word(pointer + offset) != 0xB0000000 + i for i, pointer in enumerate(held) for offset in offsets)
    report.check("values", bad == 0, f"{bad} wrong words")
    seen = [ctypes.c_uint32.from_address(pointer + offset).value for pointer in held[:1] for offset in offsets]
    report.check("the CPU reads them", seen == [0xB0000000] * len(offsets), [hex(word) for word in seen])


def end(report, driver, options):
    _, total = driver.memory()
    report.check("total", total == options.expect_total == driver.device_total(), f"{total} of {options.expect_total}")
    for size in (options.expect_total, 1 << 42):
        report.check("refused", driver.allocate(size) is None, f"{size} bytes were given")


def main():
    options = common.arguments()
    driver = Driver(options.device)
    report = common.Report("managed_driver")
    free_before, _ = driver.memory()
    held = [driver.allocate(options.piece) for _ in range(options.pieces)]
    if report.check("allocated", None not in held, f"{held.count(None)} of {len(held)} pieces were refused"):
        report.run(placed, driver, options, held)
        report.run(contents, driver, options, held)
        report.run(end, driver, options)
    for pointer in filter(None, held):
        driver.free(pointer)
    free_after, _ = driver.memory()
    report.check("memory back", free_after >= free_before - 16 * common.MIB, f"{free_before}, then {free_after}")
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
