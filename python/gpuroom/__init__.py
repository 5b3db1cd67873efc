"""gpuroom: one GPU program, more memory than the GPU has.

The library's calls on tensors and addresses (`describe`, `migrate`, `prefetch`, `hint`, `stats`, `report`, `set_reserve`, `trim`), sleep and
wake by tag (`region`, `sleep`, `wake`, `sleep_states`), and `gpuroom.torch` with an allocator, pools and weight streaming for PyTorch. Importing this touches neither
CUDA nor PyTorch; the library is looked for at the first call that needs it.
"""

from __future__ import annotations

import importlib
from typing import Any

from gpuroom import _library
from gpuroom._errors import Busy, Error, InvalidArgument, NotFound, OutOfMemory, Unsupported
from gpuroom._memory import Placement, Stats, describe, hint, migrate, prefetch, report, set_reserve, stats, trim
from gpuroom._settings import configure
from gpuroom._sleep import Region, SleepReport, TagState, region, sleep, sleep_states, wake

__all__ = [
    "Busy",
    "Error",
    "InvalidArgument",
    "NotFound",
    "OutOfMemory",
    "Placement",
    "Region",
    "SleepReport",
    "Stats",
    "TagState",
    "Unsupported",
    "configure",
    "describe",
    "hint",
    "library_path",
    "migrate",
    "prefetch",
    "region",
    "report",
    "set_reserve",
    "sleep",
    "sleep_states",
    "stats",
    "trim",
    "wake",
]


def library_path() -> str:
    """Path of the libgpuroom.so that this process uses. Raises Unsupported where there is none."""
    return _library.load().path


def _version() -> str:
    """What the metadata beside this package says, else that of an installation which leads here."""
    from importlib import metadata

    beside = list(metadata.distributions(name="gpuroom", path=[str(_library.PACKAGE.parent)]))
    try:
        return beside[0].version if beside else metadata.version("gpuroom")
    except metadata.PackageNotFoundError:
        return "0+unknown"  # the sources themselves


def __getattr__(name: str) -> Any:
    """`gpuroom.torch` and `gpuroom.__version__`, which take time to have: looked up when they are first used."""
    if name == "torch":
        return importlib.import_module("gpuroom.torch")
    if name == "__version__":
        globals()[name] = _version()
        return globals()[name]
    raise AttributeError(f"module 'gpuroom' has no attribute {name!r}")
