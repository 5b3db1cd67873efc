"""Each place where the plug-in touches vLLM: one row of one table. A row is checked against the vLLM that is there before
anything is replaced; where it differs, one sentence says what goes without, and vLLM runs as it is.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

KV_CAP = "a KV cache that fits in HBM"
STAGING = "weights staged into HBM"
PREFLIGHT = "a check at the start that knows of host memory"
SLEEP = "sleep by gpuroom"
EXPERTS = "hot experts in HBM"
BLOCKS = "KV blocks in HBM used first"
OFFLOAD = "KV blocks offloaded to gpuroom's memory"


class Seam(NamedTuple):
    """`parameters` are the names with which the parameters have to begin; `replaced`: another function stands in its
    place, one of the same name in `_worker`; else it is called. `late`: looked for where it is used, on the object itself, so
    that its module is not imported before vLLM does."""

    module: str
    name: str
    parameters: Tuple[str, ...]
    features: Tuple[str, ...]
    replaced: bool
    late: bool = False


WORKER = "vllm.v1.worker.gpu_worker"
SEAMS: Tuple[Seam, ...] = (
    Seam(WORKER, "Worker.init_device", ("self",), (KV_CAP, STAGING), True),
    Seam(WORKER, "Worker.load_model", ("self",), (STAGING,), True),
    Seam(WORKER, "Worker.determine_available_memory", ("self",), (KV_CAP, STAGING), True),
    Seam(WORKER, "Worker.initialize_from_config", ("self", "kv_cache_config"), (STAGING,), True),
    Seam(WORKER, "Worker.compile_or_warm_up_model", ("self",), (STAGING,), True),
    Seam(WORKER, "Worker.wake_up", ("self", "tags"), (STAGING,), True),
    Seam(WORKER, "Worker.execute_model", ("self", "scheduler_output"), (EXPERTS,), False),  # replaced on the worker itself
    Seam(WORKER, "Worker.get_kv_cache_spec", ("self",), (KV_CAP,), False),
    Seam(WORKER, "request_memory", ("init_snapshot", "cache_config"), (PREFLIGHT,), True),
    Seam("vllm.v1.kv_cache_interface", "KVCacheSpec.max_memory_usage_bytes", ("self", "vllm_config"), (KV_CAP,), False),
    Seam("vllm.forward_context", "get_forward_context", (), (STAGING,), False),
    Seam("vllm.forward_context", "is_forward_context_available", (), (STAGING,), False),
    Seam(
        "vllm.device_allocator.sleep_mode_backend", "SleepModeBackendFactory.register_backend",
        ("name", "module_path", "class_name"), (SLEEP,), False,
    ),
    Seam(
        "vllm.model_executor.layers.fused_moe.router.base_router", "BaseRouter.set_capture_fn", ("self", "capture_fn"), (EXPERTS,),
        False, late=True,
    ),
)  # fmt: skip

SEAMS += (
    Seam("vllm.v1.kv_offload.cpu.spec", "CPUOffloadingSpec.create_worker", ("self", "kv_caches"), (OFFLOAD,), False, late=True),
    Seam("vllm.v1.kv_offload.factory", "OffloadingSpecFactory.create_spec", ("config",), (OFFLOAD,), False, late=True),
)  # fmt: skip

SEAMS += tuple(
    Seam("vllm.v1.core.kv_cache_utils", f"FreeKVCacheBlockQueue.{name}", ("self", *parameters), (BLOCKS,), False, late=True)
    for name, parameters in (("popleft", ()), ("popleft_n", ("n",)), ("remove", ("block",)), ("append", ("block",)), ("append_n", ("blocks",)))
)

Lookup = Callable[[str, str], Optional[List[str]]]


def parameters_of(found: Any) -> List[str]:
    """The names of a function's parameters; of a class's method as it is called on the class."""
    return list(inspect.signature(found).parameters)


def missing(lookup: Lookup, late: bool = True) -> Dict[str, str]:
    """By feature, why it cannot be had; `lookup` gives a function's parameters by module and name, None: there is none.
    `late`: the rows of this kind, too."""
    why: Dict[str, str] = {}
    for seam in SEAMS:
        if seam.late and not late:
            continue
        found = lookup(seam.module, seam.name)
        if found is not None and tuple(found[: len(seam.parameters)]) == seam.parameters:
            continue
        told = "is not there" if found is None else f"has the parameters ({', '.join(found)})"
        for feature in seam.features:
            why.setdefault(feature, f"{seam.module}.{seam.name} {told}")
    return why


def replaced_in(module: str, without: Dict[str, str]) -> List[Seam]:
    """The rows of `module` that are to be replaced: all that some feature wants that can be had."""
    return [
        seam
        for seam in SEAMS
        if seam.module == module and seam.replaced and any(feature not in without for feature in seam.features)
    ]
