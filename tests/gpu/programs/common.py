"""What the test programs share: recording checks and figures, asking headroom
where memory lies, and asking NVML. Programs import nothing else of this project,
and none of them knows whether headroom is loaded."""

import argparse
import ctypes
import json
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
    """headroom_placement of include/headroom/headroom.h."""

    _fields_ = [
        ("address", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("device_bytes", ctypes.c_uint64),
        ("peer_bytes", ctypes.c_uint64),
        ("host_bytes", ctypes.c_uint64),
        ("device", ctypes.c_int32),
        ("hint", ctypes.c_int32),
    ]


def describe(address):
    """The Placement of the range that holds `address`; None without headroom, or
    where headroom does not know it (small, or mapped by the program itself)."""
    try:
        function = ctypes.CDLL(None).headroom_describe
    except AttributeError:
        return None
    function.argtypes = [ctypes.c_uint64, ctypes.POINTER(Placement)]
    placement = Placement()
    return placement if function(address, ctypes.byref(placement)) == 0 else None


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
