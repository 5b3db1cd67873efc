"""Steps about sleep and wake: how fast, from inside a program, and from outside by PID."""

import json
import subprocess
import threading
import time
import urllib.request

from context import GIB, MIB, ROOT, end_session
from allocators import libraries
from registry import Result, judge, judge_all, step

LEAST_AHEAD, LEAST_FIRST_SLEEP, LEAST_FIRST_WAKE, LEAST_TIMES = 50.0, 15.0, 25.0, 5.0  # GB/s, and times the others'
MOST_LAZY_MS_PER_GIB, MOST_LAZY_OF_LINK = 15.0, 1.2


def case_reasons(case, link):
    """Sentences on what of one case is slower than it is to be."""
    ahead, first, others, lazy = case["ahead"], case["first"], case["copying"], case["lazy"]
    gibibytes = case["bytes"] / GIB
    limits = [
        ("sleep, created ahead", ahead["sleep"] / 1e9, LEAST_AHEAD),
        ("wake, created ahead", ahead["wake"] / 1e9, LEAST_AHEAD),
        ("first sleep", first["sleep"] / 1e9, LEAST_FIRST_SLEEP),
        ("first wake", first["wake"] / 1e9, LEAST_FIRST_WAKE),
        ("sleep by the others' way", ahead["sleep"] / others["sleep"], LEAST_TIMES),
    ]
    reasons = [f"{name} {value:.1f}, at least {least}" for name, value, least in limits if value < least]
    if lazy["first_kernel"] * 1e3 / gibibytes > MOST_LAZY_MS_PER_GIB:
        reasons.append(f"lazy: {lazy['first_kernel'] * 1e3 / gibibytes:.1f} ms a GiB to the first kernel")
    if lazy["back"] > MOST_LAZY_OF_LINK * case["bytes"] / link:
        reasons.append(f"lazy: back after {lazy['back'] * link / case['bytes']:.2f} times the link's time")
    return reasons


@step("bench_sleep", sim=True, alone=True)
def bench_sleep(context):
    """gpuroom bench sleep; its figures are asked for at 40 GiB."""
    sizes = "32MiB" if context.sim else "1GiB,8GiB" if context.quick else "1GiB,8GiB,40GiB"
    # A virtual machine may have much less free than it can have, which is what `auto` goes by.
    machine = ["--sim", context.sim] if context.sim else ["--host-limit", "100GiB"]
    command = [context.binary("gpuroom"), "bench", "sleep", "--size", sizes, "--json", *machine]
    outcome = context.call(command, 240, bare=True)
    if outcome.failure():
        return Result("FAIL", outcome.failure())
    try:
        results = json.loads(outcome.text[outcome.text.index("{"):outcome.text.rindex("}") + 1])
    except ValueError:
        return Result("FAIL", "it printed no JSON")
    (context.out / "bench_sleep.json").write_text(json.dumps(results, indent=1) + "\n")
    reasons = [f"{case['bytes'] / GIB:.1f} GiB was skipped: {case['skipped']}" for case in results["cases"]
               if case["skipped"]]
    largest = results["cases"][-1]
    if not reasons and not context.sim and largest["bytes"] >= 39 * GIB:
        reasons = case_reasons(largest, results["copies"]["host_to_device"])
    return Result("FAIL" if reasons else "PASS", "; ".join(reasons)[:500], results)


@step("torch_sleep_run", alone=True)
def torch_sleep_run(context):
    """PyTorch sleeps and wakes under `gpuroom run`."""
    limits = ["--hbm-limit", str(20 * GIB), "--host-limit", str(24 * GIB)]
    ahead = ["--host-ahead", str(6 * GIB)]
    program = context.program("torch_sleep.py", "--how", "run")
    return judge_all({
        "plain": context.call(context.gpuroom(program, limits), 240),
        "ahead": context.call(context.gpuroom([*program, "--ahead", str(5 * GIB)], [*limits, *ahead]), 120),
    })


@step("torch_sleep_pool", alone=True)
def torch_sleep_pool(context):
    """The same behind the pools of the opened library."""
    command = context.program("torch_sleep.py", "--how", "pool")
    return judge(context.call(command, 240, libraries(context), bare=True))


