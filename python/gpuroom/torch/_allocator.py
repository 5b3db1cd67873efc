"""`use()`: gpuroom as PyTorch's global CUDA allocator, and what keeps allocators alive for good."""

from __future__ import annotations

import ctypes
import threading
from typing import Any, Dict, Optional, Tuple

from gpuroom import _library, _settings
from gpuroom._errors import Error, Unsupported
from gpuroom._sizes import Size
from gpuroom._types import Backend, Policy
from gpuroom.torch._torch import torch

# PyTorch's setter: our function. The names are PyTorch's, some with _fn and some without.
_HOOKS: Dict[str, str] = {
    "set_init_fn": "gpuroom_torch_init",
    "set_reset_fn": "gpuroom_torch_reset",
    "set_memory_fraction_fn": "gpuroom_torch_memory_fraction",
    "set_base_alloc_fn": "gpuroom_torch_base_alloc",
    "set_record_stream_fn": "gpuroom_torch_record_stream",
    "set_begin_allocate_to_pool": "gpuroom_torch_begin_allocate_to_pool",
    "set_end_allocate_to_pool_fn": "gpuroom_torch_end_allocate_to_pool",
    "set_release_pool": "gpuroom_torch_release_pool",
}

_lock = threading.Lock()
_in_use: Optional[Tuple[Any, ...]] = None


def keep(thing: Any) -> Any:
    """Returns `thing`, which now lives until `let_go`, or for good: PyTorch calls into allocators and
    frees through them until the process has ended, so even the interpreter's end must not destroy it."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
    return thing


def let_go(thing: Any) -> None:
    """Takes back one `keep`."""
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(thing))


def pluggable(malloc: str, free: str) -> Any:
    """A torch.cuda.memory.CUDAPluggableAllocator over two of the library's functions, kept for good."""
    library = _library.load()
    for name in (malloc, free):
        _address(library, name)
    library.started = True
    return keep(torch.cuda.memory.CUDAPluggableAllocator(library.path, malloc, free))


def _address(library: _library.Library, name: str) -> int:
    function = getattr(library.handle, name, None)
    address = ctypes.cast(function, ctypes.c_void_p).value if function is not None else None
    if address is None:
        raise Unsupported(f"{library.path} has no {name}; install a gpuroom of the same version as this package")
    return address


def use(
    hbm_limit: Optional[Size] = None,
    host_limit: Optional[Size] = None,
    policy: Optional[Policy] = None,
    backend: Optional[Backend] = None,
    **settings: Any,
) -> None:
    """Makes gpuroom the allocator of every CUDA tensor of this process, before PyTorch has used the GPU.

    The arguments are those of `gpuroom.configure`. Behind it is gpuroom's caching pool, with PyTorch's
    hooks: empty_cache, record_stream, CUDA graphs and memory fractions work. PyTorch's own statistics do not
    exist for such allocators (torch.cuda.memory_allocated raises): `gpuroom.stats()` has them.
    Lack of memory is a RuntimeError that begins with "CUDA out of memory", after what is cached was given back and
    other tiers were tried. The driver is not started here, so that processes may still be forked: one that
    gpuroom does not serve (below 580) is named by the RuntimeError of the first tensor.

    The same call again does nothing. Raises Error where CUDA is initialised already, where another allocator
    was installed, or where the second call asks for something else. There is no way back in one process.
    """
    global _in_use
    asked = (hbm_limit, host_limit, policy, backend, tuple(sorted(settings.items())))
    with _lock:
        if _in_use is not None:
            if asked != _in_use:
                raise Error("gpuroom.torch.use() was called with other arguments before; a process has one allocator")
            return
        _refuse_if_too_late()
        _settings.configure(hbm_limit, host_limit, policy, backend, **settings)
        allocator = pluggable("gpuroom_torch_malloc", "gpuroom_torch_free")
        _set_hooks(allocator.allocator())
        torch.cuda.memory.change_current_allocator(allocator)
        _in_use = asked


def in_use() -> bool:
    """Whether `use()` made gpuroom the allocator of this process."""
    return _in_use is not None


def _refuse_if_too_late() -> None:
    if torch.cuda.is_initialized():
        raise Error("CUDA is initialised in this process already; call gpuroom.torch.use() before the first use of the"
                    " GPU, or start the program with 'gpuroom run'")  # fmt: skip
    name = str(torch.cuda.memory.get_allocator_backend())
    if name not in ("native", "cudaMallocAsync"):
        raise Error(f"another allocator ({name}) was installed in this process; gpuroom.torch.use() has to be the only"
                    " one to change it")  # fmt: skip


def _set_hooks(allocator: Any) -> None:
    library = _library.load()
    for setter, name in _HOOKS.items():
        if not hasattr(allocator, setter):
            raise Unsupported(f"this PyTorch ({torch.__version__}) has no {setter} for allocators; use 2.9 or newer")
        getattr(allocator, setter)(_address(library, name))
