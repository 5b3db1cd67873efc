"""What users of the original call of it."""

from __future__ import annotations

import contextlib
import os
import pathlib
from typing import Iterator

from gpuroom import _library


def is_xpu() -> bool:
    """gpuroom is for CUDA."""
    return False


def get_binary_path_from_package(stem: str) -> pathlib.Path:
    """The library; the same for every `stem`."""
    del stem
    return pathlib.Path(_library.load().path)


@contextlib.contextmanager
def change_env(key: str, value: str) -> Iterator[None]:
    """The variable has this value inside."""
    before = os.environ.get(key)
    os.environ[key] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = before
