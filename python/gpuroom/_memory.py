"""Where memory lies, and moving it: the calls of gpuroom.h on tensors and addresses."""

from __future__ import annotations

import ctypes
import dataclasses
from typing import Any, Dict, Optional, Sequence, Tuple, Union

from gpuroom import _capi, _library
from gpuroom._errors import InvalidArgument, NotFound
from gpuroom._types import Device, Hint, Memory, Stream, Tensor, Tier

_HINT_NAMES = {value: name for name, value in _capi.HINTS.items()}


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where one allocation lies. Sizes in bytes; device, peer and host bytes add up to `bytes`."""

    address: int
    bytes: int
    device_bytes: int
    peer_bytes: int
    host_bytes: int
    device: int
    hint: str


@dataclasses.dataclass(frozen=True)
class Stats:
    """What this process has of one GPU's memory through gpuroom, in bytes and counts; consistent only while
    nothing is allocated or freed.

    Limits are None where there is none. `host_limit` is for the node's processes together, or the GPU's part of
    that; `host_used` and `host_kept` (released and kept for reuse) are this process's; `managed_limit` is the managed backend's cap,
    0 where it is not in use. `allocations` were made so far, `spilled` of them had bytes outside HBM when they
    were made, `displaced_bytes` gave way so far, `asleep_bytes` are asleep. `pool_*` is of the caching pool behind
    `gpuroom.torch.use()`: bytes that the program holds, bytes in segments, both also at most, and counts.
    `device_total` is the HBM that gpuroom may use, `device_free` what a large allocation could have of it now.
    """

    device_limit: Optional[int]
    device_used: int
    peer_limit: Optional[int]
    peer_used: int
    host_limit: Optional[int]
    host_used: int
    host_kept: int
    managed_limit: Optional[int]
    managed_used: int
    allocations: int
    spilled: int
    displaced_bytes: int
    pool_allocated: int
    pool_reserved: int
    pool_peak_allocated: int
    pool_peak_reserved: int
    pool_allocations: int
    pool_frees: int
    pool_segments_created: int
    pool_segments_destroyed: int
    pool_out_of_memory: int
    asleep_bytes: int
    device_total: int
    device_free: int


def span_of(what: Memory) -> Tuple[int, int]:
    """(address, bytes) of a tensor's own elements, from the first to the last; of an address, (it, 0)."""
    if isinstance(what, int) and not isinstance(what, bool):
        return what, 0
    pointer = getattr(what, "data_ptr", None)
    if callable(pointer):
        return int(pointer()), _extent(what)
    interface = getattr(what, "__cuda_array_interface__", None)
    if isinstance(interface, dict):
        return int(interface["data"][0]), 0
    raise InvalidArgument(f"{type(what).__name__} is neither a CUDA tensor nor an address; pass one of these")


def _extent(tensor: Any) -> int:
    """Bytes from a tensor's first element to the end of its last; views and strides as they are."""
    if tensor.numel() == 0:
        return 0
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))
    return (int(last) + 1) * int(tensor.element_size())


def choice(table: Dict[str, int], value: Union[str, None], name: str) -> int:
    """The number for a name of `table`; None stands for the default."""
    if value is None:
        return _capi.DEFAULT
    if value not in table:
        raise InvalidArgument(f"{name} is {value!r}; use {', '.join(table)}")
    return table[value]


def describe(what: Memory) -> Placement:
    """Where the allocation lies that holds a CUDA tensor or a device address.

    The answer is for the whole allocation, of which the tensor may be a part. Raises NotFound where gpuroom
    has not placed it: small allocations and managed memory are the driver's own. Any thread; waits for
    nothing on the GPU.
    """
    address, _ = span_of(what)
    out = _capi.PlacementStruct()
    if _library.load().function("gpuroom_describe")(address, ctypes.byref(out), ctypes.sizeof(out)) != 0:
        raise NotFound(f"gpuroom has placed nothing at {address:#x}: the memory is small, or not gpuroom's")
    return Placement(
        address=out.address,
        bytes=out.bytes,
        device_bytes=out.device_bytes,
        peer_bytes=out.peer_bytes,
        host_bytes=out.host_bytes,
        device=out.device,
        hint=_HINT_NAMES.get(out.hint, str(out.hint)),
    )


def _target(tier: str) -> int:
    if tier not in _capi.TIERS:
        raise InvalidArgument(f"tier is {tier!r}; use {', '.join(_capi.TIERS)}")
    return _capi.TIERS[tier]


def migrate(what: Memory, tier: Tier) -> int:
    """Moves a tensor's memory, or the whole allocation at an address, to `tier` ('device', 'host' or 'peer').

    Addresses and contents stay. Chunks that the tensor touches move whole, so neighbours of one allocation may
    move along. Returns the bytes that moved. Waits for all work on the GPU, and other threads' submissions
    wait meanwhile. Raises OutOfMemory (the tier has no room), Busy (during a capture, or while another
    process has the memory open) or NotFound; what fails stays where it was.
    """
    target = _target(tier)
    address, count = span_of(what)
    move = _capi.MoveStruct(address=address, bytes=count, tier=target)
    library = _library.load()
    result = library.function("gpuroom_migrate_batch")(ctypes.byref(move), 1, ctypes.sizeof(move))
    library.check(result, f"moving {address:#x} to {tier}")
    return int(move.moved)


