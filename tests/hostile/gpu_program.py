"""A CUDA program that does what it reads, for the tests of its neighbours. One line, one answer:

alloc MIB     the driver's result
export        the IPC handle of the last allocation, in hexadecimal
open HANDLE   the driver's result
"""

import ctypes
import sys

cuda = ctypes.CDLL("libcuda.so.1")
pointer = ctypes.c_uint64()


class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_ubyte * 64)]


def check(result: int) -> None:
    assert result == 0, result


def alloc(mib: str) -> int:
    return cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(int(mib) << 20))


def export() -> str:
    handle = Handle()
    check(cuda.cuIpcGetMemHandle(ctypes.byref(handle), pointer))
    return bytes(handle.bytes).hex()


def open_handle(text: str) -> int:
    handle = Handle((ctypes.c_ubyte * 64)(*bytes.fromhex(text)))
    opened = ctypes.c_uint64()
    return cuda.cuIpcOpenMemHandle_v2(ctypes.byref(opened), handle, 1)


def main() -> None:
    context = ctypes.c_void_p()
    check(cuda.cuInit(0))
    check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
    check(cuda.cuCtxSetCurrent(context))
    print("ready", flush=True)
    calls = {"alloc": alloc, "export": export, "open": open_handle}
    for line in sys.stdin:
        word, *arguments = line.split()
        print(calls[word](*arguments), flush=True)


main()
