"""What this thread says of all that it allocates: policy, backend, hint, tag, and whether it need outlive a sleep.

The library has setters alone for most of it, so what holds is remembered here; blocks restore what held before
them. A thread may begin in a region: the environment says so to the library (TMS_INIT_ENABLE).
"""

from __future__ import annotations

import threading
from typing import List, NamedTuple, Optional, Tuple

from gpuroom import _capi, _library
from gpuroom._errors import InvalidArgument

_LONGEST_TAG = 63
_threads = threading.local()


class Intent(NamedTuple):
    """The numbers are those of _capi; `tag` None: none."""

    policy: int = _capi.DEFAULT
    backend: int = _capi.DEFAULT
    hint: int = _capi.HINTS["none"]
    tag: Optional[bytes] = None
    dispensable: bool = False


def current() -> Intent:
    """What this thread's last `apply` said; before the first, what the thread began with."""
    _begin()
    intent: Intent = _threads.intent
    return intent


def _begin() -> None:
    """Looks at what this thread begins with, once: before anything is changed of it."""
    if hasattr(_threads, "intent"):
        return
    library = _library.load()
    tag = bytes(library.function("gpuroom_region_tag")() or b"") or None
    backup = any(library.function(f"tms_get_enable_{kind}_backup")() for kind in ("cpu", "disk"))
    _threads.intent = Intent(tag=tag, dispensable=tag is not None and not backup)
    _threads.regions = [] if tag is None else [(tag, not backup)]


def apply(intent: Intent) -> None:
    """Makes it hold for this thread. Raises what the library refuses, and then nothing has changed."""
    library, before = _library.load(), current()
    if intent[:4] != before[:4]:
        result = library.function("gpuroom_set_thread_placement")(*intent[:4])
        library.check(result, "setting this thread's placement")
        _threads.intent = intent._replace(dispensable=before.dispensable)
    if intent.dispensable != before.dispensable:
        result = library.function("gpuroom_set_thread_dispensable")(int(intent.dispensable))
        library.check(result, "setting what this thread's memory is for")
    _threads.intent = intent


def regions() -> List[Tuple[Optional[bytes], bool]]:
    """Tag (None: outside of all) and dispensable of the regions that this thread is in, the innermost last; for
    them to keep."""
    _begin()
    found: List[Tuple[Optional[bytes], bool]] = _threads.regions
    return found


def region_tag() -> Optional[bytes]:
    """That of the region that this thread is in; None outside of all."""
    around = regions()
    return around[-1][0] if around else None


def tag_bytes(tag: str) -> bytes:
    """A tag as the library takes it. Raises InvalidArgument."""
    name = tag.encode() if isinstance(tag, str) else b""
    if not name or len(name) > _LONGEST_TAG or b"\0" in name:
        raise InvalidArgument(f"tag is {tag!r}; a tag has 1 to {_LONGEST_TAG} bytes and no NUL")
    return name