def saver_speeds(outcome):
    """GB/s of the slowest pause and resume but the first."""
    figures = outcome.answer.get("figures", {})
    slowest = {what: min((figures[name] for name in figures if name.startswith("turn_") and what in name), default=0)
               for what in ("pause", "resume")}
    return slowest["pause"], slowest["resume"]


@step("torch_memory_saver", alone=True)
def torch_memory_saver(context):
    """Pause and resume of 8 GiB in 200 tensors: by the package of that name, where PYTHONPATH has it, as it comes and
    with backups that it keeps; and by gpuroom's module of its name."""
    program = context.program("torch_saver_speed.py")
    limits = ["--hbm-limit", str(20 * GIB), "--host-limit", str(24 * GIB)]
    ours = {**libraries(context), "PYTHONPATH": f"{ROOT / 'python' / 'gpuroom' / 'stand_ins'}:{ROOT / 'python'}"}
    ahead = [*program, "--ahead", str(9 * GIB)]
    outcomes = {
        "gpuroom": context.call(context.gpuroom(program, limits), 120, ours),
        "gpuroom_ahead": context.call(context.gpuroom(ahead, [*limits, "--host-ahead", str(10 * GIB)]), 120, ours),
        "original": context.call(program, 180, bare=True),
        "original_retained": context.call([*program, "--retain", "1"], 180, bare=True),
    }
    result = judge_all(outcomes)
    if result.status == "PASS":
        own, theirs = saver_speeds(outcomes["gpuroom_ahead"]), saver_speeds(outcomes["original"])
        if min(own[0] / theirs[0], own[1] / theirs[1]) < 1:
            return Result("FAIL", f"pause and resume at {own} GB/s, the original's at {theirs}", result.figures)
    return result


EXPANDABLE = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}


@step("torch_regions", alone=True)
def torch_regions(context):
    """Regions on default and expandable segments; the program sleeps and wakes by its PID while a thread launches."""
    command = context.program("torch_regions.py", "--piece", context.piece, "--command", context.binary("gpuroom"))
    run = context.gpuroom(command)
    return judge_all({"default": context.call(run, 240), "expandable": context.call(run, 240, EXPANDABLE)})


def ask(port, index, wrong, stop):
    """Requests without end; every answer is checked."""
    expected = str(512 * MIB // 4 * 3 * (index + 1))
    while not stop.is_set():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{index}", timeout=60) as reply:
                text = reply.read().decode()
        except OSError as error:
            text = f"{type(error).__name__}: {error}"
        if text != expected:
            wrong.append(text[:200])
            return


def control(context, command, pid, *arguments):
    done = subprocess.run([context.binary("gpuroom"), command, str(pid), *arguments], text=True, capture_output=True,
                          timeout=120, env=context.environment())
    context.log(f"$ gpuroom {command} {pid}\n{done.stdout}{done.stderr}[status {done.returncode}]")
    return done


@step("sleep_by_pid", alone=True)
def sleep_by_pid(context):
    """A server sleeps and wakes by its PID while clients wait for its answers."""
    limits = ["--hbm-limit", str(8 * GIB), "--host-limit", str(8 * GIB)]
    child = context.start(context.gpuroom(context.program("sleep_server.py", 2), limits))
    wrong, stop, figures = [], threading.Event(), {}
    try:
        port = int(child.stdout.readline())
        clients = [threading.Thread(target=ask, args=(port, i, wrong, stop)) for i in range(4)]
        for client in clients:
            client.start()
        statuses = []
        for turn in range(5):
            time.sleep(0.5)
            statuses.append(control(context, "sleep", child.pid).returncode)
            time.sleep(0.5)
            statuses.append(control(context, "wake", child.pid, *(["--lazy"] if turn % 2 else [])).returncode)
        time.sleep(1)
        stop.set()
        for client in clients:
            client.join(90)
        listed = subprocess.run([context.binary("gpuroom"), "ps", "--json"], text=True, capture_output=True, timeout=60,
                                env=context.environment())
        figures["ps"] = listed.stdout[:500]
        reasons = [f"a client heard: {text}" for text in wrong]
        reasons += [f"statuses {statuses}"] if any(statuses) else []
        reasons += [] if str(child.pid) in listed.stdout else ["ps does not show the server"]
        return Result("FAIL" if reasons else "PASS", "; ".join(reasons)[:500], figures)
    finally:
        stop.set()
        end_session(child)
        child.wait()
