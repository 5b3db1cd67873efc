"""Steps that ask whether unchanged programs work and get right results."""

import glob
import json
import pathlib
import sys

from context import ROOT
from registry import Result, judge, judge_all, step

sys.path.append(str(ROOT / "tests/shim"))
import driver_symbols  # noqa: E402

# Where the loader finds the driver.
FIND_DRIVER = """
import ctypes, json
ctypes.CDLL("libcuda.so.1")
(path,) = {line.split()[-1] for line in open("/proc/self/maps") if "libcuda.so" in line}
print(json.dumps({"driver": path}))
"""
EXPANDABLE = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
LINK_SPEED = 49.0  # GB/s that a spilled tensor has to reach on PCIe 5 x16


@step("conformance", sim=True, alone=True)
def conformance(context):
    """The driver's behaviour that the simulator copies, without gpuroom."""
    if not context.has("gpuroom_conformance"):
        return Result("SKIP", "this build has no gpuroom_conformance")
    outcome = context.call([context.binary("gpuroom_conformance"), "--gtest_brief=1"], 120, bare=True)
    passed = [line for line in outcome.text.splitlines() if "PASSED" in line or "FAILED" in line or "SKIPPED" in line]
    result = judge(outcome, {"gtest": "; ".join(line.strip() for line in passed)[:300]})
    if result.status == "FAIL" and not outcome.timed_out:
        result.reason = result.figures["gtest"] or result.reason
    return result


@step("doctor", sim=True)
def doctor(context):
    sim = ["--sim", context.sim] if context.sim else []
    text = context.call([context.binary("gpuroom"), "doctor", *sim], 60)
    outcome = context.call([context.binary("gpuroom"), "doctor", "--json", *sim], 60)
    try:
        json.loads(outcome.text)
    except ValueError as error:
        return Result("FAIL", f"doctor --json is no JSON: {error}")
    lines = [line.strip() for line in text.text.splitlines()]
    warned = [line for line in lines if line.lower().startswith("warn")]
    failed = [line for line in lines if line.lower().startswith("fail")]
    if outcome.status != 0 or text.status != 0:
        return Result("FAIL", "; ".join(failed)[:300] or f"status {text.status} and {outcome.status}")
    return Result("PASS", "", {"warnings": warned})


@step("driver_symbols", sim=True)
def every_driver_symbol(context):
    """Each function that this driver exports is hooked, or tests/shim/driver_symbols.py says why not."""
    found = context.call([sys.executable, "-c", FIND_DRIVER], 60, bare=True)
    path = pathlib.Path(found.answer.get("driver", "/nonexistent"))
    if found.status != 0 or not path.is_file():
        return Result("FAIL", "libcuda.so.1 was not found")
    symbols = driver_symbols.exported(path)
    unknown = driver_symbols.unexplained(symbols, driver_symbols.hooked(ROOT / "src/shim"))
    figures = {"driver": str(path), "symbols": len(symbols), "unexplained": unknown}
    if not symbols or unknown:
        return Result("FAIL", f"neither hooked nor explained: {' '.join(unknown) or 'nothing was found'}"[:1000], figures)
    return Result("PASS", "", figures)


@step("demo", sim=True)
def demo(context):
    sim = ["--sim", context.sim, "--hbm-limit", str(context.hbm)] if context.sim else []
    outcome = context.call([context.binary("gpuroom"), "demo", *sim], 120)
    table = [line for line in outcome.text.splitlines() if line.strip()]
    return judge(outcome, {"table": table[-12:]})


@step("front", sim=True)
def front(context):
    """Exit status, --report and --stats-file of `gpuroom run` around a program."""
    seven = context.call(context.gpuroom(["/bin/sh", "-c", "exit 7"]), 60)
    if seven.status != 7:
        return Result("FAIL", f"'exit 7' ended with status {seven.status}")
    stats = context.logs / "front.stats.jsonl"
    stats.unlink(missing_ok=True)
    program = context.program("driver_ctypes.py", *context.pieces())
    outcome = context.call(context.gpuroom(program, ["--report", "--stats-file", str(stats)]), 120)
    result = judge(outcome)
    lines = stats.read_text().splitlines() if stats.exists() else []
    if result.status == "PASS" and not lines:
        return Result("FAIL", "--stats-file got no line")
    result.figures["stats"] = [json.loads(line) for line in lines][-1:]
    return result


@step("driver_api", sim=True)
def driver_api(context):
    """Driver-API programs that find libcuda by dlsym, by cuGetProcAddress, by linking, by ctypes."""
    pieces = [f"--piece={context.piece}", "--pieces=16", f"--expect-total={context.total}"]
    outcomes = {}
    for lookup in ("dlsym", "procaddress"):
        command = [context.binary("gputest_driver_api"), *pieces, f"--lookup={lookup}"]
        outcomes[lookup] = context.call(context.gpuroom(command), 120)
    if context.has("gputest_linked_driver"):
        command = [context.binary("gputest_linked_driver"), str(context.total)]
        outcomes["linked"] = context.call(context.gpuroom(command), 60)
    command = context.program("driver_ctypes.py", *context.pieces())
    outcomes["ctypes"] = context.call(context.gpuroom(command), 120)
    return judge_all(outcomes)


