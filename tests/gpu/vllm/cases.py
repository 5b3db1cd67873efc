"""What vLLM is asked for in each case, and what stands before it. `room` of the names: all of HBM; `8`, `6`: so many GiB of it."""

from typing import Any, Dict, List, Tuple

GIB = 1 << 30
# name: (sequences, tokens of each prompt, tokens to make, how often the prompts alone are run before)
Works = Dict[str, Tuple[int, ...]]
LARGE: Works = {"one": (1, 128, 33), "sixteen": (16, 256, 25), "prefill": (4, 2048, 1)}
CHUNKS: Works = {"p256": (1, 256, 1), "p512": (1, 512, 1), "p1024": (1, 1024, 1), "p2048": (1, 2000, 1)}
SMALL: Works = {"one": (1, 128, 33), "sixteen": (16, 2048, 33, 2), "many": (48, 2048, 33, 2)}
ONE: Works = {"one": (1, 128, 257)}
LONG: Works = {"long": (1, 49152, 9, 1), "one": (1, 128, 33)}

# Contexts of nearly 131,072 and 262,144 tokens, once each; then one sequence.
CONTEXTS: Works = {"k128": (1, 131008, 9, 0), "k256": (1, 262080, 9, 0), "one": (1, 128, 17)}
SHORT: Works = {"one": (1, 128, 17), "sixteen": (16, 256, 9), "prefill": (4, 2048, 1)}
# The same prompts first and again: more of them than the KV cache holds.
AGAIN: Works = {"many": (48, 2048, 33, 1), "again": (48, 2048, 33, 0)}

ENGINE: Dict[str, Any] = dict(load_format="dummy", skip_tokenizer_init=True, dtype="bfloat16", enable_prefix_caching=False, seed=0,
                              disable_log_stats=True)  # fmt: skip
KV1: Dict[str, Any] = dict(kv_cache_memory_bytes=GIB)
V1_RUNNER = {"VLLM_USE_V2_MODEL_RUNNER": "0"}
IN_PROCESS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}  # batches are the same each time, so that results are, to the bit
HBM8 = ["--hbm-limit", "8GiB", "--host-limit", "40GiB"]
HBM6 = ["--hbm-limit", "6GiB", "--host-limit", "24GiB"]
HBM4 = ["--hbm-limit", "4GiB", "--host-limit", "24GiB"]
HBM25 = ["--hbm-limit", "2560MiB", "--host-limit", "16GiB"]
ROOM = ["--host-limit", "40GiB"]


def graphs(sizes: List[int]) -> Dict[str, Any]:
    return dict(compilation_config={"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY", "cudagraph_capture_sizes": sizes})


def large(works: Works = LARGE, under: Any = None, env: Any = None, fill: bool = True, **llm: Any) -> Dict[str, Any]:
    asked = dict(ENGINE, max_model_len=8192, max_num_batched_tokens=2048, max_num_seqs=16, **graphs([1, 2, 4, 8, 16]))
    return dict(program="engine.py", model="large", llm=dict(asked, **llm), works=works, under=under, env=env or {}, fill=fill)


def small(works: Works = SMALL, under: Any = None, env: Any = None, **llm: Any) -> Dict[str, Any]:
    asked = dict(ENGINE, max_model_len=65536, max_num_batched_tokens=8192, max_num_seqs=48, **graphs([1, 8, 16, 24, 32, 40, 48]))
    return dict(program="engine.py", model="small", llm=dict(asked, **llm), works=works, under=under, env=env or {}, fill=True)


def experts(under: Any = None, env: Any = IN_PROCESS, **llm: Any) -> Dict[str, Any]:
    """Experts of twice the HBM, of which six of sixteen are used most; in `warm` they have time to come to HBM."""
    works: Works = {"warm": (1, 128, 385, 0), "one": (1, 128, 65), "sixteen": (16, 256, 25), "prefill": (4, 2048, 1)}
    asked = dict(ENGINE, max_model_len=4096, max_num_batched_tokens=2048, max_num_seqs=16, kv_cache_memory_bytes=GIB // 2,
                 **graphs([1, 2, 4, 8, 16]))  # fmt: skip
    return dict(program="engine.py", model="experts", llm=dict(asked, **llm), works=works, under=under, env=env, fill=True, seconds=240)


def long(under: Any = None) -> Dict[str, Any]:
    """Contexts whose KV cache HBM has room for if weights leave it."""
    asked = dict(ENGINE, max_model_len=262144, max_num_batched_tokens=8192, max_num_seqs=4, **graphs([1, 2, 4]))
    return dict(program="engine.py", model="long", llm=asked, works=CONTEXTS, under=under, env=IN_PROCESS, fill=True)


