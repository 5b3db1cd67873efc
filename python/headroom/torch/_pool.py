"""`pool()`: allocations of one `with` block placed by headroom, over torch.cuda.MemPool.

What has to outlive everything (the library, the allocator, MemPools) is kept for good. A MemPool serves one
device and one thread at a time, and holds its segments until the process ends; so there is a shelf of them
for each kind of placement, and a block takes one from there and puts it back.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Dict, List, Optional, Tuple

from headroom import _capi, _library, _memory, _settings
from headroom._errors import Error, InvalidArgument
from headroom.torch import _allocator
from headroom.torch._torch import torch

_LONGEST_TAG = 63

Key = Tuple[int, int, int, int, Optional[bytes]]  # device, policy, backend, hint, tag

_lock = threading.Lock()
_shelf: Dict[Key, List[Any]] = {}
_segments: Any = None
_frames = threading.local()


class _Frame:
    """One entered block of this thread. At most the innermost one routes: PyTorch asks the outermost of
    several first, so an outer block stands aside while an inner one runs."""

    def __init__(self, key: Key, mem_pool: Any, borrowed: bool) -> None:
        self.key, self.mem_pool, self.borrowed = key, mem_pool, borrowed
        self._route: Optional[contextlib.ExitStack] = None

    def begin(self) -> None:
        device, policy, backend, hint, tag = self.key
        with contextlib.ExitStack() as undo:
            _place(policy, backend, hint, tag)
            undo.callback(_place_default)
            undo.enter_context(torch.cuda.use_mem_pool(self.mem_pool, device))
            self._route = undo.pop_all()

    def end(self) -> None:
        route, self._route = self._route, None
        if route is not None:
            route.close()


class Pool:
    """What `pool()` returns: a context manager, for any number of blocks, one inside another, in any thread."""

    def __init__(self, policy: int, backend: int, hint: int, tag: Optional[bytes], device: Optional[int]) -> None:
        self._placement = (policy, backend, hint, tag)
        self._device = device

    def __enter__(self) -> "Pool":
        torch.cuda.init()
        device = int(torch.cuda.current_device()) if self._device is None else self._device
        frames = _thread_frames()
        frame = _frame((device, *self._placement), frames)
        if frames:
            frames[-1].end()
        try:
            frame.begin()
        except BaseException:
            _give_back(frame)
            if frames:
                frames[-1].begin()
            raise
        frames.append(frame)
        return self

    def __exit__(self, *_exception: object) -> None:
        frames = _thread_frames()
        if not frames:
            raise Error("a headroom pool has to be left in the thread that entered it")
        frame = frames.pop()
        try:
            frame.end()
        finally:
            _give_back(frame)
            if frames:
                frames[-1].begin()

    def release(self) -> None:
        """Gives back to headroom what earlier blocks of this placement left cached, on every device.

        Waits for the GPU. Memory of tensors that are alive stays, and is no longer cached once they are gone.
        What blocks under way use is left alone. Any thread.
        """
        with _lock:
            shelves = [(key[0], pools) for key, pools in _shelf.items() if key[1:] == self._placement]
            idle = [(device, pools.pop()) for device, pools in shelves for _ in pools[:]]
        for device in {device for device, _ in idle}:
            torch.cuda.synchronize(device)  # PyTorch frees without waiting
        for _, mem_pool in idle:
            _allocator.let_go(mem_pool)


def pool(
    policy: Optional[str] = None,
    backend: Optional[str] = None,
    tag: Optional[str] = None,
    hint: Optional[str] = None,
    device: Any = None,
) -> Pool:
    """A context manager: what this thread allocates on one GPU inside the block is placed as it says.

    with headroom.torch.pool(policy="cpu_first", tag="kv_cache"):
        cache = torch.zeros(shape, device="cuda")

    `policy` is gpu_first, balanced or cpu_first; `backend` tiers or managed; `hint` hot, cold, stream or none;
    `tag` is a name for rules, of at most 63 bytes; None leaves each to options and rules. `device` is that
    of the block; None: the current one on entry. Tensors of other devices are not routed, and neither are
    those of other threads, autograd's among them: a backward pass allocates gradients elsewhere.

    PyTorch's caching, statistics, CUDA graphs and torch.cuda.OutOfMemoryError work as ever. Blocks may be used
    again, nested (the innermost counts) and entered in several threads. Tensors live as long as they like. Memory
    that they leave behind serves later blocks of the same placement; it goes back to headroom when PyTorch
    gives cached memory back, or with the process. No block of this kind may begin or end while a
    torch.cuda.use_mem_pool or a graph capture of the program's own began within it and is still under way.

    Raises InvalidArgument; Unsupported without a library; Error where `headroom.torch.use()` is in effect,
    since PyTorch's pools need its own allocator.
    """
    hint_number = 0 if hint is None else _memory.choice(_capi.HINTS, hint, "hint")
    policy_number = _memory.choice(_capi.POLICIES, policy, "policy")
    backend_number = _memory.choice(_capi.BACKENDS, backend, "backend")
    name = None if tag is None else tag.encode()
    if name is not None and (len(name) > _LONGEST_TAG or b"\0" in name or not name):
        raise InvalidArgument(f"tag is {tag!r}; a tag has 1 to {_LONGEST_TAG} bytes and no NUL")
    if _allocator.in_use():
        raise Error("headroom.torch.use() is in effect, and PyTorch's pools need its own allocator; use one of the two")
    number = None if device is None else _memory.ordinal(device)
    _settings.configure()
    return Pool(policy_number, backend_number, hint_number, name, number)


def _thread_frames() -> List[_Frame]:
    frames: List[_Frame] = _frames.__dict__.setdefault("list", [])
    return frames


def _frame(key: Key, frames: List[_Frame]) -> _Frame:
    """A frame for `key`: an outer block's MemPool if it has the same, else one of the shelf, else a new one."""
    for outer in frames:
        if outer.key == key:
            return _Frame(key, outer.mem_pool, borrowed=True)
    with _lock:
        shelved = _shelf.setdefault(key, [])
        if shelved:
            return _Frame(key, shelved.pop(), borrowed=False)
    with torch.cuda.device(key[0]):
        return _Frame(key, _allocator.keep(torch.cuda.MemPool(_segment_allocator().allocator())), borrowed=False)


def _give_back(frame: _Frame) -> None:
    if not frame.borrowed:
        with _lock:
            _shelf.setdefault(frame.key, []).append(frame.mem_pool)


def _segment_allocator() -> Any:
    global _segments
    with _lock:
        if _segments is None:
            _segments = _allocator.pluggable("headroom_segment_malloc", "headroom_segment_free")
        return _segments


def _place(policy: int, backend: int, hint: int, tag: Optional[bytes]) -> None:
    library = _library.load()
    result = library.function("headroom_set_thread_placement")(policy, backend, hint, tag)
    library.check(result, "setting this thread's placement")


def _place_default() -> None:
    _place(_capi.DEFAULT, _capi.DEFAULT, _capi.HINTS["none"], None)