@step("driver_api_second_gpu", gpus=2, sim=True)
def driver_api_second_gpu(context):
    command = [context.binary("gputest_driver_api"), f"--piece={context.piece}", "--pieces=16",
               f"--expect-total={context.total}", "--device=1"]
    return judge(context.call(context.gpuroom(command), 120))


def runtime_program(context, kind, extra=None):
    name = f"gputest_cudart_{kind}"
    if not context.has(name):
        return Result("SKIP", f"this build has no {name} (nvcc was missing)")
    command = [context.binary(name), str(context.piece), "16", str(context.total)]
    return judge(context.call(context.gpuroom(command), 120, extra))


@step("static_cudart")
def static_cudart(context):
    return runtime_program(context, "static")


@step("shared_cudart")
def shared_cudart(context):
    patterns = ["/usr/local/cuda*/lib64", *(f"{folder}/nvidia/*/lib" for folder in sys.path if folder)]
    folders = [folder for pattern in patterns for folder in glob.glob(pattern)
               if (pathlib.Path(folder) / "libcudart.so.13").exists()]
    if not folders:
        return Result("SKIP", "there is no libcudart.so.13 on this machine")
    return runtime_program(context, "shared", {"LD_LIBRARY_PATH": folders[0]})


def torch_memory(context, device, extra):
    command = context.program("torch_memory.py", *context.pieces(device), "--minimum-speed", LINK_SPEED)
    return judge(context.call(context.gpuroom(command), 120, extra))


@step("torch_default", alone=True)
def torch_default(context):
    return torch_memory(context, 0, {})


@step("torch_expandable", alone=True)
def torch_expandable(context):
    return torch_memory(context, 0, EXPANDABLE)


@step("torch_early_launch", alone=True)
def torch_early_launch(context):
    """Kernels that ask to begin early, beside memory on the host. Without gpuroom, on such memory, this fails."""
    everything = ["--policy", "cpu_first", "--resident-below", "2MiB"]
    return judge(context.call(context.gpuroom(context.program("torch_early_launch.py"), everything), 120))


@step("torch_default_second_gpu", gpus=2, alone=True)
def torch_default_second_gpu(context):
    return torch_memory(context, 1, {})


@step("torch_expandable_second_gpu", gpus=2, alone=True)
def torch_expandable_second_gpu(context):
    return torch_memory(context, 1, EXPANDABLE)


@step("cupy")
def cupy(context):
    return judge(context.call(context.gpuroom(context.program("cupy_memory.py", *context.pieces())), 120))


@step("cupy_second_gpu", gpus=2)
def cupy_second_gpu(context):
    return judge(context.call(context.gpuroom(context.program("cupy_memory.py", *context.pieces(1))), 120))


def jax(context, extra):
    """One visible GPU: XLA would take its share of every one, and the host's budget is one for all."""
    command = context.program("jax_memory.py", *context.pieces(0, 18))
    visible = {"CUDA_VISIBLE_DEVICES": "0", "TF_CPP_MIN_LOG_LEVEL": "1"}
    return judge(context.call(context.gpuroom(command), 150, {**visible, **extra}))


@step("jax_default")
def jax_default(context):
    return jax(context, {})


@step("jax_on_demand")
def jax_on_demand(context):
    return jax(context, {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"})


def same_answers(context, mode, key, variants):
    """Runs transformers_model bare and under gpuroom in each variant; `key` has to agree."""
    scale = "0.75" if context.quick else "1.0"
    command = context.program("transformers_model.py", "--mode", mode, "--scale", scale)
    outcomes = {"bare": context.call(command, 120, bare=True)}
    for name, extra in variants.items():
        outcomes[name] = context.call(context.gpuroom(command), 120, extra)
    result = judge_all(outcomes)
    if result.status != "PASS":
        return result
    answers = {name: outcome.answer["figures"][key] for name, outcome in outcomes.items()}
    different = [name for name, answer in answers.items() if answer != answers["bare"]]
    if different:
        reason = f"{key} differ: bare {answers['bare']}, {different[0]} {answers[different[0]]}"
        return Result("FAIL", reason[:400], result.figures)
    return result


@step("transformers_generate")
def transformers_generate(context):
    return same_answers(context, "generate", "tokens", {"default": {}, "expandable": EXPANDABLE})


@step("transformers_train")
def transformers_train(context):
    return same_answers(context, "train", "losses", {"default": {}})


@step("torch_share", alone=True)
def torch_share(context):
    """CUDA tensors passed between two processes by torch.multiprocessing."""
    return judge(context.call(context.gpuroom(context.program("torch_share.py", *context.pieces())), 180))


@step("torch_peer", gpus=2)
def torch_peer(context):
    command = context.gpuroom(context.program("torch_peer.py", *context.pieces()))
    return judge_all({
        "default": context.call(command, 90),
        "expandable": context.call(command, 90, {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}),
    })


@step("nccl", gpus=2, alone=True)
def nccl(context):
    command = context.program("nccl_allreduce.py", "--piece", context.piece, "--pieces", 15)
    return judge(context.call(context.gpuroom(command), 180))