def short(mode: str, under: Any = None, env: Any = None) -> Dict[str, Any]:
    """CUDA graphs of one mode; those in pieces by vLLM's compilation with a backend that compiles nothing, which takes no minutes."""
    compiled: Dict[str, Any] = dict(mode=3, backend="eager") if "PIECEWISE" in mode else dict(mode=0)
    asked = dict(ENGINE, max_model_len=8192, max_num_batched_tokens=2048, max_num_seqs=16, kv_cache_memory_bytes=GIB // 4,
                 compilation_config=dict(compiled, cudagraph_mode=mode, cudagraph_capture_sizes=[1, 2, 4, 8, 16]))  # fmt: skip
    return dict(program="engine.py", model="short", llm=asked, works=SHORT, under=under, env=dict(IN_PROCESS, **(env or {})), fill=True)


def prefix(under: Any = None, env: Any = None, **llm: Any) -> Dict[str, Any]:
    """Prompts that come again, where the KV cache holds half of them."""
    cache = dict(kv_cache_memory_bytes=int(1.5 * GIB), max_model_len=32768, enable_prefix_caching=True)
    return small(AGAIN, under=under, env=env, **dict(cache, **llm))


def server(*phases: str, options: str = "--enforce-eager", turns: int = 0) -> Dict[str, Any]:
    asked = "--served-model-name m --load-format dummy --max-model-len 8192 --max-num-seqs 64 --no-enable-prefix-caching --enable-sleep-mode"
    return dict(program="server.py", model="small", llm={}, server=(asked + " " + options).split(), phases=list(phases), turns=turns,
                under=[*HBM8, "--host-ahead", "8GiB"], env={"VLLM_SERVER_DEV_MODE": "1"})  # fmt: skip


def refused(sentence: str, under: Any = HBM8, env: Any = None, **llm: Any) -> Dict[str, Any]:
    """A case that has to end before it has made a token, with `sentence` in its log."""
    return dict(small(dict(one=(1, 16, 1)), under=under, env=dict(IN_PROCESS, **(env or {})), enforce_eager=True, **llm), refused=sentence)


