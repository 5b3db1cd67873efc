"""What changes in vLLM's GPU worker, which serves both of its model runners.

Each function here takes the worker's own one and gives what stands in its place (`_seams` says where). What fails in here is
said in one sentence, and vLLM goes on as it would without.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import importlib.util
import os
from typing import Any, Callable, Iterator, List, Optional

from gpuroom import _capi, _intent, _memory
from gpuroom._errors import Error
from gpuroom.vllm import _account, _budget, _kv, _log, _settings

PART_FOR_ACTIVATIONS = 10  # before they are measured: HBM over this
SMALL_TO_COME = 32 << 20  # bytes of small allocations that a worker still makes when it is warmed up
WEIGHTS_TAG, KV_TAG = b"weights", b"kv_cache"  # as vLLM names what sleeps
CUMEM_SWITCH = "GPUROOM_CUMEM"  # 1: the user wants vLLM's own way, with gpuroom's module
SLEEP_BACKEND = "gpuroom"
OFFLOAD_CONNECTOR, VLLM_SPEC = "OffloadingConnector", "CPUOffloadingSpec"  # what --kv-offloading-size makes vLLM use
NO_COMPILE, VLLM_COMPILE = 0, 3  # vLLM's CompilationMode
NO_GRAPH, PIECEWISE = 0, 1  # vLLM's CUDAGraphMode


class State:
    """What the plug-in knows of one worker."""

    def __init__(self) -> None:
        self.settings = _settings.read()
        self.hbm_free = 0  # bytes at the start
        self.activations = 0  # bytes that a step of the most tokens takes of PyTorch's segments
        self.tensors = 0  # and those of them that are tensors
        self.kv = 0  # bytes of the KV cache
        self.weights: Any = None


def init_device(original: Callable[..., Any]) -> Callable[..., Any]:
    """Reads the settings, chooses how vLLM sleeps, and notes how much HBM is free before anything is loaded."""

    @functools.wraps(original)
    def init_device(self: Any, *arguments: Any, **named: Any) -> Any:
        self._gpuroom = State()  # reads the settings: a bad one ends the start, with its sentence
        with _log.going_on("vLLM's own sleep mode is used"):
            _choose_sleep(self.vllm_config.model_config)
        if self._gpuroom.settings.offload:
            with _log.going_on("KV blocks that leave HBM go to memory that vLLM pins"):
                _choose_offload(getattr(self.vllm_config, "kv_transfer_config", None))
        result = original(self, *arguments, **named)
        with _log.going_on("the memory that is free at the start is not known"):
            self._gpuroom.hbm_free = _memory.stats(self.device).device_free
        return result

    return init_device


def request_memory(original: Callable[..., Any]) -> Callable[..., Any]:
    """vLLM's check before it starts, against all memory that it is told of."""

    @functools.wraps(original)
    def request_memory(init_snapshot: Any, cache_config: Any) -> int:
        try:
            return int(original(init_snapshot, cache_config))
        except ValueError:
            hbm = _hbm(getattr(init_snapshot, "device_", None))
            free, total = init_snapshot.free_memory, init_snapshot.total_memory
            share = cache_config.gpu_memory_utilization
            granted = _budget.request(free, int(total * share), hbm, share)
            if granted == 0:
                raise
            _log.info("%s of %s are free, and taken as what vLLM may use", _gib(free), _gib(total))
            return granted

    return request_memory


def load_model(original: Callable[..., Any]) -> Callable[..., Any]:
    """Tags the weights, and has the steps of a model followed that does not fit in HBM."""

    @functools.wraps(original)
    def load_model(self: Any, *arguments: Any, **named: Any) -> Any:
        state = _state(self)
        hint = "hot" if state is not None and not state.settings.cap_kv else "none"
        with placed(hint, WEIGHTS_TAG):
            result = original(self, *arguments, **named)
        if state is not None and state.settings.stage:
            with _log.going_on("weights are not staged"):
                _follow_weights(self, state)
                if state.weights is not None and state.weights.experts is not None:
                    _turn_before_steps(self, state.weights.experts)
        return result

    return load_model


def determine_available_memory(original: Callable[..., Any]) -> Callable[..., Any]:
    """Gives the size of a KV cache that fits in HBM, in place of one that fills all memory vLLM was told of."""

    @functools.wraps(original)
    def determine_available_memory(self: Any, *arguments: Any, **named: Any) -> Any:
        state = _state(self)
        given = self.cache_config.kv_cache_memory_bytes
        with _peak_into(state):
            told = original(self, *arguments, **named)
        if state is None or given or not state.settings.cap_kv:
            return told
        with _log.going_on("the KV cache is as large as vLLM makes it"):
            return _capped(self, state, int(told))
        return told

    return determine_available_memory


