"""Steps about where memory lies: moving it at a fixed address, reading what is
interleaved, and a hot loop that comes when HBM is already full."""

from allocators import libraries
from context import GIB, MIB
from registry import Result, judge, judge_all, step

EXPANDABLE = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
LINK = 51.3  # GB/s at which a kernel reads host memory, over PCIe 5 x16
LEAST_OF_IDEAL = 0.95
# Less than an H200 gave by a few percent (docs/measurements.md).
LEAST_MOVED = {"to_host_GBps": 47.0, "to_device_GBps": 50.0, "both_ways_GBps": 75.0}
MOST_LATE = 1.05
EQUAL_SPEEDS = "device=50000000000,peer=50000000000,host=50000000000"


def too_low(figures, least):
    """Sentences on the figures that are missing or less than `least` says."""
    return [f"{name} {figures.get(name, 0):.1f}, at least {limit} expected" for name, limit in least.items()
            if figures.get(name, 0) < limit]


def measured(context, result, reasons):
    """`result` with the reasons why a real GPU's figures will not do."""
    if result.status != "PASS" or context.sim or not reasons:
        return result
    return Result("FAIL", "; ".join(reasons)[:400], result.figures)


def room(context, hbm, host):
    """Limits for one step; the simulated driver's are the harness's own."""
    return [] if context.sim else ["--hbm-limit", str(hbm), "--host-limit", str(host)]


def migrate(context, options, extra, *arguments):
    size = 64 * MIB if context.sim else 8 * GIB
    command = [context.binary("gputest_migrate"), f"--size={size}", *arguments]
    limits = room(context, 20 * GIB, 24 * GIB)
    # Creating host memory is measured elsewhere: what the first move made is kept.
    keep = {"GPUROOM_HOST_KEEP": str(context.host if context.sim else 24 * GIB)}
    return judge(context.call(context.gpuroom(command, [*limits, *options]), 120, {**keep, **extra}))


@step("migrate", sim=True, alone=True)
def migrate_whole(context):
    """8 GiB to the host and back, and two halves past one another."""
    result = migrate(context, [], {})
    return measured(context, result, too_low(result.figures, LEAST_MOVED))


@step("migrate_interleaved", sim=True, alone=True)
def migrate_interleaved(context):
    """The same of a range whose 2 MiB pieces alternate between HBM and host. No speed is
    asked of it: every 2 MiB cost a mapping of their own."""
    extra = {"GPUROOM_LINK_SPEEDS": EQUAL_SPEEDS}
    return migrate(context, ["--policy", "balanced"], extra, "--mixed=1")


def mixed_buffers(figures):
    """[(host share, GB/s)] of the buffers that lie in both tiers."""
    return [(figures[f"mixed_{i}_host_share"], figures[f"mixed_{i}_GBps"])
            for i in range(int(figures.get("mixed_buffers", 0)))]


@step("interleave", sim=True, alone=True)
def interleave(context):
    """GB/s of a kernel over what a program allocates under `balanced`: with room for all
    of it in HBM, and with room for three quarters."""
    size = 32 * MIB if context.sim else GIB  # above what belongs in HBM whatever the policy
    command = [context.binary("bench_read_speed"), f"--size={size}", "--buffers=8",
               f"--repeats={1 if context.sim else 5}"]
    outcomes = {"bare": context.call([*command[:2], "--buffers=2", command[3]], 60, bare=True)}
    extra = {"GPUROOM_LINK_SPEEDS": EQUAL_SPEEDS} if context.sim else {}  # or so little has no host share
    for name, hbm in {"roomy": 12 * GIB, "tight": 6 * GIB}.items():
        options = [*room(context, hbm, 16 * GIB), "--policy", "balanced"]
        outcomes[name] = context.call(context.gpuroom(command, options), 120, extra)
    result = judge_all(outcomes)
    if result.status != "PASS":
        return result
    own = outcomes["bare"].answer["figures"]["resident_GBps"]
    reasons = []
    for name in ("roomy", "tight"):
        mixed = mixed_buffers(outcomes[name].answer["figures"])
        if not mixed:
            return Result("FAIL", f"{name}: no buffer lies in both HBM and host memory", result.figures)
        ratios = [speed / min(own / (1 - share), LINK / share) for share, speed in mixed]
        result.figures[f"{name}.least_of_ideal"] = round(min(ratios), 3)
        result.figures[f"{name}.host_shares"] = [round(share, 4) for share, _ in mixed]
        if min(ratios) < LEAST_OF_IDEAL:
            reasons.append(f"{name}: {min(ratios):.1%} of the ideal at a host share of "
                           f"{mixed[ratios.index(min(ratios))][0]:.2%}")
    return measured(context, result, reasons)


@step("two_links", gpus=2, alone=True)
def two_links(context):
    """Copies to one GPU over both GPUs' links, without gpuroom: whether lanes over peers would pay."""
    return judge(context.call(context.program("two_links.py"), 120, bare=True))


@step("torch_reads", alone=True)
def torch_reads(context):
    """PyTorch's operations on a matrix of 1 GiB in host memory: spilled, and managed memory that faults bring in."""
    program = context.program("torch_reads.py")
    options = [*room(context, 4 * GIB, 8 * GIB), "--policy", "cpu_first", "--resident-below", "512MiB"]
    outcomes = {
        "spilled": context.call(context.gpuroom(program, options), 120),
        "faults": context.call([*program, "--allocator", "plain_managed"], 120, libraries(context), bare=True),
    }
    result = judge_all(outcomes)
    if result.status == "PASS":
        spilled, faults = (outcomes[name].answer["figures"] for name in ("spilled", "faults"))
        result.figures.update({name.replace("_GBps", "_ratio"): round(spilled[name] / faults[name], 2)
                               for name in spilled if name.endswith("_GBps")})
    return result


@step("late_hot", alone=True)
def late_hot(context):
    """A hot loop after 10 GiB of cold tensors in 8 GiB of HBM, beside the loop before them."""
    limits = room(context, 8 * GIB, 16 * GIB)
    program = context.program("late_hot.py")
    outcomes = {"bare": context.call(program, 90, bare=True)}
    for name, extra in {"default": {}, "expandable": EXPANDABLE}.items():
        command = context.gpuroom(program, [*limits, "--policy", "gpu_first"])
        outcomes[name] = context.call(command, 120, extra)
    result = judge_all(outcomes)
    ratios = {name: outcomes[name].answer["figures"]["ratio"] for name in ("default", "expandable")
              if result.status == "PASS"}
    return measured(context, result, [f"{name}: the late loop takes {ratio} times as long"
                                      for name, ratio in ratios.items() if ratio > MOST_LATE])
