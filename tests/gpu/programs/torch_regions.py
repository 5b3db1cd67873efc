"""Stock PyTorch under `gpuroom run` with regions: what they allocate sleeps and wakes by its tag, at the same address
and with its contents; a CUDA graph captured before replays after; and the command does it from outside while
threads launch. `--command PATH` is the gpuroom command."""

import os
import pathlib
import subprocess
import sys
import threading

import common

torch = common.need("torch")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "python"))
import gpuroom.torch  # noqa: E402

MIB = common.MIB


def pattern(seed, mebibytes):
    return torch.arange(seed, seed + mebibytes * MIB // 4, dtype=torch.int32, device="cuda")


def wrong(tensor, seed):
    return int((tensor != pattern(seed, tensor.numel() * 4 // MIB)).sum())


def make(options):
    """Tensors by tag; small and large, so that both of PyTorch's kinds of segments are in it."""
    sizes = [4, 24, options.piece // MIB]
    with gpuroom.torch.region("weights"):
        weights = [pattern(7 * i, size) for i, size in enumerate(sizes)]
    with gpuroom.torch.region("kv_cache", backup=False):
        cache = [pattern(5 * i, size) for i, size in enumerate(sizes)]
    plain = [pattern(3 * i, size) for i, size in enumerate(sizes)]
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    return weights, cache, plain


def tags(report, weights, cache, plain):
    addresses = [tensor.data_ptr() for tensor in (*weights, *cache, *plain)]
    before = gpuroom.stats().device_used
    slept = gpuroom.sleep(["weights", "kv_cache"])
    kept = sum(tensor.numel() * 4 for tensor in weights)
    report.check("weights are kept, the cache is dropped", slept.kept >= kept and slept.dropped >= kept, slept)
    report.check("the GPU has it back", before - gpuroom.stats().device_used >= slept.released * 9 // 10, slept)
    report.check("what has no tag is awake", all(wrong(tensor, 3 * i) == 0 for i, tensor in enumerate(plain)))
    woken = gpuroom.wake(["weights"])
    report.check("weights are right", all(wrong(tensor, 7 * i) == 0 for i, tensor in enumerate(weights)), woken)
    gpuroom.wake(["kv_cache"])
    for i, tensor in enumerate(cache):
        tensor.copy_(pattern(5 * i, tensor.numel() * 4 // MIB))
    report.check("the cache is usable", all(wrong(tensor, 5 * i) == 0 for i, tensor in enumerate(cache)))
    same = addresses == [tensor.data_ptr() for tensor in (*weights, *cache, *plain)]
    report.check("addresses stay", same)
    report.figure("sleep_gb_per_s", round(slept.kept / slept.seconds / 1e9, 1))
    report.figure("wake_gb_per_s", round(woken.kept / woken.seconds / 1e9, 1))


def graphs(report, weights):
    total = torch.zeros((), dtype=torch.int64, device="cuda")
    source = weights[1]
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        total.copy_(source.sum())  # what a first call allocates is not part of the graph
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        total.copy_(source.sum())
    want = int(source.sum())
    for lazy in (False, True):
        gpuroom.sleep()
        gpuroom.wake(lazy=lazy)
        total.zero_()
        graph.replay()
        report.check(f"a graph replays, lazy={lazy}", int(total) == want, f"{int(total)}, not {want}")


# In a process of its own: while this one's launches wait, its interpreter may wait, too.
CONTROLLER = """
import json, subprocess, sys
command, pid = sys.argv[1:]
for turn in range(5):
    sleep = ["--verify"] if turn == 1 else []
    wake = ["--lazy"] if turn == 2 else []
    for words in (["sleep", pid, *sleep], ["wake", pid, *wake]):
        done = subprocess.run([command, *words, "--json"], capture_output=True, text=True)
        if done.returncode != 0:
            subprocess.run([command, "wake", pid])
            sys.exit(" ".join(words) + ": " + done.stderr)
        print(json.loads(done.stdout)["processes"][0]["seconds"])
"""


def outside(report, weights, command):
    """The command puts this process to sleep and wakes it while a thread launches all the time."""
    mistakes, stop = [], threading.Event()

    def work():
        while not stop.is_set():
            mistakes.append(wrong(weights[1], 7))

    thread = threading.Thread(target=work)
    thread.start()
    done = subprocess.run([sys.executable, "-c", CONTROLLER, command, str(os.getpid())], capture_output=True, text=True,
                          timeout=180, check=False)
    stop.set()
    thread.join(120)
    report.check("five sleeps and wakes by number", done.returncode == 0, done.stderr[-300:])
    report.check("the thread came through", not thread.is_alive() and mistakes and sum(mistakes) == 0, len(mistakes))
    report.figure("outside_seconds", done.stdout.split())


def main():
    options = common.arguments(command="gpuroom")
    report = common.Report("torch_regions")
    weights, cache, plain = make(options)
    report.run(tags, weights, cache, plain)
    report.run(graphs, weights)
    report.run(outside, weights, options.command)
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
