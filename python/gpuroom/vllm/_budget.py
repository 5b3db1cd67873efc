"""How large vLLM's KV cache is to be. Pure: numbers in, a number and the reason out.

vLLM is told of HBM and host memory together, and fills what it is told of with KV blocks. Its list of free blocks turns
through all of them, so blocks beyond HBM would be used as often as the others, and slow everything down.
"""

from __future__ import annotations

import dataclasses

# Bytes of HBM left for what nobody foresees: one part for PyTorch's fragments, one for the workspaces of libraries,
# which gpuroom's own reserve for small allocations holds as well.
FRAGMENTS, WORKSPACES = 32 << 20, 32 << 20


@dataclasses.dataclass(frozen=True)
class Measured:
    """Bytes, of one GPU. `told` is what vLLM would take for KV blocks; `requested` its utilization of the memory that it
    was told of, so `requested - told` is what weights, activations and graphs take. `one_request` is the KV of one
    request of max_model_len. `hbm` is the HBM that may be used, `hbm_free` what was free of it at the start."""

    told: int
    requested: int
    utilization: float
    one_request: int
    hbm: int
    hbm_free: int

    @property
    def others(self) -> int:
        """What is needed beside KV blocks."""
        return self.requested - self.told


@dataclasses.dataclass(frozen=True)
class Decision:
    """The size of the KV cache in bytes, and the reason for it in words."""

    bytes: int
    why: str


def kv_cache(measured: Measured) -> Decision:
    """The bytes of the KV cache: as if the memory in all were HBM, but enough for one request of max_model_len."""
    usable = min(int(measured.hbm * measured.utilization), measured.hbm_free)
    left = usable - measured.others
    if left >= measured.told:
        return Decision(measured.told, "all that vLLM asked for fits in HBM")
    if left >= measured.one_request:
        return Decision(left, "what HBM has left beside weights and activations")
    if measured.one_request <= measured.told:
        return Decision(measured.one_request, "one request of max_model_len, for which weights leave HBM")
    return Decision(measured.told, "all that vLLM was told of, which is less than one request of max_model_len needs")


def request(free: int, requested: int, hbm: int, utilization: float) -> int:
    """What vLLM may request at its start, where `free` bytes are there in all: its utilization of what it was told of,
    or what is there, if that is at least its utilization of HBM. 0: too little is free."""
    if free >= requested:
        return requested
    return free if free >= int(hbm * utilization) else 0


def room_for_weights(in_hbm: int, free: int, reserve: int, beside: int, fragments: int = FRAGMENTS) -> int:
    """The HBM for weights and their staging ring, of which `in_hbm` bytes are there now. `free` is what a large allocation
    could have now, `reserve` what small ones alone could have, `beside` what is still to come, `fragments` what PyTorch's
    segments may still grow by beyond that: nothing, once all of them are there."""
    return in_hbm + free - beside - fragments - max(0, WORKSPACES - reserve)
