"""The C interface of gpuroom.h, sleep.h, torch_memory_saver.h and torch_allocator.h in ctypes: structures and prototypes, no policy.

A function that the loaded library lacks (an older one) is noticed when it is called, not before.
"""

from __future__ import annotations

import ctypes
from typing import Any, Dict, List, Optional, Tuple

from gpuroom._errors import Unsupported

TIERS: Dict[str, int] = {"device": 0, "peer": 1, "host": 2}
HINTS: Dict[str, int] = {"none": 0, "hot": 1, "cold": 2, "stream": 3}
POLICIES: Dict[str, int] = {"gpu_first": 0, "balanced": 1, "cpu_first": 2}
BACKENDS: Dict[str, int] = {"tiers": 0, "managed": 1}
ACTIONS: Dict[str, int] = {"keep": 0, "disk": 1, "drop": 2}
HOLDS: Dict[str, int] = {"none": 0, "wait": 1, "fail": 2}
DEFAULT = -1  # of policy and backend: what options and rules say


class PlacementStruct(ctypes.Structure):
    """gpuroom_placement."""

    _fields_ = [
        ("address", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("device_bytes", ctypes.c_uint64),
        ("peer_bytes", ctypes.c_uint64),
        ("host_bytes", ctypes.c_uint64),
        ("device", ctypes.c_int32),
        ("hint", ctypes.c_int32),
    ]


class MoveStruct(ctypes.Structure):
    """gpuroom_move."""

    _fields_ = [
        ("address", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("tier", ctypes.c_int32),
        ("result", ctypes.c_int32),
        ("moved", ctypes.c_uint64),
    ]


# In the order of gpuroom_stats.
STATS_FIELDS: Tuple[str, ...] = (
    "device_limit",
    "device_used",
    "peer_limit",
    "peer_used",
    "host_limit",
    "host_used",
    "host_kept",
    "managed_limit",
    "managed_used",
    "allocations",
    "spilled",
    "displaced_bytes",
    "pool_allocated",
    "pool_reserved",
    "pool_peak_allocated",
    "pool_peak_reserved",
    "pool_allocations",
    "pool_frees",
    "pool_segments_created",
    "pool_segments_destroyed",
    "pool_out_of_memory",
    "asleep_bytes",
    "device_total",
    "device_free",
)


NO_LIMIT = (1 << 64) - 1


class StatsStruct(ctypes.Structure):
    """gpuroom_stats."""

    _fields_ = [(name, ctypes.c_uint64) for name in STATS_FIELDS]


class TagActionStruct(ctypes.Structure):
    """gpuroom_tag_action."""

    _fields_ = [("tag", ctypes.c_char_p), ("action", ctypes.c_int32)]


class SleepRequestStruct(ctypes.Structure):
    """gpuroom_sleep_request."""

    _fields_ = [
        ("tags", ctypes.POINTER(TagActionStruct)),
        ("tag_count", ctypes.c_size_t),
        ("directory", ctypes.c_char_p),
        ("hold", ctypes.c_int32),
        ("verify", ctypes.c_int32),
    ]


# In the order of gpuroom_sleep_report.
REPORT_FIELDS: Tuple[str, ...] = ("ranges", "kept", "on_disk", "dropped", "released", "left_awake", "nanoseconds")
# And of gpuroom_tag_state, after the tag.
STATE_FIELDS: Tuple[str, ...] = ("ranges", "awake", "awake_on_gpu", "kept", "on_disk", "dropped")


class SleepReportStruct(ctypes.Structure):
    """gpuroom_sleep_report."""

    _fields_ = [(name, ctypes.c_uint64) for name in REPORT_FIELDS]


class TagStateStruct(ctypes.Structure):
    """gpuroom_tag_state."""

    _fields_ = [("tag", ctypes.c_char * 64), *((name, ctypes.c_uint64) for name in STATE_FIELDS)]


_PROTOTYPES: Dict[str, Tuple[Any, List[Any]]] = {
    "gpuroom_describe": (ctypes.c_int, [ctypes.c_uint64, ctypes.POINTER(PlacementStruct), ctypes.c_size_t]),
    "gpuroom_migrate_batch": (ctypes.c_int, [ctypes.POINTER(MoveStruct), ctypes.c_size_t, ctypes.c_size_t]),
    "gpuroom_range_migrate": (ctypes.c_int, [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int]),
    "gpuroom_set_hint": (ctypes.c_int, [ctypes.c_uint64, ctypes.c_int]),
    "gpuroom_set_thread_hint": (ctypes.c_int, [ctypes.c_int, ctypes.c_char_p]),
    "gpuroom_set_thread_placement": (ctypes.c_int, [ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_char_p]),
    "gpuroom_prefetch": (ctypes.c_int, [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int, ctypes.c_void_p]),
    "gpuroom_get_stats": (ctypes.c_int, [ctypes.c_int, ctypes.POINTER(StatsStruct), ctypes.c_size_t]),
    "gpuroom_report": (ctypes.c_size_t, [ctypes.c_char_p, ctypes.c_size_t]),
    "gpuroom_trim": (ctypes.c_int, [ctypes.c_int]),
    "gpuroom_set_reserve": (ctypes.c_int, [ctypes.c_int, ctypes.c_uint64]),
    "gpuroom_sleep": (
        ctypes.c_int,
        [ctypes.POINTER(SleepRequestStruct), ctypes.c_size_t, ctypes.POINTER(SleepReportStruct), ctypes.c_size_t],
    ),
    "gpuroom_wake": (
        ctypes.c_int,
        [ctypes.POINTER(ctypes.c_char_p), ctypes.c_size_t, ctypes.c_int, ctypes.POINTER(SleepReportStruct),
         ctypes.c_size_t],
    ),
    "gpuroom_region_tag": (ctypes.c_char_p, []),
    "tms_set_current_tag": (None, [ctypes.c_char_p]),
    "tms_get_current_tag": (ctypes.c_char_p, []),
    "tms_set_interesting_region": (None, [ctypes.c_bool]),
    "tms_get_interesting_region": (ctypes.c_bool, []),
    "tms_set_enable_cpu_backup": (None, [ctypes.c_bool]),
    "tms_get_enable_cpu_backup": (ctypes.c_bool, []),
    "tms_set_enable_disk_backup": (None, [ctypes.c_bool]),
    "tms_get_enable_disk_backup": (ctypes.c_bool, []),
    "tms_set_disk_backup_dir": (None, [ctypes.c_char_p]),
    "tms_set_cpu_backup_backend": (None, [ctypes.c_char_p]),
    "tms_get_cpu_backup_backend": (ctypes.c_char_p, []),
    "tms_set_retain_cpu_backup": (None, [ctypes.c_bool]),
    "tms_get_retain_cpu_backup": (ctypes.c_bool, []),
    "tms_pause": (ctypes.c_int, [ctypes.c_char_p]),
    "tms_resume": (ctypes.c_int, [ctypes.c_char_p]),
    "tms_get_cpu_backup_pointer": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_uint64]),
    "gpuroom_set_memory_margin": (None, [ctypes.c_uint64]),
    "gpuroom_sleep_states": (
        ctypes.c_int,
        [ctypes.POINTER(TagStateStruct), ctypes.c_size_t, ctypes.POINTER(ctypes.c_size_t), ctypes.c_size_t],
    ),
    "gpuroom_set_thread_dispensable": (ctypes.c_int, [ctypes.c_int]),
    "gpuroom_last_error": (ctypes.c_char_p, []),
}


def function(library: ctypes.CDLL, name: str, path: str) -> Any:
    """The function with its prototype. ctypes keeps it, so asking again is cheap."""
    found: Optional[Any] = getattr(library, name, None)
    if found is None:
        raise Unsupported(f"{path} has no {name}; install a gpuroom of the same version as this Python package")
    if found.argtypes is None:
        found.restype, found.argtypes = _PROTOTYPES[name]
    return found
