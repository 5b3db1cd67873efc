"""vLLM's sleep mode by gpuroom's own sleep. Imported by vLLM's SleepModeBackendFactory alone, and only where it is used."""

from __future__ import annotations

import importlib
from typing import Any, List, Optional

import gpuroom
from gpuroom.vllm._worker import KV_TAG, WEIGHTS_TAG


WEIGHTS, KV = [WEIGHTS_TAG.decode()], [KV_TAG.decode()]
RING = ["stream"]  # of the buffers that weights are staged in (gpuroom.torch._engine)
TRANSIENT = KV + RING
_Backend: Any = importlib.import_module("vllm.device_allocator.sleep_mode_backend").SleepModeBackend


class GpuroomBackend(_Backend):  # type: ignore[misc]
    """Level 1 keeps the weights on the host, level 2 drops them; the KV cache is dropped. Addresses stay, CUDA graphs with
    them."""

    def suspend(self, level: int = 1) -> None:
        self._state = "SUSPENDED"
        kept = _known(WEIGHTS) if level == 1 else []
        dropped = _known(TRANSIENT if level == 1 else WEIGHTS + TRANSIENT)
        if kept:
            gpuroom.sleep(kept, drop=dropped)
        elif dropped:
            gpuroom.sleep(dropped, action="drop")

    def resume(self, tags: Optional[List[str]] = None) -> None:
        self._state = "RESUMING"
        gpuroom.wake(None if tags is None else _known(list(tags) + (RING if "weights" in tags else [])))
        self._state = "RUNNING"

    @classmethod
    def preserves_communicators(cls) -> bool:
        return True

    @classmethod
    def preserves_compiled_artifacts(cls) -> bool:
        return True

    @classmethod
    def preserves_graphs_with_communicators(cls) -> bool:
        return True


def _known(tags: List[str]) -> List[str]:
    """Those that some memory has."""
    states: Any = gpuroom.sleep_states()
    return [tag for tag in tags if tag in states]
