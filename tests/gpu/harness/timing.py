"""Steps that measure. Comparisons are interleaved pairs; limits are asserted on a
real GPU alone, since the simulated driver's times say nothing about one."""

import contextlib
import json
import os
import select
import statistics

from context import GIB, MIB, end_session
from registry import Result, judge, judge_all, step

MOST_NANOSECONDS = 200  # a call may cost this much more than the driver's own
MOST_STEP_RATIO = 1.01
LINK_SPEED = 49.0


@step("call_overhead", sim=True, alone=True)
def call_overhead(context):
    """What the shim adds to a driver call, the median over pairs of fresh processes."""
    command = [context.binary("bench_call_overhead")]
    added, own = {}, {}
    for _ in range(3 if context.quick else 7):
        bare = context.call(command, 60, bare=True)
        shim = context.call(context.gpuroom(command), 60)
        result = judge_all({"bare": bare, "gpuroom": shim})
        if result.status != "PASS":
            return result
        if not shim.answer["figures"]["gpuroom_loaded"] or bare.answer["figures"]["gpuroom_loaded"]:
            return Result("FAIL", "gpuroom_describe was found in the wrong one of the two")
        for name, value in bare.answer["figures"].items():
            if name.endswith("_ns"):
                own.setdefault(name, []).append(value)
                added.setdefault(name, []).append(shim.answer["figures"][name] - value)
    figures = {name: {"own": round(statistics.median(own[name]), 1), "added": round(statistics.median(added[name]), 1)}
               for name in own}
    slow = [f"{name} +{pair['added']} ns" for name, pair in figures.items() if pair["added"] > MOST_NANOSECONDS]
    if slow and not context.sim:
        return Result("FAIL", "; ".join(slow), figures)
    return Result("PASS", "", figures)


@step("alloc_cost", sim=True, alone=True)
def alloc_cost(context):
    """cuMemAlloc + cuMemFree by size: the driver's own, through gpuroom, and spilled."""
    sizes = [2 * MIB, 16 * MIB, 64 * MIB] if context.sim else [2 * MIB, 16 * MIB, 64 * MIB, 256 * MIB, GIB]
    figures, outcomes = {}, {}
    for size in sizes:
        command = [context.binary("bench_alloc_cost"), f"--size={size}"]
        name = f"{size // MIB} MiB"
        outcomes[f"{name} bare"] = bare = context.call(command, 60, bare=True)
        outcomes[f"{name} fitting"] = fitting = context.call(context.gpuroom(command), 60)
        spilling = [*command, f"--fill={context.hbm}", "--repeats=5"]
        outcomes[f"{name} spilled"] = spilled = context.call(context.gpuroom(spilling), 60)
        if all(outcome.answer.get("figures") for outcome in (bare, fitting, spilled)):
            figures[name] = {
                "bare_us": bare.answer["figures"]["cached_us"],
                "fitting_us": fitting.answer["figures"]["cached_us"],
                "spilled_fresh_us": spilled.answer["figures"]["fresh_us"],
                "spilled_cached_us": spilled.answer["figures"]["cached_us"],
                "spilled_host_MiB": spilled.answer["figures"]["cached_host_MiB"],
            }
    result = judge_all(outcomes)
    return Result(result.status, result.reason, figures)


@step("read_speed", sim=True, alone=True)
def read_speed(context):
    """GB/s of one kernel over resident and spilled buffers."""
    size = GIB if context.total >= 10 * GIB else context.total // 10 // (2 * MIB) * (2 * MIB)
    repeats = 1 if context.sim else 5
    command = [context.binary("bench_read_speed"), f"--size={size}", "--buffers=8", f"--repeats={repeats}"]
    bare_command = [*command[:2], "--buffers=2", command[3]]
    bare = context.call(bare_command, 60, bare=True)
    shim = context.call(context.gpuroom(command), 120)
    result = judge_all({"bare": bare, "gpuroom": shim})
    if result.status != "PASS":
        return result
    speed = result.figures.get("gpuroom.spilled_GBps", 0)
    if result.figures.get("gpuroom.spilled_buffers", 0) == 0:
        return Result("FAIL", "no buffer lies wholly in host memory", result.figures)
    if speed < LINK_SPEED and not context.sim:
        return Result("FAIL", f"a spilled buffer is read at {speed} GB/s, less than {LINK_SPEED}", result.figures)
    return result