def initialize_from_config(original: Callable[..., Any]) -> Callable[..., Any]:
    """Moves weights out of HBM as far as the KV cache needs their room, before it is allocated."""

    @functools.wraps(original)
    def initialize_from_config(self: Any, kv_cache_config: Any, *arguments: Any, **named: Any) -> Any:
        state, hint, room, size = _state(self), "none", 0, 0
        with _log.going_on("weights stay where they lie"):
            if state is not None:
                state.kv = size = _kv_bytes(kv_cache_config)
                room = _place_weights(self, state, size)
                hint = "hot" if state.settings.cap_kv and size <= room else "none"
                if state.weights is not None:
                    _capture_fewer(self.vllm_config.compilation_config, state.weights.staged_from())
        with placed(hint, KV_TAG):
            result = original(self, kv_cache_config, *arguments, **named)
        if state is not None:
            with _log.going_on("blocks of the KV cache lie where there is room"):
                beside = 0 if size <= room else state.activations + _budget.FRAGMENTS
                _place_blocks(self, int(getattr(kv_cache_config, "num_blocks", 0) or 0), size, max(0, room - beside))
        return result

    return initialize_from_config


def compile_or_warm_up_model(original: Callable[..., Any]) -> Callable[..., Any]:
    """Places the weights once more when CUDA graphs and workspaces are there."""

    @functools.wraps(original)
    def compile_or_warm_up_model(self: Any, *arguments: Any, **named: Any) -> Any:
        result = original(self, *arguments, **named)
        state = _state(self)
        if state is not None and state.weights is not None:
            with _log.going_on("weights stay where they lie"):
                _lower_reserve(self)
                _place_weights(self, state, 0)  # what is there by now is known, CUDA graphs too
        return result

    return compile_or_warm_up_model


def wake_up(original: Callable[..., Any]) -> Callable[..., Any]:
    """Places the weights again after a sleep."""

    @functools.wraps(original)
    def wake_up(self: Any, *arguments: Any, **named: Any) -> Any:
        result = original(self, *arguments, **named)
        state = _state(self)
        if state is not None and state.weights is not None:
            with _log.going_on("weights stay where they woke"):
                if _memory.stats(self.device).asleep_bytes == 0:  # else there is still to come what needs room
                    _place_weights(self, state, 0)
        return result

    return wake_up


def _choose_sleep(config: Any) -> None:
    """Where sleep mode is asked for, and this vLLM has backends for it: gpuroom's, for which memory is allocated as ever."""
    if not getattr(config, "enable_sleep_mode", False) or os.environ.get(CUMEM_SWITCH, "") == "1":
        return
    if getattr(config, "sleep_mode_backend", "") != "cumem" or not getattr(config, "enable_cumem_allocator", False):
        return
    factory = _vllm("device_allocator.sleep_mode_backend").SleepModeBackendFactory
    with contextlib.suppress(ValueError):  # a second engine of this process
        factory.register_backend(SLEEP_BACKEND, "gpuroom.vllm._sleep_backend", "GpuroomBackend")
    config.sleep_mode_backend, config.enable_cumem_allocator = SLEEP_BACKEND, False
    _log.info("sleep mode gives memory back by gpuroom's own sleep")


def _choose_offload(config: Any) -> None:
    """Where vLLM's own KV offloading was asked for: blocks that leave HBM go to gpuroom's host memory. The connector, which is made
    later, makes a spec of the class that the configuration names."""
    extra = getattr(config, "kv_connector_extra_config", None)
    if getattr(config, "kv_connector", None) != OFFLOAD_CONNECTOR or not isinstance(extra, dict):
        _log.info("no KV blocks leave HBM: give vLLM --kv-offloading-size")
    elif extra.get("spec_name", VLLM_SPEC) == VLLM_SPEC:
        if not callable(getattr(_vllm("v1.kv_offload.cpu.spec").CPUOffloadingSpec, "create_worker", None)):
            raise Error("this vLLM's CPUOffloadingSpec has no create_worker")
        extra.update(spec_name="GpuroomOffloadingSpec", spec_module_path="gpuroom.vllm._kv_offload")


def _state(worker: Any) -> Optional[State]:
    return getattr(worker, "_gpuroom", None)


def _torch() -> Any:
    return importlib.import_module("torch")


def _vllm(module: str) -> Any:
    return importlib.import_module(f"vllm.{module}")


def _hbm(device: Any) -> int:
    total = _memory.stats(device).device_total
    if total == 0:
        raise Error("the library does not say how much HBM there is; install one of this package's version")
    return total


