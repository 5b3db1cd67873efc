"""`pool()`: allocations of one `with` block placed by gpuroom, over torch.cuda.MemPool.

What has to outlive everything (the library, the allocator, MemPools) is kept for good. A MemPool serves one
device and one thread at a time, and holds its segments until Pool.release() lets go of it or the process ends;
so there is a shelf of them for each kind of placement, and a block takes one from there and puts it back.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

from gpuroom import _capi, _intent, _memory, _settings
from gpuroom._errors import Error
from gpuroom._intent import Intent
from gpuroom._sleep import Region
from gpuroom._types import Backend, Device, Hint, Policy
from gpuroom.torch import _allocator
from gpuroom.torch._torch import torch

Key = Tuple[int, Intent]  # the device, and what is said of all memory of the MemPool

_OUTSIDE = Intent(tag=b"")  # no block has an empty tag, so none borrows from there

_lock = threading.Lock()
_shelf: Dict[Key, List[Any]] = {}
_segments: Any = None
_frames = threading.local()


class _Frame:
    """One entered block of this thread. At most the innermost one routes: PyTorch asks the outermost of
    several first, so an outer block stands aside while an inner one runs."""

    def __init__(self, key: Key, mem_pool: Any, borrowed: bool) -> None:
        self.key, self.mem_pool, self.borrowed = key, mem_pool, borrowed
        self.before = _intent.current()  # of the thread, for when the block ends
        self._route: Optional[contextlib.ExitStack] = None

    def begin(self) -> None:
        with contextlib.ExitStack() as undo:
            undo.enter_context(torch.cuda.use_mem_pool(self.mem_pool, self.key[0]))
            self._route = undo.pop_all()

    def end(self) -> None:
        route, self._route = self._route, None
        if route is not None:
            route.close()


class Pool:
    """What `pool()` returns: a context manager, for any number of blocks, one inside another, in any thread."""

    def __init__(self, intent: Intent, device: Optional[int], backup: Optional[bool] = None) -> None:
        self._intent, self._device, self._backup = intent, device, backup

    def __enter__(self) -> "Pool":
        torch.cuda.init()
        device = int(torch.cuda.current_device()) if self._device is None else self._device
        here = self._here()
        _push(_frame((device, here), _thread_frames()), here)
        if self._backup is not None and self._intent.tag is not None:
            _intent.regions().append((self._intent.tag, not self._backup))
        return self

    def __exit__(self, *_exception: object) -> None:
        if not _thread_frames():
            raise Error("a gpuroom pool has to be left in the thread that entered it")
        if self._backup is not None:
            _intent.regions().pop()
        _pop()

    def _here(self) -> Intent:
        """With the tag of the region around it where the pool has none; segments must not mix tags."""
        if self._backup is not None:
            return self._intent._replace(dispensable=not self._backup)
        if not _intent.regions():
            return self._intent
        tag, dispensable = _intent.regions()[-1]
        return self._intent._replace(tag=self._intent.tag or tag, dispensable=dispensable)

    def release(self) -> None:
        """Gives back to gpuroom what earlier blocks of this placement left cached, on every device.

        Waits for the GPU. Memory of tensors that are alive stays, and is no longer cached once they are gone.
        What blocks under way use is left alone. Any thread.
        """
        with _lock:
            shelves = [(key[0], pools) for key, pools in _shelf.items() if self._matches(key[1])]
            idle = [(device, pools.pop()) for device, pools in shelves for _ in pools[:]]
        for device in {device for device, _ in idle}:
            torch.cuda.synchronize(device)  # PyTorch frees without waiting
        for _, mem_pool in idle:
            _allocator.let_go(mem_pool)

    def _matches(self, intent: Intent) -> bool:
        same_end = self._backup is None or intent.dispensable is not self._backup
        return same_end and intent[:4] == self._intent[:4]


def pool(
    policy: Optional[Policy] = None,
    backend: Optional[Backend] = None,
    tag: Optional[str] = None,
    hint: Optional[Hint] = None,
    device: Optional[Device] = None,
) -> Pool:
    """A context manager: what this thread allocates on one GPU inside the block is placed as it says.

    with gpuroom.torch.pool(policy="cpu_first", tag="kv_cache"):
        cache = torch.zeros(shape, device="cuda")

    `policy` is gpu_first, balanced or cpu_first; `backend` tiers or managed; `hint` hot, cold, stream or none;
    `tag` is a name for rules, sleep and wake, of at most 63 bytes (None: that of the region around it, if any);
    None leaves each to options and rules. `device` is that
    of the block; None: the current one on entry. Tensors of other devices are not routed, and neither are
    those of other threads, autograd's among them: a backward pass allocates gradients elsewhere.

    PyTorch's caching, statistics, CUDA graphs and torch.cuda.OutOfMemoryError work as ever. Blocks may be used
    again, nested (the innermost counts) and entered in several threads. Tensors live as long as they like. Memory
    that they leave behind serves later blocks of the same placement; it goes back to gpuroom by release(), or with
    the process. No block of this kind may begin or end while a
    torch.cuda.use_mem_pool or a graph capture of the program's own began within it and is still under way.

    Raises InvalidArgument; Unsupported without a library; Error where `gpuroom.torch.use()` is in effect,
    since PyTorch's pools need its own allocator.
    """
    hint_number = 0 if hint is None else _memory.choice(_capi.HINTS, hint, "hint")
    policy_number = _memory.choice(_capi.POLICIES, policy, "policy")
    backend_number = _memory.choice(_capi.BACKENDS, backend, "backend")
    name = None if tag is None else _intent.tag_bytes(tag)
    if _allocator.in_use():
        raise Error("gpuroom.torch.use() is in effect, and PyTorch's pools need its own allocator; use one of the two")
    number = None if device is None else _memory.ordinal(device)
    _settings.configure()
    return Pool(Intent(policy_number, backend_number, hint_number, name), number)


def region(tag: str, backup: bool = True, device: Optional[Device] = None) -> Union[Pool, Region]:
    """A context manager: what this thread allocates on one GPU inside the block has `tag`, by which
    `gpuroom.sleep` and `gpuroom.wake` know it. With `backup=False` any sleep drops its contents.

    with gpuroom.torch.region("weights"):
        model = load().cuda()

    PyTorch shares what it caches among all tensors, so a region has a torch.cuda.MemPool of its own, as
    `pool(tag=...)` has; everything said there of threads, nesting and lifetimes holds. Behind
    `gpuroom.torch.use()` it is `gpuroom.region`: what gpuroom's pool has to get anew inside the block has the
    tag, but tensors of several tags may share it. Where tags matter, leave `use()` out.

    Raises InvalidArgument; Unsupported without a library.
    """
    name = _intent.tag_bytes(tag)
    number = None if device is None else _memory.ordinal(device)
    if _allocator.in_use():
        return Region(name, backup)
    _settings.configure()
    return Pool(Intent(tag=name), number, backup)


@contextlib.contextmanager
def outside() -> Iterator[None]:
    """What this thread allocates inside belongs to no region, and comes from no block's MemPool but one of PyTorch's
    own. Blocks may begin within it."""
    if _allocator.in_use():
        yield  # which has no MemPools
        return
    torch.cuda.init()
    _push(_Frame((int(torch.cuda.current_device()), _OUTSIDE), torch.cuda.MemPool(), borrowed=True), Intent())
    _intent.regions().append((None, False))
    try:
        yield
    finally:
        _intent.regions().pop()
        _pop()


def _push(frame: _Frame, intent: Intent) -> None:
    """The thread is in `frame` from now on, unless this raises."""
    frames = _thread_frames()
    if frames:
        frames[-1].end()
    try:
        _intent.apply(intent)
        frame.begin()
    except BaseException:
        _give_back(frame)
        if frames:
            frames[-1].begin()
        _intent.apply(frame.before)
        raise
    frames.append(frame)


def _pop() -> None:
    frames = _thread_frames()
    frame = frames.pop()
    try:
        frame.end()
    finally:
        _give_back(frame)
        if frames:
            frames[-1].begin()
        _intent.apply(frame.before)


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
            _segments = _allocator.pluggable("gpuroom_segment_malloc", "gpuroom_segment_free")
        return _segments
