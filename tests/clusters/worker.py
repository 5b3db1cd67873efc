"""A CUDA program that does what it is asked through a socket: the worker of each engine in these tests.

  worker.py FOLDER     serves FOLDER/<any name>.sock until it is killed

One line, one answer:
  told     MiB that the driver says the GPU has
  free     MiB of these that it says are free
  begin    allocates one piece of 16 MiB: MiB that it now holds
  take     allocates pieces of 16 MiB until one is refused: MiB that it now holds
  held     MiB that it holds
  spilled  MiB of these that do not fit the HBM that a process may use
  check    whether every piece still has what was written into it
"""

import ctypes
import os
import pathlib
import socket
import sys

PIECE = 16 << 20
OUT_OF_MEMORY = 2


def driver_call(cuda: ctypes.CDLL, name: str, *arguments: object) -> None:
    result = getattr(cuda, name)(*arguments)
    assert result == 0, f"{name}: {result}"


class Memory:
    def __init__(self) -> None:
        self.cuda = ctypes.CDLL("libcuda.so.1")
        self.pieces: list[int] = []
        context = ctypes.c_void_p()
        driver_call(self.cuda, "cuInit", 0)
        driver_call(self.cuda, "cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
        driver_call(self.cuda, "cuCtxSetCurrent", context)

    def memory(self) -> tuple[int, int]:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        driver_call(self.cuda, "cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value >> 20, total.value >> 20

    def told(self) -> int:
        return self.memory()[1]

    def free(self) -> int:
        return self.memory()[0]

    def one(self) -> bool:
        address = ctypes.c_uint64()
        result = self.cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(PIECE))
        if result == OUT_OF_MEMORY:
            return False
        assert result == 0, result
        driver_call(self.cuda, "cuMemsetD32_v2", address, self.word(address.value), ctypes.c_size_t(PIECE // 4))
        self.pieces.append(address.value)
        return True

    def held(self) -> int:
        return len(self.pieces) * (PIECE >> 20)

    def begin(self) -> int:
        assert self.one()
        return self.held()

    def take(self) -> int:
        while self.one():
            pass
        return self.held()

    @staticmethod
    def word(address: int) -> ctypes.c_uint32:
        return ctypes.c_uint32((address >> 12) ^ os.getpid())

    def spilled(self) -> int:
        hbm = int(os.environ["GPUROOM_HBM_LIMIT"]) >> 20
        return max(0, self.held() - hbm)

    def check(self) -> bool:
        found = ctypes.c_uint32()
        for address in self.pieces:
            for offset in 0, PIECE - 4:
                place = ctypes.c_uint64(address + offset)
                driver_call(self.cuda, "cuMemcpyDtoH_v2", ctypes.byref(found), place, ctypes.c_size_t(4))
                if found.value != self.word(address).value:
                    return False
        return True


def serve(folder: str) -> None:
    """Never returns. The socket gets its name once it listens, so that whoever finds it can connect."""
    memory = Memory()
    listener = socket.socket(socket.AF_UNIX)
    path = pathlib.Path(folder, os.urandom(8).hex())
    listener.bind(str(path))
    listener.listen()
    path.rename(path.with_suffix(".sock"))
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("rw") as lines:
            for line in lines:
                print(getattr(memory, line.strip())(), file=lines, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
