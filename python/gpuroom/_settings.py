"""The limits of a process that was not started by `gpuroom run`: environment variables, set before the
library reads them. Under `gpuroom run` its options hold and what is asked for here is passed over, aloud."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import warnings
from typing import Dict, Optional, Union

from gpuroom import _capi, _library
from gpuroom._errors import Error, InvalidArgument, Unsupported
from gpuroom._sizes import Size, parse_size
from gpuroom._types import Backend, Policy

HOST_LIMIT = "GPUROOM_HOST_LIMIT"
_SMALLEST_LIMIT = 2 << 20
_lock = threading.Lock()


def configure(
    hbm_limit: Optional[Size] = None,
    host_limit: Optional[Size] = None,
    policy: Optional[Policy] = None,
    backend: Optional[Backend] = None,
    *,
    host_part: Optional[Size] = None,
    expect: Optional[Size] = None,
    reserve: Optional[Size] = None,
    resident_below: Optional[Size] = None,
    prefetch_below: Optional[Size] = None,
    oversubscription_ratio: Optional[float] = None,
    allow_oversubscription: Optional[bool] = None,
) -> None:
    """Sets the limits of this process, and of those that it starts, before gpuroom does anything.

    Sizes are bytes or such as '6GiB', and `hbm_limit` may be '50%' of each GPU, `host_part` '25%' of the host
    limit, 'auto' or 'equal'; the meanings are those of `gpuroom run`'s options. What is None keeps
    its environment variable (GPUROOM_HBM_LIMIT and so on) or its default; `host_limit` defaults to 'auto',
    what the machine can spare. `gpuroom.torch.use`, `pool` and `stream` call this themselves.

    Raises InvalidArgument, and Error where gpuroom has begun its work with other limits. Under
    `gpuroom run` its options hold: then nothing changes, and arguments are passed over with a warning.
    """
    if _size(expect, "expect") not in (None, "0") and (policy not in (None, "balanced") or backend not in (None, "tiers")):
        raise InvalidArgument("expect is for policy='balanced' and backend='tiers'; leave the other out")
    wanted = _variables(
        {
            "GPUROOM_HBM_LIMIT": _limit_or_part(hbm_limit, "hbm_limit"),
            "GPUROOM_HOST_PART": _host_part(host_part),
            "GPUROOM_POLICY": _name(policy, _capi.POLICIES, "policy"),
            "GPUROOM_BACKEND": _name(backend, _capi.BACKENDS, "backend"),
            "GPUROOM_EXPECT": _size(expect, "expect"),
            "GPUROOM_RESERVE": _size(reserve, "reserve"),
            "GPUROOM_RESIDENT_BELOW": _size(resident_below, "resident_below"),
            "GPUROOM_PREFETCH_BELOW": _size(prefetch_below, "prefetch_below"),
            "GPUROOM_OVERSUBSCRIPTION_RATIO": _ratio(oversubscription_ratio),
            "GPUROOM_ALLOW_OVERSUBSCRIPTION": _switch(allow_oversubscription),
        }
    )
    automatic = host_limit is None or host_limit == "auto"
    if not automatic:
        wanted[HOST_LIMIT] = _limit(host_limit, "host_limit") or ""
    with _lock:
        _apply(wanted, host_limit)


def _apply(wanted: Dict[str, str], host_limit: Optional[Size]) -> None:
    library = _library.load()
    if library.preloaded:
        named = sorted({*wanted, *([HOST_LIMIT] if host_limit is not None else [])})
        if named:
            warnings.warn(f"'gpuroom run' set this process's limits; {', '.join(named)} of the program do not count"
                          " (give them to 'gpuroom run')", stacklevel=4)  # fmt: skip
        return
    if library.started:
        changed = [name for name, value in wanted.items() if os.environ.get(name) != value]
        if changed:
            raise Error(f"gpuroom is at work in this process already, so {', '.join(changed)} cannot change; call"
                        " gpuroom.configure() or gpuroom.torch.use() before anything else of gpuroom")  # fmt: skip
        return
    if HOST_LIMIT not in wanted and (host_limit == "auto" or HOST_LIMIT not in os.environ):
        wanted = {**wanted, HOST_LIMIT: spare_host_memory()}
    os.environ.update(wanted)


def spare_host_memory() -> str:
    """What `gpuroom run --host-limit auto` would offer here, in bytes; asks the command."""
    command = _library.command()
    if command is None:
        raise Unsupported("host_limit='auto' needs the gpuroom command, and there is none; give a size such as"
                          " '64GiB'")  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != HOST_LIMIT}
    arguments = [command, "run", "--dry-run", "--json", "--host-limit", "auto", "--", "/bin/sh"]
    try:
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode == 0:
            return str(int(json.loads(done.stdout)["limits"]["host_bytes"]))
        reason = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
    except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    raise Error(f"the host memory to spare could not be found ({reason}); give host_limit a size such as '64GiB'")


def _variables(values: Dict[str, Optional[str]]) -> Dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def _size(value: Optional[Size], name: str) -> Optional[str]:
    return None if value is None else str(parse_size(value, name))


def _limit(value: Optional[Size], name: str) -> Optional[str]:
    if value is not None and parse_size(value, name) < _SMALLEST_LIMIT:
        raise InvalidArgument(f"{name} is {value!r}; the least is 2MiB")
    return _size(value, name)


def _limit_or_part(value: Optional[Size], name: str) -> Optional[str]:
    if not isinstance(value, str) or not value.endswith("%"):
        return _limit(value, name)
    if re.fullmatch("[1-9][0-9]?|100", value[:-1]) is None:
        raise InvalidArgument(f"{name} is {value!r}; a part is a whole number from 1% to 100%")
    return value


def _host_part(value: Optional[Size]) -> Optional[str]:
    return str(value) if value in ("auto", "equal") else _limit_or_part(value, "host_part")


def _name(value: Optional[str], table: Dict[str, int], name: str) -> Optional[str]:
    if value is not None and value not in table:
        raise InvalidArgument(f"{name} is {value!r}; use {', '.join(table)}")
    return value


def _ratio(value: Union[None, int, float]) -> Optional[str]:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.1 <= value <= 100:
        raise InvalidArgument(f"oversubscription_ratio is {value!r}; use a number from 0.1 to 100, such as 1.5")
    return repr(float(value))


def _switch(value: Optional[bool]) -> Optional[str]:
    return None if value is None else str(int(bool(value)))
