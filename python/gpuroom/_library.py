"""Finds libgpuroom.so and loads it, once in a process and not before it is needed.

In this order: the one that `gpuroom run` preloaded, GPUROOM_LIBRARY, the wheel's own, the one beside an
installed `gpuroom` command. Loading it starts nothing: CUDA is touched by the first call that needs it.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import shutil
import threading
from typing import Any, Iterator, List, Optional, Tuple

from gpuroom import _capi, _errors

NAME = "libgpuroom.so"
PACKAGE = pathlib.Path(__file__).resolve().parent
_lock = threading.Lock()
_loaded: Optional["Library"] = None


class _Origin(ctypes.Structure):
    """Dl_info of dladdr()."""

    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


class Library:
    """The loaded library. `started` says that a call other than looking for it was made, from when
    on it has read its environment variables."""

    def __init__(self, handle: ctypes.CDLL, path: str, preloaded: bool) -> None:
        self.handle, self.path, self.preloaded = handle, path, preloaded
        self.started = preloaded

    def function(self, name: str) -> Any:
        found = _capi.function(self.handle, name, self.path)
        self.started = True
        return found

    def check(self, result: int, what: str) -> None:
        """Raises what a gpuroom_result other than GPUROOM_OK stands for."""
        if result == 0:
            return
        sentence = self.function("gpuroom_last_error")() or b""
        raise _errors.from_result(result, sentence.decode("utf-8", "replace"), what)


def command() -> Optional[str]:
    """Path of the `gpuroom` command: the one that was installed with this package, else that in PATH; None where there
    is neither."""
    for candidate in _own_commands():
        if candidate.exists():
            return str(candidate)
    return _installed_command()


def load() -> Library:
    """The library, loaded at the first call. Any thread. Raises Unsupported where there is none."""
    global _loaded
    with _lock:
        if _loaded is None:
            _loaded = _preloaded() or _open_first(list(_candidates()))
        return _loaded


def _preloaded() -> Optional[Library]:
    process = ctypes.CDLL(None)
    describe = getattr(process, "gpuroom_describe", None)
    if describe is None:
        return None
    origin = _Origin()
    process.dladdr.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Origin)]
    if not process.dladdr(ctypes.cast(describe, ctypes.c_void_p), ctypes.byref(origin)) or not origin.file:
        return None
    return Library(process, os.fsdecode(origin.file), preloaded=True)


def _own_commands() -> Iterator[pathlib.Path]:
    """Where `pip` puts the command of this package: <environment>/bin, beside which the package lies in
    lib/python3.X/site-packages, or in the folder of `pip install --target`."""
    if not (PACKAGE / "_native").exists():
        return  # the sources, which come without a command
    yield PACKAGE.parent / "bin" / "gpuroom"
    if PACKAGE.parent.name in ("site-packages", "dist-packages"):
        yield PACKAGE.parents[3] / "bin" / "gpuroom"


def _installed_command() -> Optional[str]:
    found = shutil.which("gpuroom")
    if found is None:
        return None
    with open(found, "rb") as file:
        script = file.read(2) == b"#!"  # somebody's wrapper, which may start this module again
    return None if script else found


def _candidates() -> Iterator[Tuple[str, pathlib.Path]]:
    """(where it was looked for, path); what GPUROOM_LIBRARY names has to be there."""
    named = os.environ.get("GPUROOM_LIBRARY")
    if named:
        yield "GPUROOM_LIBRARY", pathlib.Path(named)
        return
    yield "this package", PACKAGE / "_native" / "lib" / "gpuroom" / NAME
    installed = _installed_command()
    if installed:
        yield "beside the gpuroom command", pathlib.Path(installed).resolve().parents[1] / "lib" / "gpuroom" / NAME


def _open_first(candidates: List[Tuple[str, pathlib.Path]]) -> Library:
    for where, path in candidates:
        if not path.exists():
            continue
        try:
            # Not for the whole process: its hooks are for being preloaded.
            return Library(ctypes.CDLL(str(path)), str(path), preloaded=False)
        except OSError as error:
            raise _errors.Unsupported(f"{path} ({where}) cannot be loaded: {error}") from error
    tried = ", ".join(f"{path} ({where})" for where, path in candidates)
    raise _errors.Unsupported(
        f"{NAME} was not found; tried {tried}. Run under 'gpuroom run', install the wheel, or set GPUROOM_LIBRARY"
    )
