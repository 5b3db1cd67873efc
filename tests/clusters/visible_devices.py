"""Prints, for each GPU that CUDA shows, its UUID and its memory as CUDA says and as NVML says of that UUID, in bytes.

40 MiB are allocated on the first one. The program is a child of the tests in visible_test.py.
"""

import ctypes
import json
import uuid

from worker import driver_call


class Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


cuda, nvml = ctypes.CDLL("libcuda.so.1"), ctypes.CDLL("libnvidia-ml.so.1")


def cuda_uuid(ordinal: int) -> str:
    name = (ctypes.c_ubyte * 16)()
    driver_call(cuda, "cuDeviceGetUuid_v2", ctypes.byref(name), ordinal)
    return str(uuid.UUID(bytes=bytes(name)))


def cuda_memory(ordinal: int) -> dict[str, int]:
    context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    driver_call(cuda, "cuDevicePrimaryCtxRetain", ctypes.byref(context), ordinal)
    driver_call(cuda, "cuCtxSetCurrent", context)
    if ordinal == 0:
        driver_call(cuda, "cuMemAlloc_v2", ctypes.byref(ctypes.c_uint64()), ctypes.c_size_t(40 << 20))
    driver_call(cuda, "cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    return {"total": total.value, "free": free.value}


def nvml_memory(name: str) -> dict[str, int]:
    handle, memory = ctypes.c_void_p(), Memory()
    driver_call(nvml, "nvmlDeviceGetHandleByUUID", name.encode(), ctypes.byref(handle))
    driver_call(nvml, "nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
    return {"total": memory.total, "free": memory.free}


def main() -> None:
    count = ctypes.c_int()
    driver_call(cuda, "cuInit", 0)
    driver_call(cuda, "cuDeviceGetCount", ctypes.byref(count))
    driver_call(nvml, "nvmlInit_v2")
    names = [cuda_uuid(ordinal) for ordinal in range(count.value)]
    by_cuda = [cuda_memory(ordinal) for ordinal in range(count.value)]
    devices = [{"uuid": name, "cuda": memory, "nvml": nvml_memory(f"GPU-{name}"), "part": nvml_memory(f"MIG-{name}")}
               for name, memory in zip(names, by_cuda)]  # fmt: skip
    print(json.dumps(devices))


main()