GRAPHS_64 = """--compilation-config {"mode":0,"cudagraph_mode":"FULL_DECODE_ONLY","cudagraph_capture_sizes":[1,8,64]}"""
SOME: Works = {"one": (1, 128, 17), "prefill": (4, 2048, 1)}
COMPILED: Dict[str, Any] = dict(compilation_config={})
FULL = {"mode": 0, "cudagraph_capture_sizes": [1, 2, 4, 8, 16]}
CASES: Dict[str, Dict[str, Any]] = {
    # What fits, with nothing but `gpuroom run` before it.
    "small_bare": small(),
    "small_room": small(under=ROOM),
    # The same without the plug-in: what gpuroom itself adds, with a KV cache that HBM has room for.
    "small_room_plain": small(under=ROOM, env={"GPUROOM_VLLM": "0"}, kv_cache_memory_bytes=110 * GIB),
    "small_bare_one": dict(small(ONE, env=IN_PROCESS), profile=128),
    "small_room_one": dict(small(ONE, under=ROOM, env=IN_PROCESS), profile=128),
    "small_compiled": small(compilation_config={}),
    "small_room_compiled": small(under=ROOM, compilation_config={}),
    # Weights of 10.2 GiB in 8 GiB of HBM.
    "large_bare": large(dict(LARGE, **CHUNKS), env=IN_PROCESS),
    "large_8": large(dict(LARGE, **CHUNKS), under=HBM8, env=IN_PROCESS),
    "large_8_kv1": large(under=HBM8, **KV1),
    "large_8_kv1_reserve": large(under=HBM8 + ["--reserve", "32MiB"], **KV1),
    "large_8_v1": large(under=HBM8, env=V1_RUNNER, **KV1),
    "large_8_unstaged": large(under=HBM8, env={"GPUROOM_VLLM_STAGE": "off"}, **KV1),
    "large_8_eager": large(under=HBM8, enforce_eager=True, **KV1),
    # Decoding by the copy engine as well, within CUDA graphs and without.
    "large_8_graphs_staged": large(under=HBM8, env={"GPUROOM_VLLM_STAGE": "1"}, **KV1),
    "large_8_always_staged": large(under=HBM8, enforce_eager=True, env={"GPUROOM_VLLM_STAGE": "1"}, **KV1),
    # Graphs of decoding alone are the others' way; of all steps by vLLM's sizes, whole and in pieces; and torch.compile by default.
    "large_8_full": large(SOME, under=HBM8, compilation_config=dict(FULL, cudagraph_mode="FULL"), **KV1),
    "large_8_piecewise": dict(large(SOME, under=HBM8, compilation_config=dict(mode=3, cudagraph_mode="PIECEWISE"), **KV1), seconds=300),
    "large_8_compiled": dict(large(SOME, under=HBM8, **KV1, **COMPILED), seconds=300),
    "large_8_in_process": large(SOME, under=HBM8, env=IN_PROCESS, **KV1),
    "large_8_v1_in_process": large(SOME, under=HBM8, env=dict(V1_RUNNER, **IN_PROCESS), **KV1),
    "large_8_v1_eager": large(SOME, under=HBM8, env=V1_RUNNER, enforce_eager=True, **KV1),
    "large_compiled": large(**KV1, **COMPILED),
    # vLLM's own offloading, which its older runner knows alone.
    "large_uva": large(env=V1_RUNNER, cpu_offload_gb=4.0, **KV1),
    "large_prefetch": large(env=V1_RUNNER, fill=False, offload_group_size=12, offload_num_in_group=5, offload_prefetch_step=1, **KV1),
    # KV beyond HBM, and a context that vLLM refuses in as much.
    "small_6": small(LONG, under=HBM6),
    "small_6_many": small({"many": (48, 2048, 33, 1)}, under=HBM6, max_model_len=32768),
    "small_kv15": small({"many": (48, 2048, 33, 1)}, kv_cache_memory_bytes=int(1.5 * GIB), max_model_len=32768),
    "small_long_bare": small(LONG),
    # Experts.
    "experts_bare": experts(),
    "experts_8": experts(under=HBM8),
    "experts_8_plain": experts(under=HBM8, env=dict(IN_PROCESS, GPUROOM_VLLM_STAGE="off")),
    "experts_uva": experts(env=dict(IN_PROCESS, **V1_RUNNER), cpu_offload_gb=10.0),
    # Steps of up to 8192 tokens: experts read where they lie, and whole layers copied ahead.
    "experts_bare_wide": experts(max_num_batched_tokens=8192),
    "experts_8_wide": experts(under=HBM8, max_num_batched_tokens=8192),
    "experts_8_wide_staged": experts(under=HBM8, env=dict(IN_PROCESS, GPUROOM_VLLM_STAGE="512"), max_num_batched_tokens=8192),
    # Contexts of 128K and 256K tokens in 4 GiB of HBM, with 3.7 GiB of weights and 2 GiB of KV cache.
    "long_bare": long(),
    "long_4": long(under=HBM4),
    # Prefixes that come again: without offloading, by vLLM's own, and by vLLM's own with gpuroom's memory.
    "prefix_none": prefix(),
    "prefix_vllm": prefix(kv_offloading_size=8.0),
    "prefix_room": prefix(under=ROOM, kv_offloading_size=8.0),
    "prefix_gpuroom": prefix(under=ROOM + ["--host-ahead", "9GiB"], env={"GPUROOM_VLLM_KV_OFFLOAD": "gpuroom"}, kv_offloading_size=8.0),
    # CUDA graphs of whole steps, of pieces and of both, in both of vLLM's runners, the engine in the same process.
    "short_bare_full": short("FULL"),
    "short_full": short("FULL", under=HBM25),
    "short_bare_pieces": short("PIECEWISE"),
    "short_pieces": short("PIECEWISE", under=HBM25),
    "short_bare_both": short("FULL_AND_PIECEWISE"),
    "short_both": short("FULL_AND_PIECEWISE", under=HBM25),
    "short_bare_v1": short("FULL_DECODE_ONLY", env=V1_RUNNER),
    "short_v1": short("FULL_DECODE_ONLY", under=HBM25, env=V1_RUNNER),
    "short_bare_v1_both": short("FULL_AND_PIECEWISE", env=V1_RUNNER),
    "short_v1_both": short("FULL_AND_PIECEWISE", under=HBM25, env=V1_RUNNER),
    # Many clients by HTTP, and sleep by HTTP and by PID, also under load.
    "server_8": server("clients", "http", "pid", "load", "level_2"),
    "server_8_graphs": server("clients", "http", "pid", "load", options=GRAPHS_64),
    "server_8_turns": server("turns", turns=200),
    # Bad settings end the start with one sentence.
    "bad_kv": refused("GPUROOM_VLLM_KV is 'some'; write hbm", env={"GPUROOM_VLLM_KV": "some"}),
    "bad_stage": refused("GPUROOM_VLLM_STAGE is '-3'; write auto, off", env={"GPUROOM_VLLM_STAGE": "-3"}),
    "bad_switch": refused("GPUROOM_VLLM is 'yes'; write 1", env={"GPUROOM_VLLM": "yes"}),
    "bad_limit": refused("--hbm-limit", under=["--hbm-limit", "8 parsecs"]),
}
# Cases that give the same tokens and log-probabilities to the bit: (without gpuroom, with it).
EQUAL = (
    ("large_bare", "large_8"),
    ("experts_bare", "experts_8"),
    ("experts_bare_wide", "experts_8_wide"),
    ("experts_bare_wide", "experts_8_wide_staged"),
    ("long_bare", "long_4"),
    ("short_bare_full", "short_full"),
    ("short_bare_pieces", "short_pieces"),
    ("short_bare_both", "short_both"),
    ("short_bare_v1", "short_v1"),
    ("short_bare_v1_both", "short_v1_both"),
)
