"""In the tests' programs: the simulated GPU, PyTorch's side of the two C functions, and vLLM's side of the callbacks."""

import ctypes
import os

import cumem_allocator

MIB = 1 << 20
BACKEND = os.environ["STAND_IN"]
CALLS = {"cuda": "cuMem", "hip": "hipMem"}[BACKEND]
DRAIN = {"cuda": "cuCtxSynchronize", "hip": "hipDeviceSynchronize"}[BACKEND]


class Sim:
    """The simulated driver's control functions, and copies."""

    def __init__(self):
        self.library = ctypes.CDLL({"cuda": "libcuda.so.1", "hip": "libamdhip64.so.7"}[BACKEND])
        self.prefix = {"cuda": "gpuroom_sim_", "hip": "gpuroom_hip_sim_"}[BACKEND]

    def control(self, name):
        function = getattr(self.library, self.prefix + name)
        function.restype = ctypes.c_uint64
        return function

    def fail(self, spec):
        self.control("fail")(spec.encode())

    def count(self, name):
        return self.control("call_count")(name.encode())

    def used(self, device=0):
        return self.control("used")(ctypes.c_int(device))

    def lines(self, name):
        text = ctypes.create_string_buffer(4096)
        self.control(name)(text, ctypes.c_size_t(4096))
        return text.value.decode()

    def check(self):
        self.fail("")
        assert self.lines("leaks") == "", self.lines("leaks")
        assert self.lines("strict_errors") == "", self.lines("strict_errors")

    def write(self, address, data):
        self._copy("cuMemcpyHtoD_v2", 1, ctypes.c_void_p(address), data, len(data))

    def read(self, address, size):
        data = ctypes.create_string_buffer(size)
        self._copy("cuMemcpyDtoH_v2", 2, data, ctypes.c_void_p(address), size)
        return data.raw

    def _copy(self, name, kind, to, source, size):
        if BACKEND == "cuda":
            result = getattr(self.library, name)(to, source, ctypes.c_size_t(size))
        else:
            result = self.library.hipMemcpy(to, source, ctypes.c_size_t(size), kind)
        assert result == 0, result


def functions(loader=ctypes.CDLL):
    """my_malloc and my_free as PyTorch finds them: by the path that the process's map shows."""
    with open("/proc/self/maps") as maps:
        path = next(line[line.index("/"):].strip() for line in maps if "cumem_allocator" in line)
    assert os.path.basename(path).startswith("cumem_allocator."), path
    library = loader(path)
    library.my_malloc.restype = ctypes.c_void_p
    library.my_malloc.argtypes = [ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
    library.my_free.restype = None
    library.my_free.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
    return library.my_malloc, library.my_free


class Pool:
    """Keeps track as vLLM's CuMemAllocator does: handles by pointer, tags, copies on the host while asleep."""

    def __init__(self, loader=ctypes.CDLL):
        self.data, self.backups = {}, {}
        self.malloc_, self.free_ = functions(loader)
        self.tag = "default"
        # Bound methods, kept nowhere else: the module has to keep them.
        cumem_allocator.init_module(self.on_malloc, self.on_free)

    def on_malloc(self, handle):
        self.data[handle[2]] = (handle, self.tag)

    def on_free(self, pointer):
        self.backups.pop(pointer, None)
        return self.data.pop(pointer)[0]

    def malloc(self, size, device=0):
        return self.malloc_(size, device, None)

    def free(self, pointer, size=0, device=0):
        self.free_(pointer, size, device, None)

    def sleep(self, *offload):
        for pointer, (handle, tag) in self.data.items():
            if tag in offload:
                self.backups[pointer] = sim.read(pointer, handle[1])
            cumem_allocator.python_unmap_and_release(*handle)

    def wake(self, *tags):
        for pointer, (handle, tag) in self.data.items():
            if tags and tag not in tags:
                continue
            cumem_allocator.python_create_and_map(*handle)
            if pointer in self.backups:
                sim.write(pointer, self.backups.pop(pointer))


def raises(kind, function, *arguments):
    """The exception's text; it has to come."""
    try:
        function(*arguments)
    except kind as error:
        return str(error)
    raise AssertionError(f"{function} raised no {kind}")


def pattern(size, seed):
    return bytes((seed + i) % 251 for i in range(4096)) * (size // 4096)


sim = Sim()
