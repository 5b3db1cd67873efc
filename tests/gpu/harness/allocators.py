"""Steps about gpuroom as PyTorch's allocator, without `gpuroom run`: does everything work, what does it cost beside
what people would pick, and weights that are streamed. The managed backend gets at most 2 GiB here."""

from context import GIB, ROOT
from registry import Result, judge, judge_all, step
from timing import FAILED, PacedLoop, compare_pairs, is_slower

MOST_GLOBAL, MOST_POOL, MOST_MANAGED = 1.05, 1.02, 1.10  # of PyTorch's own step time
LEAST_OF_LINK = 0.90
OTHERS = ["async", "plain", "plain_managed", "rmm_pool", "rmm_managed"]
OURS = {"gpuroom_use": MOST_GLOBAL, "gpuroom_pool": MOST_POOL, "gpuroom_managed": MOST_MANAGED}


def libraries(context):
    folder = context.build / "lib" / "gpuroom"
    return {"GPUROOM_LIBRARY": str(folder / "libgpuroom.so"), "GPUTEST_LIBRARIES": str(folder)}


def correct(context, allocator):
    command = context.program("torch_allocator.py", "--allocator", allocator)
    return judge(context.call(command, 240, libraries(context), bare=True))


@step("torch_use", alone=True)
def torch_use(context):
    """gpuroom.torch.use(): tensors, streams, graphs, compile, backward, threads, empty_cache, out of memory."""
    return correct(context, "gpuroom_use")


@step("torch_pool", alone=True)
def torch_pool(context):
    return correct(context, "gpuroom_pool")


@step("torch_pool_managed", alone=True)
def torch_pool_managed(context):
    return correct(context, "gpuroom_managed")


@step("torch_cumem", alone=True)
def torch_cumem(context):
    """cumem_allocator behind a pool of PyTorch's: sleep, wake, graphs, out of memory."""
    folder = {"PYTHONPATH": str(context.build / "lib" / "gpuroom" / "python")}
    return judge(context.call(context.program("torch_cumem.py"), 240, folder, bare=True))


class Loop(PacedLoop):
    """A small_step.py with one allocator, without `gpuroom run`."""

    def __init__(self, context, allocator, steps=120):
        command = context.program("small_step.py", "--paced", 1, "--steps", steps, "--allocator", allocator)
        self.child = context.start(command, libraries(context), bare=True)


def beside_native(context, allocator):
    """Figures of a loop with `allocator` beside one with PyTorch's own; one of others, which has no limit, in one
    pair. A sentence where it cannot run, or did not."""
    starts = [lambda name=name: Loop(context, name) for name in ("native", allocator)]
    pairs, turns = (2 if context.quick else 4, 30) if allocator in OURS else (1, 20)
    try:
        figures = compare_pairs(context, starts, pairs, turns, ("native_us", "own_us"))
    except FAILED as error:
        return f"failed: {error}"
    return f"skipped: {figures}" if isinstance(figures, str) else figures


def limit_reason(allocator, figures):
    """Why one of OURS is not good enough, or ""."""
    if isinstance(figures, str):
        return f"{allocator} {figures}"
    if is_slower(figures, OURS[allocator]):
        return f"{allocator}: {figures['ratio']} times PyTorch's own, at most {OURS[allocator]} expected"
    return ""


@step("small_step_allocators", alone=True)
def small_step_allocators(context):
    """A training-like step with every allocator beside PyTorch's own, in turns."""
    figures = {allocator: beside_native(context, allocator) for allocator in [*OURS, *OTHERS]}
    reasons = list(filter(None, (limit_reason(name, figures[name]) for name in OURS)))
    skipped = reasons and all(str(figures[name]).startswith("skipped: ") for name in OURS)
    return Result("SKIP" if skipped else "FAIL" if reasons else "PASS", "; ".join(reasons)[:500], figures)


@step("allocation_cost", alone=True)
def allocation_cost(context):
    """Microseconds to allocate and free, by size, threads and streams, with every allocator."""
    outcomes, rows = {}, {}
    for allocator in ["native", *OURS, *OTHERS]:
        command = context.program("torch_allocation_cost.py", "--allocator", allocator)
        outcome = context.call(command, 180, libraries(context), bare=True)
        rows[allocator] = outcome.answer.get("figures") or outcome.answer.get("skip", "no figures")
        if "skip" not in outcome.answer or allocator in OURS:
            outcomes[allocator] = outcome
    result = judge_all(outcomes)
    return Result(result.status, result.reason, rows)


def stream_program(context, how, *arguments):
    return context.program("torch_stream.py", "--how", how, *arguments)


@step("stream_2", alone=True)
def stream_2(context):
    """A model of twice the HBM budget: streamed, by itself and under `gpuroom run`, and by accelerate's offload."""
    extra = libraries(context)
    limits = ["--hbm-limit", str(7 * GIB), "--host-limit", str(24 * GIB)]
    outcomes = {
        "full": context.call(stream_program(context, "full"), 200, bare=True),
        "stream": context.call(stream_program(context, "stream"), 300, extra, bare=True),
        "stream_run": context.call(context.gpuroom(stream_program(context, "stream", "--under-run", 1), limits), 300),
        "accelerate": context.call(stream_program(context, "accelerate"), 300, bare=True),
    }
    result = judge_all(outcomes)
    figures = {name: outcome.answer.get("figures", {}) for name, outcome in outcomes.items()}
    if result.status != "PASS":
        return Result(result.status, result.reason, figures)
    reasons = []
    for name in ("stream", "stream_run"):
        own = figures[name]
        if own["logits"] != figures["full"]["logits"]:
            reasons.append(f"{name}: other logits than with all weights in HBM")
        if own["tokens"] != figures["full"]["tokens"]:
            reasons.append(f"{name}: other tokens")
        if own["of_link"] < LEAST_OF_LINK:
            reasons.append(f"{name}: {own['of_link']:.0%} of the link's speed")
        if own["seconds_per_token"] > figures["accelerate"]["seconds_per_token"]:
            reasons.append(f"{name}: slower than accelerate's offload")
    return Result("FAIL" if reasons else "PASS", "; ".join(reasons)[:500], figures)


@step("python_doctor")
def python_doctor(context):
    """`python -m gpuroom doctor`, with the package of the source tree."""
    command = [context.program("common.py")[0], "-m", "gpuroom", "doctor"]
    extra = {"PYTHONPATH": str(ROOT / "python"), "PATH": f"{context.build / 'bin'}:/usr/bin:/bin"}
    outcome = context.call(command, 60, extra, bare=True)
    return judge(outcome)
