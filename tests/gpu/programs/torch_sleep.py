"""PyTorch's memory asleep and awake again, under `gpuroom run` (`--how run`) or behind the opened library's pools
(`--how pool`): contents, CUDA graphs, what another process sees, lazy wakes, disk, and 1,000 turns. With `--ahead BYTES`
only speeds, once that much host memory was created ahead."""

import os
import sys
import tempfile
import time

import allocators
import common

torch = None  # imported when it is known how memory is had
MIB, GIB = common.MIB, common.GIB


class Model:
    """Weights and a cache, tagged, and a graph over both."""

    def __init__(self, gpuroom, gibibytes):
        self.gpuroom = gpuroom
        count = gibibytes * GIB // 8 // (2048 * 2048 * 2)
        with gpuroom.torch.region("weights"):
            self.weights = [torch.randn(2048, 2048, device="cuda", dtype=torch.bfloat16) / 45 for _ in range(8 * count)]
        with gpuroom.torch.region("kv_cache"):
            self.cache = [torch.zeros(64 * MIB // 2, device="cuda", dtype=torch.bfloat16) for _ in range(8)]
        self.x = torch.randn(64, 2048, device="cuda", dtype=torch.bfloat16)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self.forward()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.out = self.forward()
        self.graph.replay()
        torch.cuda.synchronize()
        self.expected = self.out.clone()

    def forward(self):
        y = self.x
        for weight in self.weights:
            y = torch.tanh(y @ weight)
        return y

    def bytes(self):
        return sum(tensor.numel() * 2 for tensor in self.weights + self.cache)

    def right(self):
        """The graph that was captured at the start gives what it gave then, to the bit."""
        self.out.zero_()
        self.graph.replay()
        torch.cuda.synchronize()
        return torch.equal(self.out, self.expected)


def sleeps(report, model):
    """Level 1 as vLLM has it: weights are kept, the cache is dropped."""
    before = common.free_elsewhere()
    slept = model.gpuroom.sleep(tags=["weights"], drop=["kv_cache"])
    asleep = common.free_elsewhere()
    report.figure("sleep_GBps", round(slept.kept / slept.seconds / 1e9, 2))
    report.figure("freed_elsewhere_GiB", round((asleep - before) / GIB, 3))
    report.check("another process finds the memory free", asleep - before >= 0.98 * model.bytes(), asleep - before)
    woke = model.gpuroom.wake(["weights"])
    report.figure("wake_GBps", round(woke.kept / woke.seconds / 1e9, 2))
    report.check("a graph from before the sleep replays", model.right())
    model.gpuroom.wake()
    for tensor in model.cache:
        tensor.fill_(1)
    report.check("the cache can be written again", all(float(t[0]) == 1 and float(t[-1]) == 1 for t in model.cache))
    states = model.gpuroom.sleep_states()
    report.check("all is awake", states["weights"].kept == 0 and states["kv_cache"].dropped == 0, states)


def lazily(report, model):
    model.gpuroom.sleep(tags=["weights"])
    woke = model.gpuroom.wake(lazy=True)
    report.figure("lazy_wake_ms", round(woke.seconds * 1e3, 2))
    report.check("right throughout a lazy wake", all(model.right() for _ in range(50)))


def to_disk(report, model):
    with tempfile.TemporaryDirectory() as folder:
        slept = model.gpuroom.sleep(tags=["weights"], action="disk", directory=folder)
        report.figure("to_disk_GBps", round(slept.on_disk / slept.seconds / 1e9, 2))
        woke = model.gpuroom.wake()
        report.figure("from_disk_GBps", round(woke.kept / woke.seconds / 1e9, 2))
        report.check("nothing is left in the folder", os.listdir(folder) == [], os.listdir(folder))
    report.check("right after a backup on disk", model.right())


def verified(report, model):
    model.gpuroom.sleep(tags=["weights"], verify=True)
    model.gpuroom.wake()
    report.check("right after checksums", model.right())


def ahead(report, model, wanted):
    """How fast it is where host memory was created ahead, the slowest of three."""
    end = time.monotonic() + 60
    while model.gpuroom.stats(0).host_kept < wanted and time.monotonic() < end:
        time.sleep(0.1)
    report.figure("ahead_bytes", model.gpuroom.stats(0).host_kept)
    sleeps_s, wakes_s = [], []
    for _ in range(3):
        slept = model.gpuroom.sleep(tags=["weights"])
        time.sleep(0.2)
        woke = model.gpuroom.wake(["weights"])
        sleeps_s.append(slept.kept / slept.seconds / 1e9)
        wakes_s.append(woke.kept / woke.seconds / 1e9)
    report.figure("ahead_sleep_GBps", round(min(sleeps_s), 2))
    report.figure("ahead_wake_GBps", round(min(wakes_s), 2))
    report.check("right after three turns", model.right())


def own_memory():
    with open("/proc/self/status", encoding="utf-8") as status:
        return int(next(line for line in status if line.startswith("VmRSS:")).split()[1]) * 1024


def many_turns(report, gpuroom):
    """Nothing leaks: on the GPU, in host memory, in files."""
    with gpuroom.torch.region("turns"):
        tensor = torch.arange(8 * MIB, device="cuda", dtype=torch.int32)
    gpuroom.sleep(tags=["turns"])
    gpuroom.wake(["turns"])
    before, files, own = common.free_elsewhere(), len(os.listdir("/proc/self/fd")), own_memory()
    host = gpuroom.stats(0)
    for _ in range(1000):
        gpuroom.sleep(tags=["turns"])
        gpuroom.wake(["turns"])
    after = common.free_elsewhere()
    report.check("1,000 turns leak no GPU memory", before - after <= 4 * MIB, before - after)
    now = gpuroom.stats(0)
    report.check("no host memory of tiers", (now.host_used, now.host_kept) == (host.host_used, host.host_kept), now)
    report.check("none of their own", own_memory() - own < 16 * MIB, own_memory() - own)
    report.check("nor descriptors", len(os.listdir("/proc/self/fd")) == files)
    report.check("and keep the contents", torch.equal(tensor, torch.arange(8 * MIB, device="cuda", dtype=torch.int32)))


def main():
    global torch
    options = common.arguments(how="run", gibibytes=4, ahead=0)
    torch = common.need("torch")
    gpuroom = allocators.package()
    if options.how == "pool":
        gpuroom.configure(host_limit="24GiB")
    torch.manual_seed(1)
    report = common.Report("torch_sleep")
    model = Model(gpuroom, options.gibibytes)
    if options.ahead:
        report.run(ahead, model, options.ahead)
        return report.finish()
    for topic in (sleeps, lazily, to_disk, verified):
        report.run(topic, model)
    report.run(many_turns, gpuroom)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
