"""What the environment says to the plug-in, read once for each engine. Bad values get one sentence."""

from __future__ import annotations

import dataclasses
import os
from typing import Mapping, Optional

from gpuroom import _library
from gpuroom._errors import InvalidArgument

SWITCH = "GPUROOM_VLLM"
KV = "GPUROOM_VLLM_KV"
STAGE = "GPUROOM_VLLM_STAGE"
OFFLOAD = "GPUROOM_VLLM_KV_OFFLOAD"
# The switch of a vLLM fork for GH200, which had the KV cache alone in managed memory.
FORK_KV = "VLLM_KV_CACHE_USE_MANAGED_MEMORY"


@dataclasses.dataclass(frozen=True)
class Settings:
    """`cap_kv`: the KV cache is no larger than what HBM has left beside weights and activations. `stage`: whether
    weights are placed and staged; `stage_from`: in steps of at least so many tokens (None: measured). `offload`: vLLM's own KV offloading
    keeps its blocks in gpuroom's host memory."""

    cap_kv: bool = True
    stage: bool = True
    stage_from: Optional[int] = None
    offload: bool = False


def wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is to have the plug-in: it runs under gpuroom, or GPUROOM_VLLM=1 asks for it."""
    switch = environment.get(SWITCH, "")
    if switch not in ("", "0", "1"):
        raise InvalidArgument(f"{SWITCH} is '{switch}'; write 1 for gpuroom's vLLM plug-in, 0 for vLLM without it")
    if switch:
        return switch == "1"
    return "libgpuroom" in environment.get("LD_PRELOAD", "") and _library._preloaded() is not None


def read(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings. Raises InvalidArgument."""
    kv, stage = environment.get(KV, "") or "hbm", environment.get(STAGE, "") or "auto"
    if kv not in ("hbm", "all"):
        raise InvalidArgument(
            f"{KV} is '{kv}'; write hbm (the KV cache is what HBM has left) or all (also what the host has left)"
        )
    if stage not in ("auto", "off") and not (stage.isdigit() and int(stage) > 0):
        raise InvalidArgument(f"{STAGE} is '{stage}'; write auto, off, or the tokens from which on a step stages weights")
    offload = environment.get(OFFLOAD, "") or "vllm"
    if offload not in ("vllm", "gpuroom"):
        raise InvalidArgument(
            f"{OFFLOAD} is '{offload}'; write vllm (--kv-offloading-size keeps blocks in memory that vLLM pins) or gpuroom (in"
            " gpuroom's host memory)"
        )
    kv_only = environment.get(FORK_KV, "") == "1" or kv == "all"
    return Settings(
        cap_kv=not kv_only,
        stage=stage != "off" and not kv_only,
        stage_from=int(stage) if stage.isdigit() else None,
        offload=offload == "gpuroom",
    )
