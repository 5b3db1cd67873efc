"""Steps in which a large model generates tokens: without gpuroom, with it by policy
and kind of segments, with accelerate's offload at the same limit, and by CUDA graphs."""

from context import GIB
from registry import Result, judge_all, step

EXPANDABLE = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
LIMIT = 6 * GIB
HOST = 16 * GIB
ACTIVATIONS = GIB // 4  # of the limit, left to activations where accelerate places the weights
LINK = 51.3e9  # bytes/s at which kernels read host memory, over PCIe 5 x16
HBM = 4.5e12  # bytes/s at which they read the GPU's own
LEAST_OF_BOUND = 0.85  # of the tokens per second that link and HBM allow; an H200 gave 0.88 to 0.94
LEAST_OF_LINK = 0.88  # of the tokens per second that the link alone allows, with a graph; an H200 gave 0.90 to 0.93
MORE = 1.01  # times the weights: what the program takes in all, with activations and cache
MUCH = 0.15  # of the model on the host: from there on the link is what a graph's token takes
LEAST_OVER_ACCELERATE = 5.0


def program(context, times, *arguments):
    return context.program("torch_generate.py", "--model-gib", times * LIMIT / GIB, *arguments)


def with_gpuroom(context, command, policy, extra=None, options=()):
    limits = ["--hbm-limit", str(LIMIT), "--host-limit", str(HOST), "--policy", policy, *options]
    return context.call(context.gpuroom(command, limits), 120, extra)


def spread(context, command, times):
    """Every weight lies in both memories, so that both are read at once."""
    return with_gpuroom(context, command, "balanced", None, ["--expect", str(int(times * LIMIT * MORE))])


def eager_modes(context, times):
    """{name: Outcome} of the program as it is; with --quick three of them."""
    eager = program(context, times)
    outcomes = {"bare": context.call(eager, 120, bare=True)}
    if context.quick:
        return {**outcomes, "gpu_first.default": with_gpuroom(context, eager, "gpu_first"),
                "spread.default": spread(context, eager, times)}
    for policy in ("gpu_first", "balanced"):
        for name, extra in {"default": {}, "expandable": EXPANDABLE}.items():
            outcomes[f"{policy}.{name}"] = with_gpuroom(context, eager, policy, extra)
    outcomes["spread.default"] = spread(context, eager, times)
    offload = ["--accelerate-gib", (LIMIT - ACTIVATIONS) / GIB, "--tokens", 8, "--warm-up", 2]
    return {**outcomes, "accelerate": context.call(program(context, times, *offload), 150, bare=True)}


def graph_modes(context, times):
    """{name: Outcome} where a token's step is one CUDA graph, so that Python is in no time."""
    graph = program(context, times, "--graph", 1)
    return {
        "graph.bare": context.call(graph, 120, bare=True),
        "graph.gpu_first": with_gpuroom(context, graph, "gpu_first"),
        "graph.balanced": with_gpuroom(context, graph, "balanced"),
        "graph.expandable": with_gpuroom(context, graph, "balanced", EXPANDABLE),
        "graph.spread": spread(context, graph, times),
    }


def bare_of(name):
    """The mode without gpuroom that this one is compared with: other kernels may choose other tokens."""
    return "graph.bare" if name.startswith("graph.") else "bare"


def bound(name, figures, link, bare_seconds):
    """Seconds that a token takes at least, or that it would take if its parts were read one after the other where
    both memories are read at once or no Python fills the gaps."""
    device = figures.get("read_device_bytes", 0)
    if name.startswith(("graph.", "spread.")):
        return link + bare_seconds * device / max(1, device + figures.get("read_host_bytes", 0))
    return max(link + device / HBM, bare_seconds)


def row(name, figures, bare_seconds):
    """What one way of running it reached, beside what the link allows."""
    seconds = figures["seconds_per_token"]
    host = figures.get("read_host_bytes", figures.get("cpu_bytes", 0))
    link = host / LINK
    return {
        "tokens_per_s": round(1 / seconds, 2),
        "s_per_token": seconds,
        "mean_s_per_token": figures["mean_seconds_per_token"],
        "host_GiB": round(host / GIB, 3),
        "other_host_GiB": round(figures.get("other_host_bytes", 0) / GIB, 3),
        "link_s_per_token": round(link, 4),
        "of_link": round(link / seconds, 3),
        "of_bound": round(bound(name, figures, link, bare_seconds) / seconds, 3),
    }


def too_slow(name, figures, model_gib):
    """Why one mode with gpuroom is, or ""."""
    if name.startswith("graph.") and figures["host_GiB"] > MUCH * model_gib:
        if figures["of_link"] < LEAST_OF_LINK:
            return f"{name}: {figures['of_link']:.1%} of the tokens/s that the link allows"
    elif figures["of_bound"] < LEAST_OF_BOUND:
        return f"{name}: {figures['of_bound']:.0%} of the tokens/s that link and processor allow"
    return ""


def failures(rows, tokens, model_gib):
    """Why the figures are not good enough."""
    for name, own in tokens.items():
        expected = tokens[bare_of(name)]
        if own != expected[: len(own)]:
            yield f"{name}: other tokens than without gpuroom: {own} and {expected}"
    for name, figures in rows.items():
        if name in ("bare", "graph.bare", "accelerate"):
            continue
        reason = too_slow(name, figures, model_gib)
        if reason:
            yield reason
        if "accelerate" not in rows or name.startswith("graph."):
            continue  # which is beside what runs without graphs, and not run with --quick
        times = figures["tokens_per_s"] / rows["accelerate"]["tokens_per_s"]
        if rows["accelerate"]["host_GiB"] > 0 and times < LEAST_OVER_ACCELERATE:
            yield f"{name}: only {times:.1f} times as fast as accelerate"


def generate(context, times):
    outcomes = {**eager_modes(context, times), **graph_modes(context, times)}
    result = judge_all(outcomes)
    if result.status != "PASS":
        return result
    figures = {name: outcome.answer["figures"] for name, outcome in outcomes.items()}
    rows = {name: row(name, own, figures[bare_of(name)]["seconds_per_token"]) for name, own in figures.items()}
    model_gib = round(figures["bare"]["model_bytes"] / GIB, 3)
    reasons = list(failures(rows, {name: own["tokens"] for name, own in figures.items()}, model_gib))
    return Result("FAIL" if reasons else "PASS", "; ".join(reasons)[:600], {"model_GiB": model_gib, **rows})


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
