"""Sleep and wake: the calls of sleep.h, and regions that give memory its tag."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import threading
from typing import Dict, Iterable, List, Optional, Tuple, Union

from gpuroom import _capi, _intent, _library
from gpuroom._errors import InvalidArgument
from gpuroom._intent import Intent
from gpuroom._types import Action, Hold

Tags = Union[None, str, Iterable[str]]
_threads = threading.local()


@dataclasses.dataclass(frozen=True)
class SleepReport:
    """What a sleep or a wake did, in bytes unless said otherwise.

    `ranges` allocations slept or woke. A sleep: `kept` were backed up to host memory, `on_disk` to files, `dropped`
    are lost; `released` is GPU memory given back, `left_awake` was named and cannot sleep. A wake: `kept` were
    restored, `dropped` made anew with undefined contents, `released` are still in host memory (lazy).
    """

    ranges: int
    kept: int
    on_disk: int
    dropped: int
    released: int
    left_awake: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class TagState:
    """Where the memory with one tag is, in bytes: awake + kept + on_disk + dropped is all of it, and
    `awake_on_gpu` is the part of `awake` in the memory of GPUs."""

    ranges: int
    awake: int
    awake_on_gpu: int
    kept: int
    on_disk: int
    dropped: int


def sleep(
    tags: Tags = None,
    action: Action = "keep",
    *,
    drop: Union[str, Iterable[str]] = (),
    directory: Union[None, str, "os.PathLike[str]"] = None,
    hold: Hold = "none",
    verify: bool = False,
) -> SleepReport:
    """Gives the GPU memory with these tags back; addresses stay, and `wake` brings it again. All or nothing.

    `tags`: one or several ("": memory without a tag); None: everything. `action`: 'keep' (backed up to host
    memory), 'disk' (to a file in `directory`, or in GPUROOM_SLEEP_DIR) or 'drop' (contents lost). `drop`: tags whose
    contents are lost whatever `action` says. `hold`: what launches and copies do until nothing sleeps: 'none'
    (they go on, and copies to sleeping memory are refused), 'wait' or 'fail'. `verify`: the wake compares checksums.
    With 'wait' something other than this interpreter has to wake it (`gpuroom wake`) where other threads launch: one
    that waits in its launch keeps the interpreter's lock.

    Waits for the GPU, and other threads' submissions wait meanwhile. What is asleep stays as it is. Raises
    OutOfMemory (no room for the backup), NotFound (no memory has had the tag), Busy (a capture, or the GPU does
    not come to rest), InvalidArgument, Error; then everything is awake. Any thread.
    """
    request = _capi.SleepRequestStruct(hold=_number(_capi.HOLDS, hold, "hold"), verify=int(verify))
    entries = _entries(tags, _number(_capi.ACTIONS, action, "action"), _tag_list(drop, "drop"))
    request.tags = (_capi.TagActionStruct * len(entries))(*(_capi.TagActionStruct(*entry) for entry in entries))
    request.tag_count = len(entries)
    request.directory = None if directory is None else os.fsencode(directory)
    library, out = _library.load(), _capi.SleepReportStruct()
    result = library.function("gpuroom_sleep")(
        ctypes.byref(request), ctypes.sizeof(request), ctypes.byref(out), ctypes.sizeof(out)
    )
    library.check(result, "gpuroom.sleep()")
    return _report(out)


def wake(tags: Tags = None, *, lazy: bool = False) -> SleepReport:
    """Wakes what has these tags, first what is named first; None: everything. All or nothing.

    `lazy`: returns as soon as everything can be read where it lies, in host memory; it moves to the GPU in the
    background. What is awake stays as it is. Raises OutOfMemory (the GPU has no room: free memory or wake less),
    NotFound, Error; then everything is asleep as before, and a later wake works. Any thread.
    """
    names = [] if tags is None else _some(tags)
    array = (ctypes.c_char_p * len(names))(*names)
    library, out = _library.load(), _capi.SleepReportStruct()
    result = library.function("gpuroom_wake")(array, len(names), int(lazy), ctypes.byref(out), ctypes.sizeof(out))
    library.check(result, "gpuroom.wake()")
    return _report(out)


def sleep_states() -> Dict[str, TagState]:
    """Where the memory of this process is, by tag; "" is memory without one. Any thread."""
    library, count = _library.load(), ctypes.c_size_t(0)
    function = library.function("gpuroom_sleep_states")
    capacity = 16
    while True:
        out = (_capi.TagStateStruct * capacity)()
        library.check(function(out, capacity, ctypes.byref(count), ctypes.sizeof(_capi.TagStateStruct)), "gpuroom.sleep_states()")
        if count.value <= capacity:
            break
        capacity = 2 * count.value
    return {
        entry.tag.decode("utf-8", "replace"): TagState(*(int(getattr(entry, name)) for name in _capi.STATE_FIELDS))
        for entry in out[: count.value]
    }


class Region:
    """What `region()` returns: a context manager, for any number of blocks, one inside another, in any thread."""

    def __init__(self, tag: bytes, backup: bool) -> None:
        self._tag, self._backup = tag, backup

    def __enter__(self) -> "Region":
        before = _intent.current()
        _intent.apply(before._replace(tag=self._tag, dispensable=not self._backup))
        _outer().append(before)
        _intent.regions().append((self._tag, not self._backup))
        return self

    def __exit__(self, *_exception: object) -> None:
        _intent.regions().pop()
        _intent.apply(_outer().pop())


def region(tag: str, backup: bool = True) -> Region:
    """A context manager: what this thread allocates inside the block has `tag`, by which `sleep` and `wake` know it.

    with gpuroom.region("weights"):
        weights = allocate()

    With `backup=False` it need not outlive a sleep: any action drops its contents. Allocations of 2 MiB and more can
    then sleep. Afterwards, what held before holds again. Under PyTorch use `gpuroom.torch.region`, since
    PyTorch shares what it caches among all. Raises InvalidArgument.
    """
    return Region(_intent.tag_bytes(tag), backup)


def _outer() -> List[Intent]:
    outer: List[Intent] = _threads.__dict__.setdefault("outer", [])
    return outer


def _number(table: Dict[str, int], value: str, name: str) -> int:
    if value not in table:
        raise InvalidArgument(f"{name} is {value!r}; use {', '.join(table)}")
    return table[value]


def _tag_list(tags: Union[str, Iterable[str]], name: str) -> List[bytes]:
    listed = [tags] if isinstance(tags, str) else list(tags)
    for tag in listed:
        if not isinstance(tag, str) or "\0" in tag:
            raise InvalidArgument(f"{name} has {tag!r}, which is no tag; give names")
    return [tag.encode() for tag in listed]


def _some(tags: Union[str, Iterable[str]]) -> List[bytes]:
    names = _tag_list(tags, "tags")
    if not names:
        raise InvalidArgument("tags is empty; name some, or give None for everything")
    return names


def _entries(tags: Tags, action: int, drop: List[bytes]) -> List[Tuple[Optional[bytes], int]]:
    """What gpuroom_sleep_request lists: the tag None stands for all that are not named."""
    drops: List[Tuple[Optional[bytes], int]] = [(tag, _capi.ACTIONS["drop"]) for tag in drop]
    if tags is None:
        return [*drops, (None, action)]
    names = _some(tags) if not drop else _tag_list(tags, "tags")
    twice = next((tag for tag in names if tag in drop), None)
    if twice is not None:
        raise InvalidArgument(f"{twice.decode()!r} is in both tags and drop; leave it out of one")
    return [*drops, *((tag, action) for tag in names)]


def _report(out: _capi.SleepReportStruct) -> SleepReport:
    values = {name: int(getattr(out, name)) for name in _capi.REPORT_FIELDS}
    seconds = values.pop("nanoseconds") / 1e9
    return SleepReport(seconds=seconds, **values)
