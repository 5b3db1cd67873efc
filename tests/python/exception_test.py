"""Lack of memory under the global allocator reaches PyTorch as a C++ exception of the runtime that PyTorch uses, though
Python opens both libraries for themselves alone, and gpuroom's has a runtime of its own inside."""

from conftest import BUILD
from memory_test import ALLOCATE


def test_lack_of_memory_is_a_runtime_error(python):
    caller = BUILD / "tests/python/libgpuroom_test_caller.so"
    program = ALLOCATE + f"""
library = ctypes.CDLL(gpuroom.library_path())
allocate = ctypes.cast(library.gpuroom_torch_malloc, ctypes.c_void_p)
caller = ctypes.CDLL({str(caller)!r})
caller.CallAllocator.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_char_p, ctypes.c_size_t]
caller.CallAllocator.restype = ctypes.c_bool
text = ctypes.create_string_buffer(256)
for _ in range(2):
    assert not caller.CallAllocator(allocate, 1 << 45, text, 256), text.value
    assert text.value.startswith(b"CUDA out of memory. gpuroom could not allocate 32.0 TiB on GPU 0"), text.value
assert caller.CallAllocator(allocate, 1 << 20, text, 256), text.value
"""
    python.dlopened(program, GPUROOM_LOG="error")  # the first refusal is warned of
