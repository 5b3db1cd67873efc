"""As much of PyTorch as the allocator and pools touch, with PyTorch's own rules for pools: routing by thread, the
pool that began first is asked first, and one pool is recorded to once at a time. Memory is real: it comes from the
functions that were given, in the library, and lies on the simulated driver. Installed as `torch` by install()."""

import contextlib
import ctypes
import sys
import threading
import types


class Setters:
    """torch._C._CUDAPluggableAllocator: remembers the addresses that its setters got."""

    def __init__(self, malloc, free):
        self.malloc, self.free, self.hooks = malloc, free, {}

    def __getattr__(self, name):
        if not name.startswith("set_"):
            raise AttributeError(name)
        return lambda address: self.hooks.__setitem__(name, address)


class CUDAPluggableAllocator:
    def __init__(self, path, malloc, free):
        library = ctypes.CDLL(path)
        one, other = getattr(library, malloc), getattr(library, free)
        one.restype, one.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
        other.restype, other.argtypes = None, [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
        self._allocator = Setters(one, other)

    def allocator(self):
        return self._allocator


class Native:
    """PyTorch's own allocator."""

    @staticmethod
    def malloc(size, _device, _stream):
        address = ctypes.c_uint64()
        return None if ctypes.CDLL("libcuda.so.1").cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(size)) else address.value

    @staticmethod
    def free(address, _size, _device, _stream):
        ctypes.CDLL("libcuda.so.1").cuMemFree_v2(ctypes.c_uint64(address))


class MemPool:
    alive = 0

    def __init__(self, allocator=None):
        assert allocator is None or isinstance(allocator, Setters)
        self.setters, self.segments = allocator or Native, []
        MemPool.alive += 1

    def __del__(self):
        MemPool.alive -= 1
        for address, size in self.segments:
            self.setters.free(address, size, 0, None)


class OutOfMemoryError(RuntimeError):
    pass


state = types.SimpleNamespace(initialized=False, current=None, recording=[], backend="native")


@contextlib.contextmanager
def use_mem_pool(pool, device=None):
    if any(entry[0] is pool for entry in state.recording):
        raise RuntimeError("beginAllocateToPool: already recording to mempool_id")
    entry = (pool, threading.get_ident(), device)
    state.recording.append(entry)
    try:
        yield
    finally:
        state.recording.remove(entry)


def allocate(size):
    """What torch.empty of so many bytes would do: the address, and the MemPool that it came from."""
    start()
    for pool, thread, device in state.recording:
        if thread == threading.get_ident():
            address = pool.setters.malloc(size, device, None)
            if not address:
                raise OutOfMemoryError("CUDA out of memory")
            pool.segments.append((address, size))
            return address, pool
    setters = state.current
    return (setters.malloc(size, 0, None), None) if setters else (None, None)


def change_current_allocator(allocator):
    if state.initialized:
        raise RuntimeError("Can't swap an already initialized allocator")
    state.current, state.backend = allocator.allocator(), "pluggable"


def start():
    """torch.cuda.init(): the driver is started and a context current, as the CUDA runtime sees to."""
    if not state.initialized:
        driver, device, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.c_void_p()
        assert driver.cuInit(0) == 0 == driver.cuDeviceGet(ctypes.byref(device), 0)
        assert driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) == 0
        assert driver.cuCtxSetCurrent(context) == 0
        state.initialized = True


def install():
    torch = types.ModuleType("torch")
    torch.__version__ = "2.11.0"
    torch.cuda = types.SimpleNamespace(
        is_initialized=lambda: state.initialized, init=start,
        current_device=lambda: 0, device=lambda _device: contextlib.nullcontext(),
        synchronize=lambda _device=None: None,
        MemPool=MemPool, use_mem_pool=use_mem_pool, OutOfMemoryError=OutOfMemoryError,
        memory=types.SimpleNamespace(CUDAPluggableAllocator=CUDAPluggableAllocator,
                                     change_current_allocator=change_current_allocator,
                                     get_allocator_backend=lambda: state.backend))
    sys.modules["torch"] = torch
    return torch
