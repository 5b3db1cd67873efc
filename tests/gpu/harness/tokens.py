"""Steps in which a large model generates tokens: without headroom, with it by policy
and kind of segments, and with accelerate's offload at the same limit."""

from context import GIB
from registry import Result, judge_all, step

EXPANDABLE = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
LIMIT = 6 * GIB
HOST = 16 * GIB
ACTIVATIONS = GIB // 4  # of the limit, left to activations where accelerate places the weights
LINK = 51.3e9  # bytes/s at which kernels read host memory, over PCIe 5 x16
HBM = 4.5e12  # bytes/s at which they read the GPU's own
LEAST_OF_LINK = 0.85  # of the tokens per second that link and HBM allow; an H200 gave 0.88 to 0.94
LEAST_OVER_ACCELERATE = 5.0


def program(context, times, *arguments):
    return context.program("torch_generate.py", "--model-gib", times * LIMIT / GIB, *arguments)


def run_modes(context, times):
    """{name: Outcome}; the first one is the bare run."""
    outcomes = {"bare": context.call(program(context, times), 120, bare=True)}
    segments = {"default": {}} if context.quick else {"default": {}, "expandable": EXPANDABLE}
    limits = ["--hbm-limit", str(LIMIT), "--host-limit", str(HOST)]
    for policy in ("gpu_first", "balanced"):
        for name, extra in segments.items():
            command = context.headroom(program(context, times), [*limits, "--policy", policy])
            outcomes[f"{policy}.{name}"] = context.call(command, 120, extra)
    offload = ["--accelerate-gib", (LIMIT - ACTIVATIONS) / GIB, "--tokens", 8, "--warm-up", 2]
    outcomes["accelerate"] = context.call(program(context, times, *offload), 150, bare=True)
    return outcomes


def row(figures, bare_seconds):
    """What one way of running it reached, beside what the link allows."""
    seconds = figures["seconds_per_token"]
    host = figures.get("read_host_bytes", figures.get("cpu_bytes", 0))
    link = host / LINK
    # A token's layers run one after the other: the rest is read after, not beside.
    memory = link + figures.get("read_device_bytes", 0) / HBM
    return {
        "tokens_per_s": round(1 / seconds, 2),
        "s_per_token": seconds,
        "mean_s_per_token": figures["mean_seconds_per_token"],
        "host_GiB": round(host / GIB, 3),
        "other_host_GiB": round(figures.get("other_host_bytes", 0) / GIB, 3),
        "link_s_per_token": round(link, 4),
        "of_link": round(link / seconds, 3),
        "of_bound": round(max(memory, bare_seconds) / seconds, 3),
    }


def failures(rows, tokens):
    """Why the figures are not good enough."""
    for name, own in tokens.items():
        if own != tokens["bare"][: len(own)]:
            yield f"{name}: other tokens than without headroom: {own} and {tokens['bare']}"
    for name, figures in rows.items():
        if name in ("bare", "accelerate"):
            continue
        if figures["of_bound"] < LEAST_OF_LINK:
            yield f"{name}: {figures['of_bound']:.0%} of the tokens/s that link and processor allow"
        times = figures["tokens_per_s"] / rows["accelerate"]["tokens_per_s"]
        if rows["accelerate"]["host_GiB"] > 0 and times < LEAST_OVER_ACCELERATE:
            yield f"{name}: only {times:.1f} times as fast as accelerate"


def generate(context, times):
    outcomes = run_modes(context, times)
    result = judge_all(outcomes)
    if result.status != "PASS":
        return result
    figures = {name: outcome.answer["figures"] for name, outcome in outcomes.items()}
    bare = figures["bare"]["seconds_per_token"]
    rows = {name: row(own, bare) for name, own in figures.items()}
    all_figures = {"model_GiB": round(figures["bare"]["model_bytes"] / GIB, 3), **rows}
    reasons = list(failures(rows, {name: own["tokens"] for name, own in figures.items()}))
    return Result("FAIL" if reasons else "PASS", "; ".join(reasons)[:600], all_figures)


@step("generate_1_02", alone=True)
def generate_1_02(context):
    """A model of 1.02 times the HBM limit."""
    return generate(context, 1.02)


@step("generate_1_25", alone=True)
def generate_1_25(context):
    return generate(context, 1.25)


@step("generate_2", alone=True)
def generate_2(context):
    return generate(context, 2.0)