def two_processors():
    """The processors that loops which take turns share; none where the machine has fewer than four, all of which
    may be needed. Not neighbours: those are often two threads of one core."""
    allowed = sorted(os.sched_getaffinity(0))
    return {allowed[-3], allowed[-1]} if len(allowed) >= 4 else set()


def pin(child, processors):
    """Before the child starts threads, which inherit it."""
    if processors:
        with contextlib.suppress(ProcessLookupError):  # it has ended; its answer says so
            os.sched_setaffinity(child.pid, processors)


class PacedLoop:
    """A small_step.py that runs one round of `steps` when told."""

    def __init__(self, context, bare, options=(), steps=250):
        command = context.program("small_step.py", "--paced", 1, "--steps", steps)
        self.child = context.start(command if bare else context.gpuroom(command, options), bare=bare)

    def answer(self, limit=90):
        ready, _, _ = select.select([self.child.stdout], [], [], limit)
        line = self.child.stdout.readline() if ready else ""
        if not line:
            raise RuntimeError(f"a loop gave no answer (status {self.child.poll()})")
        return json.loads(line)

    def round(self):
        self.child.stdin.write("go\n")
        self.child.stdin.flush()
        return self.answer()["us"]

    def close(self):
        if self.child.poll() is None:
            end_session(self.child)
            self.child.wait()


def take_turns(starts, turns):
    """The times of two fresh loops that take short turns, turn by turn, or why not; `starts` makes them.
    A virtual machine's speed drifts by 20% over seconds, which neighbouring turns share, and its processors
    differ, which is why both loops get the same two."""
    loops, processors = [], two_processors()
    try:
        for start in starts:
            loops.append(start())
            pin(loops[-1].child, processors)
        for loop in loops:
            first = loop.answer()
            if "skip" in first:
                return first["skip"]
        times = [[], []]
        for turn in range(turns):
            for index in ((0, 1) if turn % 2 == 0 else (1, 0)):
                times[index].append(loops[index].round())
        return times
    finally:
        for loop in loops:
            loop.close()


def compare_pairs(context, starts, pairs, turns, names=("without_us", "with_us")):
    """Figures of the second loop beside the first, over `pairs` fresh pairs that take turns, or why there are none.
    A whole process can be 8% faster than its twin: the ratio is the median over the turns of all pairs.
    Raises what a loop that failed raised: FAILED."""
    taken = []
    for _ in range(pairs):
        times = take_turns(starts, turns)
        if isinstance(times, str):
            return times
        context.log(f"{names[0]} {times[0]}\n{names[1]} {times[1]}")
        taken.append(times)
    both = [turn for times in taken for turn in zip(*times)]
    return {
        names[0]: round(statistics.median(first for first, _ in both), 2),
        names[1]: round(statistics.median(second for _, second in both), 2),
        "ratio": round(statistics.median(second / first for first, second in both), 4),
        "ratios": [round(statistics.median(second / first for first, second in zip(*times)), 4) for times in taken],
        "turns": len(both),
    }


def is_slower(figures, most_ratio):
    """Whether the second loop of compare_pairs takes more than `most_ratio` times as long: in the median over all turns, and
    in each pair. Where pairs disagree, what is measured is which process is the faster twin."""
    return figures["ratio"] > most_ratio and min(figures["ratios"]) > most_ratio


FAILED = (RuntimeError, OSError, ValueError, KeyError)


def compare_loops(context, most_ratio, options=()):
    """Step times with gpuroom, under `options`, over those without, at most `most_ratio`."""
    starts = [lambda: PacedLoop(context, bare=True), lambda: PacedLoop(context, bare=False, options=options)]
    try:
        figures = compare_pairs(context, starts, 2 if context.quick else 4, 60)
    except FAILED as error:
        return Result("FAIL", str(error))
    if isinstance(figures, str):
        return Result("SKIP", figures)
    if is_slower(figures, most_ratio):
        return Result("FAIL", f"the step takes {figures['ratio']} times as long", figures)
    return Result("PASS", "", figures)


@step("small_step", alone=True)
def small_step(context):
    """Step time of a small PyTorch loop with and without gpuroom."""
    return compare_loops(context, MOST_STEP_RATIO)
