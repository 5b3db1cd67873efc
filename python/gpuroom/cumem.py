"""`cumem_allocator` of gpuroom in the place of vLLM's, for its sleep mode. See docs/cumem.md.

`use()` does it in this process. vLLM does it in each of its own where GPUROOM_CUMEM=1 is set, since the wheel
registers `register` as one of vLLM's general plugins.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import sys
from types import ModuleType
from typing import Iterator, Optional

from gpuroom import _errors, _library

FILE = "cumem_allocator.abi3.so"
NAME = "cumem_allocator"
VLLM_NAME = "vllm.cumem_allocator"
VLLM_USER = "vllm.device_allocator.cumem"
VARIABLE = "GPUROOM_CUMEM"
_module: Optional[ModuleType] = None


def path() -> str:
    """Path of the module's file, which lies in `python` beside libgpuroom.so. Raises Unsupported where there is none."""
    tried = list(_candidates())
    for candidate in tried:
        if candidate.exists():
            return str(candidate)
    raise _errors.Unsupported(
        f"{FILE} was not found; tried {', '.join(map(str, tried))}. Build gpuroom where Python's headers are "
        "(python3-dev), or set GPUROOM_LIBRARY to a libgpuroom.so that was"
    )


def use() -> ModuleType:
    """From now on `vllm.cumem_allocator` is gpuroom's. Call it before vLLM's own is imported; a second call does nothing."""
    global _module
    if _module is not None and sys.modules.get(VLLM_NAME) is _module:
        return _module
    for name in (VLLM_NAME, VLLM_USER):
        if name in sys.modules:
            raise _errors.Busy(f"{name} is imported already; call gpuroom.cumem.use() before vLLM makes an engine")
    _module = _load(path())
    sys.modules[VLLM_NAME] = _module
    return _module


def register() -> None:
    """vLLM's plugin: called in each of its processes, more than once perhaps."""
    wish = os.environ.get(VARIABLE, "")
    if wish not in ("", "0", "1"):
        raise _errors.InvalidArgument(f"{VARIABLE} is '{wish}'; write 1 to use gpuroom's {NAME}, 0 for vLLM's own")
    if wish == "1":
        use()


def _candidates() -> Iterator[pathlib.Path]:
    preloaded = _library._preloaded()
    if preloaded is not None:
        yield pathlib.Path(preloaded.path).parent / "python" / FILE
    for _, library in _library._candidates():
        yield library.parent / "python" / FILE


def _load(file: str) -> ModuleType:
    loaded = sys.modules.get(NAME)
    if loaded is not None:
        return loaded
    spec = importlib.util.spec_from_file_location(NAME, file)
    if spec is None or spec.loader is None:
        raise _errors.Unsupported(f"{file} is no extension module that this Python can load")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[NAME] = module
    return module
