"""Sizes as the command line reads them: a number with a unit, in powers of 1024."""

from __future__ import annotations

import re
from typing import Union

from gpuroom._errors import InvalidArgument

Size = Union[int, str]

_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_PATTERN = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(?:([KMGT])(?:i?B)?|B)?", re.IGNORECASE)
_MOST = (1 << 63) - 1


def parse_size(value: Size, name: str = "size") -> int:
    """Bytes of "6GiB", "512M", "1.5T" or a plain number of bytes. `name` is how an error calls it."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise InvalidArgument(f"{name} is {value!r}; give bytes as an int, or a size such as '6GiB'")
    if isinstance(value, int):
        bytes_ = value
    else:
        match = _PATTERN.fullmatch(value.strip())
        if match is None:
            raise InvalidArgument(f"{name} is {value!r}, which is no size; write 6GiB, 512MiB or 1.5T")
        bytes_ = _scale(match.group(1), _UNITS[(match.group(2) or "").upper()])
    if not 0 <= bytes_ <= _MOST:
        raise InvalidArgument(f"{name} is {value!r}; a size lies between 0 and 2^63-1 bytes")
    return bytes_


def _scale(number: str, unit: int) -> int:
    whole, _, fraction = number.partition(".")
    part = int(fraction or "0") * unit // int(10 ** len(fraction))
    return int(whole or "0") * unit + part


def format_size(count: int) -> str:
    """ "6.00 GiB", for people."""
    for unit, letter in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return f"{count / unit:.2f} {letter}"
    return f"{count} B"