def _follow_weights(worker: Any, state: State) -> None:
    """Where weights and one request's KV do not fit in HBM for sure: has steps followed, so that weights can be staged."""
    from gpuroom.torch._engine import CudaEngine
    from gpuroom.vllm._weights import Weights

    _torch().cuda.empty_cache()  # what was of use in loading alone
    model = worker.model_runner.get_model()
    hbm = _hbm(worker.device)
    needed = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    needed += _one_request(worker) + hbm // PART_FOR_ACTIVATIONS
    if needed <= min(hbm, state.hbm_free + _budget.WORKSPACES):
        return
    config = worker.vllm_config
    mode = int(getattr(config.compilation_config, "mode", None) or 0)
    if mode not in (NO_COMPILE, VLLM_COMPILE) or getattr(config.parallel_config, "enable_dbo", False):
        _log.info("weights are not staged with this compilation mode, or with dual batch overlap")
        return
    if isinstance(config.additional_config, dict):
        config.additional_config["gpuroom"] = "staged weights"  # a compiled model of another start knows nothing of them
    state.weights = Weights(model, CudaEngine(worker.device.index), _kind, _log.info, hbm)


def _turn_before_steps(worker: Any, experts: Any) -> None:
    """Lets experts that became hot come to HBM, between this worker's steps. Workers whose experts do not move keep vLLM's own
    function, so that a step costs them nothing."""
    original = worker.execute_model

    @functools.wraps(original)
    def execute_model(*arguments: Any, **named: Any) -> Any:
        if not experts.still:
            with _log.going_on("experts stay where they lie from now on"):
                experts.still = True  # unless the turn ends well
                experts.turn()
                experts.still = False
        return original(*arguments, **named)

    worker.execute_model = execute_model


def _kind() -> Any:
    """What CUDA graphs have to do with the forward that begins."""
    from gpuroom.vllm._steps import Kind

    context = _vllm("forward_context")
    if not context.is_forward_context_available():
        return Kind.PIECES
    mode = int(context.get_forward_context().cudagraph_runtime_mode.value)
    if _torch().cuda.is_current_stream_capturing():
        return Kind.PIECES if mode == PIECEWISE else Kind.WHOLE
    return Kind.PLAIN if mode == NO_GRAPH else Kind.PIECES


def _place_weights(worker: Any, state: State, kv: int) -> int:
    """Gives the weights what HBM has left beside `kv` more bytes, activations, and what is there already. Returns the bytes
    of HBM that can be had for KV, with all weights that can leave away."""
    _torch().cuda.empty_cache()
    stats = _memory.stats(worker.device)
    if state.weights is None:
        return int(stats.device_free)
    graphs = int(getattr(worker, "cudagraph_memory_estimate", 0) or 0) if kv else 0
    reserve = _reserve(stats)
    fragments = _budget.FRAGMENTS if kv else 0  # without any KV to come, the engine is warmed up
    beside = kv + state.activations + graphs
    room = _budget.room_for_weights(state.weights.in_hbm(), stats.device_free, reserve, beside, fragments)
    _log.info(
        "of %s of HBM, %s are for weights and what stages them, beside %s for the KV cache now, %s for activations and %s for"
        " CUDA graphs",
        *map(mib, (stats.device_total, room, kv, state.activations, graphs)),
    )
    state.weights.settle(room, state.settings.stage_from)
    stats = _memory.stats(worker.device)
    with _log.going_on("where HBM went is not known"):
        _log.info("%s", _account.sentence(_accounted(state, stats, 0 if kv else state.kv)))
    return int(stats.device_free)


def _lower_reserve(worker: Any) -> None:
    """Warmed up, vLLM makes few more small allocations, and weights can have what was kept for them."""
    if _reserve(_memory.stats(worker.device)) > SMALL_TO_COME:
        _memory.set_reserve(SMALL_TO_COME, worker.device)


def _reserve(stats: Any) -> int:
    """Bytes of HBM that small allocations alone could have."""
    return 0 if stats.device_limit is None else max(0, int(stats.device_limit - stats.device_used - stats.device_free))


def _accounted(state: State, stats: Any, kv: int) -> _account.Account:
    """`kv`: the bytes of the KV cache, if it has been allocated."""
    cuda, weights = _torch().cuda, state.weights
    kv_in_hbm = min(kv, max(0, kv - (stats.host_used - weights.on_host())))
    return _account.Account(
        total=stats.device_total,
        used=stats.device_used,
        reserve=_reserve(stats),
        free=stats.device_free,
        weights=weights.in_hbm() - weights.buffer_bytes(),
        buffer=weights.buffer_bytes(),
        kv=kv_in_hbm,
        reserved=int(cuda.memory_reserved()),
        allocated=int(cuda.memory_allocated()),
        known=weights.all_bytes() + kv,
        activations=state.activations,
        tensors=state.tensors,
    )


