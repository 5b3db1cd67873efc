"""What the test programs share: recording checks and figures, asking gpuroom
where memory lies, and asking NVML or another process. Programs import nothing else of this project,
and none of them knows whether gpuroom is loaded."""

import argparse
import ctypes
import json
import os
import pathlib
import subprocess
import sys
import traceback

SKIP = 77
GIB = 1 << 30
MIB = 1 << 20


class Report:
    """Collects named checks and figures; finish() prints them as one JSON line."""

    def __init__(self, program):
        self.program = program
        self.checks = []
        self.figures = {}

    def check(self, name, ok, detail=""):
        self.checks.append({"name": name, "ok": bool(ok), "detail": str(detail)})
        if not ok:
            print(f"FAIL {name}: {detail}", file=sys.stderr, flush=True)
        return bool(ok)

    def figure(self, name, value):
        self.figures[name] = value

    def run(self, topic, *arguments):
        """Runs one topic; an exception is a failed check, and the rest goes on."""
        name = topic.__name__
        try:
            topic(self, *arguments)
        except Exception as error:  # the topic's failure must not hide the others
            traceback.print_exc()
            self.check(name, False, f"{type(error).__name__}: {error}"[:300])

    def finish(self):
        print(json.dumps({"program": self.program, "checks": self.checks, "figures": self.figures}), flush=True)
        return 0 if self.checks and all(check["ok"] for check in self.checks) else 1


def skip(reason):
    print(json.dumps({"skip": reason}), flush=True)
    sys.exit(SKIP)


def need(module):
    """The imported module, or a skip that names it."""
    try:
        return __import__(module)
    except ImportError as error:
        skip(f"{module} cannot be imported: {error}")


def arguments(**extra):
    """--device, --expect-total (bytes, 0: do not check) and --piece, plus `extra` defaults."""
    parser = argparse.ArgumentParser()
    defaults = {"device": 0, "expect_total": 0, "piece": 512 * MIB, "pieces": 16, **extra}
    for name, default in defaults.items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default)
    return parser.parse_args()


class Placement(ctypes.Structure):
    """gpuroom_placement of include/gpuroom/gpuroom.h."""

    _fields_ = [
        ("address", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("device_bytes", ctypes.c_uint64),
        ("peer_bytes", ctypes.c_uint64),
        ("host_bytes", ctypes.c_uint64),
        ("device", ctypes.c_int32),
        ("hint", ctypes.c_int32),
    ]


def gpuroom_function(name, result, *arguments):
    """A function of gpuroom's C interface, or None where the process has none."""
    try:
        function = getattr(ctypes.CDLL(None), name)
    except AttributeError:
        return None
    function.restype, function.argtypes = result, arguments
    return function


def describe(address):
    """The Placement of the range, or of the program's own mapping, that holds
    `address`; None without gpuroom, or where gpuroom has not placed it (small)."""
    function = gpuroom_function("gpuroom_describe", ctypes.c_int, ctypes.c_uint64, ctypes.POINTER(Placement),
                                ctypes.c_size_t)
    placement = Placement()
    found = function and function(address, ctypes.byref(placement), ctypes.sizeof(placement)) == 0
    return placement if found else None


def bytes_by_tier(spans):
    """Where the bytes of [(address, bytes), ...] lie; overlaps count once. Of an
    allocation that lies in several tiers a part counts in proportion. What gpuroom
    has not placed is `other`: small allocations, which lie in HBM."""
    found = {"device": 0.0, "peer": 0.0, "host": 0.0, "other": 0.0}
    done = 0
    for start, size in sorted(spans):
        at, end = max(start, done), start + size
        while at < end:
            place = describe(at)
            if place is None or place.bytes == 0:
                upto = min(end, (at // (2 * MIB) + 1) * 2 * MIB)
                found["other"] += upto - at
            else:
                upto = min(end, place.address + place.bytes)
                share = (upto - at) / place.bytes
                for tier in ("device", "peer", "host"):
                    found[tier] += share * getattr(place, tier + "_bytes")
            at = upto
        done = max(done, end)
    return {tier: round(value) for tier, value in found.items()}


def free_elsewhere():
    """Bytes free on the GPU as a process without gpuroom sees them; its own context counts alike each time."""
    plain = {name: value for name, value in os.environ.items()
             if name != "LD_PRELOAD" and not name.startswith("GPUROOM_")}
    ask = "import driver_ctypes; print(driver_ctypes.Driver().memory()[0])"
    done = subprocess.run([sys.executable, "-c", ask], cwd=pathlib.Path(__file__).parent, env=plain, text=True,
                          capture_output=True, timeout=120, check=True)
    return int(done.stdout.split()[-1])


def nvml_totals(bus_id=None):
    """Total memory as both versions of NVML's query give it, for the GPU with that
    PCI bus id (or the first); None where pynvml is missing."""
    try:
        import pynvml
    except ImportError:
        return None
    pynvml.nvmlInit()
    if bus_id is None:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    else:
        handle = pynvml.nvmlDeviceGetHandleByPciBusId(bus_id.encode())
    first = pynvml.nvmlDeviceGetMemoryInfo(handle).total
    second = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2).total
    return first, second
