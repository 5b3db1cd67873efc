"""Steps on the managed backend. More managed memory than a PCIe machine has free can hang it,
so no step ever asks for more than 2 GiB in all, and none allows oversubscription."""

from context import GIB, MIB
from registry import Result, judge, judge_all, step
from timing import compare_loops

MOST = 2 * GIB
MOST_STEP_RATIO = 1.10
UVM = "use_uvm:True,uvm_oversubscription_ratio:5.0,uvm_access_pattern:gpu_first"


def cap(context):
    """2 GiB; on the simulated driver as much less as the other limits are."""
    return min(MOST, context.hbm // 3 // (2 * MIB) * (2 * MIB))


def options(context, *more):
    """The cap is the HBM limit: the ratio of 1 keeps it there on a coherent machine, too."""
    return ["--hbm-limit", str(cap(context)), "--oversubscription-ratio", "1", *more]


def arguments(context):
    piece = cap(context) // 8 // (2 * MIB) * (2 * MIB)
    return ["--expect-total", cap(context), "--piece", piece, "--pieces", 5]


@step("managed_driver", sim=True, alone=True)
def managed_driver(context):
    """What the driver says of managed allocations, and their contents."""
    command = context.program("managed_driver.py", *arguments(context))
    return judge(context.call(context.gpuroom(command, options(context, "--backend", "managed")), 90))


@step("torch_managed", alone=True)
def torch_managed(context):
    """PyTorch with the option, and with the lines of its UVM patches."""
    command = context.program("torch_managed.py", *arguments(context))
    backend = context.gpuroom(command, options(context, "--backend", "managed"))
    lines = context.gpuroom(command, options(context))
    return judge_all({
        "option": context.call(backend, 120),
        "use_uvm": context.call(lines, 120, {"PYTORCH_CUDA_ALLOC_CONF": "use_uvm:True"}),
        "all_three": context.call(lines, 120, {"PYTORCH_ALLOC_CONF": UVM}),
    })


@step("small_step_managed", alone=True)
def small_step_managed(context):
    """Step time of a small PyTorch loop whose memory is managed and fits."""
    return compare_loops(context, MOST_STEP_RATIO, options(context, "--backend", "managed"))