def _place_blocks(worker: Any, blocks: int, size: int, room: int) -> None:
    """Where HBM has `room` for a part of the KV cache alone: that is its first blocks, which are used first."""
    near = _kv.near_blocks(blocks, size, room)
    if not blocks or importlib.util.find_spec(_kv.MODULE) is None:
        return
    ordered = _kv.order_free_list(importlib.import_module(_kv.MODULE), near, blocks)
    if near == blocks or not ordered:
        return
    moved = _kv.place(list(worker.model_runner.kv_caches), blocks, near)
    _log.info(
        "of %d blocks of the KV cache the first %d lie in HBM (%s) and are used before the others (%s were moved)",
        *(blocks, near, mib(room), mib(moved)),
    )


def _capture_fewer(config: Any, tokens: int) -> None:
    """Leaves steps of so many tokens and more out of the CUDA graphs that are to be captured: graphs read weights where they
    lie, and such steps stage them (0: none does). The runner makes its list of graphs later, with its KV cache."""
    sizes = getattr(config, "cudagraph_capture_sizes", None) or []
    fewer = [size for size in sizes if size < tokens]
    if fewer and len(fewer) < len(sizes):
        config.cudagraph_capture_sizes, config.max_cudagraph_capture_size = fewer, max(fewer)
        _log.info("CUDA graphs are captured of steps of up to %d tokens, since those of %d and more stage weights", max(fewer), tokens)


def _capped(worker: Any, state: State, told: int) -> int:
    measured = _budget.Measured(
        told=told,
        requested=int(worker.requested_memory),
        utilization=worker.cache_config.gpu_memory_utilization,
        one_request=_one_request(worker),
        hbm=_hbm(worker.device),
        hbm_free=state.hbm_free,
    )
    decision = _budget.kv_cache(measured)
    _log.info(
        "the KV cache is %s: %s (HBM %s, beside it %s; vLLM would take %s)",
        *(_gib(decision.bytes), decision.why, _gib(measured.hbm), _gib(measured.others), _gib(told)),
    )
    worker.available_kv_cache_memory_bytes = decision.bytes
    return decision.bytes


def _one_request(worker: Any) -> int:
    """Bytes of KV blocks for one request of max_model_len, as vLLM itself counts them, and one block over, which it keeps
    for itself."""
    specs = copy.deepcopy(worker.get_kv_cache_spec())
    needed = sum(int(spec.max_memory_usage_bytes(worker.vllm_config)) for spec in specs.values())
    with contextlib.suppress(Exception):  # releases before groups, and kinds of caches that have none
        kv_cache_utils = _vllm("v1.core.kv_cache_utils")
        by_groups = getattr(kv_cache_utils, "_max_memory_usage_bytes_from_groups", None)
        if by_groups is not None and specs:
            groups = kv_cache_utils.get_kv_cache_groups(worker.vllm_config, specs)
            needed = max(needed, by_groups(worker.vllm_config, groups))
    return int(needed + sum(int(spec.page_size_bytes) for spec in specs.values()))


def _kv_bytes(kv_cache_config: Any) -> int:
    sizes: List[int] = [tensor.size for tensor in kv_cache_config.kv_cache_tensors]
    packed = [tensor.size for tensor in kv_cache_config.kv_cache_tensors if getattr(tensor, "block_stride", 0) > 0]
    return int(sum(sizes) - sum(packed[1:]))  # packed ones share one piece of memory


@contextlib.contextmanager
def placed(hint: str, tag: bytes) -> Iterator[None]:
    """What this thread allocates inside has the hint and the tag."""
    before = _intent.current()
    _intent.apply(before._replace(hint=_capi.HINTS[hint], tag=tag))
    try:
        yield
    finally:
        _intent.apply(before)


@contextlib.contextmanager
def _peak_into(state: Optional[State]) -> Iterator[None]:
    """Notes how much more memory PyTorch held inside than it keeps: what stays, such as the workspaces of libraries, is
    counted as used later."""
    cuda = _torch().cuda
    cuda.empty_cache()
    cuda.reset_peak_memory_stats()
    yield
    if state is not None:
        peak, tensors = cuda.max_memory_reserved(), cuda.max_memory_allocated()
        cuda.empty_cache()
        state.activations = max(0, peak - cuda.memory_reserved())
        state.tensors = max(0, tensors - cuda.memory_allocated())


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.2f} GiB"


def mib(count: int) -> str:
    """In MiB, with the unit."""
    return f"{_account.mib(count)} MiB"