def migrate_all(tensors: Sequence[Tensor], tier: Tier) -> int:
    """`migrate` for many, which waits for the GPU once. What cannot move stays, and the others move all the same;
    returns the bytes that moved."""
    target = _target(tier)
    spans = [span_of(tensor) for tensor in tensors]
    moves = (_capi.MoveStruct * max(1, len(spans)))(
        *(_capi.MoveStruct(address=address, bytes=count, tier=target) for address, count in spans)
    )
    if spans:
        _library.load().function("gpuroom_migrate_batch")(moves, len(spans), ctypes.sizeof(_capi.MoveStruct))
    return sum(int(move.moved) for move in moves)


def prefetch(what: Memory, tier: Tier = "device", stream: Optional[Stream] = None) -> None:
    """Brings a tensor's memory to `tier` ('device' or 'host') before it is used.

    Managed memory is prefetched in the order of `stream` (a torch.cuda.Stream, a stream handle, or None: the
    default stream), and the call returns at once. Tiered memory is moved as by `migrate`, which waits. Errors
    as of `migrate`. Any thread.
    """
    target = _target(tier)
    address, count = span_of(what)
    given: Any = stream
    handle = int(getattr(given, "cuda_stream", given) or 0) or None
    library = _library.load()
    library.check(
        library.function("gpuroom_prefetch")(address, count, target, handle), f"prefetching {address:#x} to {tier}"
    )


def hint(what: Memory, value: Hint) -> None:
    """Tells what is known of the allocation that holds a tensor or an address: 'hot' (HBM, the last to give
    way), 'cold' (the first to give way), 'stream' (read front to back once a pass), or 'none'.

    Moves nothing by itself. It holds for the whole allocation. Raises NotFound. Any thread.
    """
    if value not in _capi.HINTS:
        raise InvalidArgument(f"hint is {value!r}; use {', '.join(_capi.HINTS)}")
    address, _ = span_of(what)
    library = _library.load()
    library.check(library.function("gpuroom_set_hint")(address, _capi.HINTS[value]), f"hinting {address:#x}")


def ordinal(device: Optional[Device] = None) -> int:
    """The CUDA ordinal of a torch.device, a number, 'cuda:1' or None (PyTorch's current device, else 0)."""
    import sys

    torch = sys.modules.get("torch")
    if device is None:
        started = torch is not None and torch.cuda.is_initialized()
        return int(torch.cuda.current_device()) if torch is not None and started else 0
    if isinstance(device, str):
        kind, _, number = device.partition(":")
        if kind != "cuda" or (number and not number.isdigit()):
            raise InvalidArgument(f"device is {device!r}; use 'cuda', 'cuda:1' or a number")
        return int(number) if number else ordinal(None)
    index: Any = getattr(device, "index", device)
    if callable(index):  # a str or list has such a method, a torch.device an attribute
        raise InvalidArgument(f"device is {device!r}; use 'cuda', 'cuda:1' or a number")
    if getattr(device, "type", "cuda") != "cuda":
        raise InvalidArgument(f"device is {device}; gpuroom serves CUDA devices")
    return ordinal(None) if index is None else int(index)


def stats(device: Optional[Device] = None) -> Stats:
    """What gpuroom uses for one GPU (None: PyTorch's current one, else the first). Any thread; cheap.

    Raises NotFound before CUDA has been started, and Unsupported where the process has no gpuroom library.
    """
    library = _library.load()
    out = _capi.StatsStruct()
    result = library.function("gpuroom_get_stats")(ordinal(device), ctypes.byref(out), ctypes.sizeof(out))
    library.check(result, "gpuroom.stats()")
    values: Dict[str, Any] = {name: int(getattr(out, name)) for name in _capi.STATS_FIELDS}
    for name in ("device_limit", "peer_limit", "host_limit", "managed_limit"):
        values[name] = None if values[name] == _capi.NO_LIMIT else values[name]
    return Stats(**values)


def report() -> str:
    """The lines that `gpuroom run --report` prints as a process exits, as they are now: one for each GPU that the process has used. Empty
    where it used none. Any thread; cheap.

    Raises Unsupported where the process has no gpuroom library.
    """
    function = _library.load().function("gpuroom_report")
    place = ctypes.create_string_buffer(int(function(None, 0)) + 1)
    function(place, ctypes.sizeof(place))
    return place.value.decode()


def set_reserve(size: int, device: Optional[Device] = None) -> None:
    """Keeps `size` bytes of one GPU's HBM for small allocations that are still to come, in place of `--reserve`. For a program that
    has made nearly all of them. Any thread."""
    library = _library.load()
    library.check(library.function("gpuroom_set_reserve")(ordinal(device), size), "gpuroom.set_reserve()")


def trim(device: Optional[Device] = None) -> None:
    """Gives back what the pool behind `gpuroom.torch.use()` and the host tier keep for reuse on one GPU, as
    torch.cuda.empty_cache() does. Waits for pending work on what it gives back. Any thread."""
    library = _library.load()
    library.check(library.function("gpuroom_trim")(ordinal(device)), "gpuroom.trim()")
