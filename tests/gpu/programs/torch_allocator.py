"""PyTorch with gpuroom as its allocator, without `gpuroom run`: global (`--allocator gpuroom_use`), behind a pool
(`gpuroom_pool`), or managed (`gpuroom_managed`). Tensors beyond HBM, streams, CUDA graphs, torch.compile, backward,
threads, empty_cache and lack of memory. Each topic is one check or more."""

import gc
import sys
import threading

import allocators
import common

torch = None  # imported when the allocator has been chosen
MIB = common.MIB
COUNT = 8 * 1024 * 1024


def pattern(seed, count, device):
    return torch.arange(seed, seed + count, dtype=torch.int32, device=device)


def tensors(report, modes):
    """More than HBM may hold: all is right, and some of it lies on the host."""
    with modes.inside():
        row = [pattern(i, 64 * MIB, modes.device) for i in range(modes.pieces)]
    wrong = 0
    for index, tensor in enumerate(row):
        for start in range(0, tensor.numel(), COUNT):
            wrong += int((tensor[start : start + COUNT] != pattern(index + start, COUNT, modes.device)).sum())
    report.check("more than HBM", wrong == 0, f"{wrong} wrong elements")
    if not modes.managed:  # else the driver places it
        placed = sum(host_bytes(modes, tensor) for tensor in row)
        report.figure("host_bytes", placed)
        report.check("some of it lies on the host", placed > 0, placed)


def host_bytes(modes, tensor):
    try:
        return modes.gpuroom.describe(tensor).host_bytes
    except modes.gpuroom.NotFound:
        return 0


def streams(report, modes):
    """Two streams hand tensors on; record_stream keeps what is freed early from being given out again."""
    one, two = torch.cuda.Stream(modes.device), torch.cuda.Stream(modes.device)
    bad = torch.zeros((), dtype=torch.int64, device=modes.device)
    for turn in range(50):
        with modes.inside():
            with torch.cuda.stream(one):
                made = pattern(turn, COUNT, modes.device)
            two.wait_stream(one)
            with torch.cuda.stream(two):
                torch.cuda._sleep(2_000_000)
                taken = made + 1
                made.record_stream(two)
            del made
            with torch.cuda.stream(one):
                torch.full((COUNT,), -7, dtype=torch.int32, device=modes.device)  # would overwrite it
            with torch.cuda.stream(two):
                bad += (taken != pattern(turn + 1, COUNT, modes.device)).sum()
            del taken
    torch.cuda.synchronize(modes.device)
    report.check("streams with record_stream", int(bad) == 0, f"{int(bad)} wrong elements")


def graphs(report, modes):
    """Capture and replay, with allocations inside the capture."""
    with modes.inside():
        x = torch.randn(1024, 1024, device=modes.device)
        weight = torch.randn(1024, 1024, device=modes.device)
    side = torch.cuda.Stream(modes.device)
    side.wait_stream(torch.cuda.current_stream(modes.device))
    with torch.cuda.stream(side):
        torch.relu(x @ weight)
    torch.cuda.current_stream(modes.device).wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        hidden = torch.relu(x @ weight)
        out = (hidden * 2).sum(dim=1)
    for seed in range(4):
        x.copy_(torch.randn(1024, 1024, generator=torch.Generator().manual_seed(seed)))
        noise = [torch.empty(1 << 20, device=modes.device).fill_(seed) for _ in range(8)]
        captured.replay()
        expected = (torch.relu(x @ weight) * 2).sum(dim=1)
        report.check(f"graph replay {seed}", torch.equal(out, expected), "other values")
        del noise
    del captured


def compiled(report, modes):
    """torch.compile with CUDA graphs. PyTorch's graph trees ask its own allocator for checkpoints, which no global
    pluggable allocator can answer: there they have to say so, and CUDA graphs without trees have to work."""
    try:
        import triton  # noqa: F401
    except ImportError as error:
        report.figure("compiled", f"not tried: {error}")
        return
    import torch._inductor.config as inductor

    if modes.name == "use":
        try:
            compiled_in(report, modes, "reduce-overhead")
            report.figure("graph_trees", "work")
        except RuntimeError as error:
            report.figure("graph_trees", f"{error}"[:200])
            report.check("graph trees name their reason", "pluggable does not yet support" in str(error), error)
        inductor.triton.cudagraph_trees = False
    compiled_in(report, modes, "default")
    compiled_in(report, modes, "reduce-overhead")


def compiled_in(report, modes, mode):
    torch._dynamo.reset()

    @torch.compile(mode=mode)
    def step(x, weight):
        return torch.relu(x @ weight).mean(dim=1)

    with modes.inside():
        weight = torch.randn(512, 512, device=modes.device)
    for seed in range(5):
        x = torch.randn(512, 512, device=modes.device)
        torch.compiler.cudagraph_mark_step_begin()
        with torch.no_grad():
            got = step(x, weight).clone()
        expected = torch.relu(x @ weight).mean(dim=1)
        report.check(f"compiled {mode} {seed}", torch.allclose(got, expected, rtol=1e-3, atol=1e-3), "other values")


def backward(report, modes):
    """Forward and backward inside a block: gradients come from autograd's threads, wherever they lie."""
    torch.manual_seed(0)
    with modes.inside():
        model = torch.nn.Sequential(*[torch.nn.Linear(512, 512) for _ in range(4)]).to(modes.device)
        x = torch.randn(64, 512, device=modes.device)
        model(x).square().mean().backward()
        grads = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    model(x).square().mean().backward()
    same = all(torch.equal(a, p.grad) for a, p in zip(grads, model.parameters()))
    report.check("backward in a block", same, "other gradients")


def threads(report, modes):
    """Allocation in several threads at once."""
    failures = []

    def work(number):
        try:
            for turn in range(20):
                with modes.inside():
                    mine = pattern(number * 1000 + turn, COUNT // 4, modes.device)
                    if int((mine != pattern(number * 1000 + turn, COUNT // 4, modes.device)).sum()):
                        failures.append(f"thread {number}, turn {turn}: wrong values")
        except Exception as error:
            failures.append(f"thread {number}: {error}")

    started = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    report.check("threads", not failures, "; ".join(failures)[:300])


def empty_cache(report, modes):
    gc.collect()
    torch.cuda.synchronize(modes.device)
    if modes.name == "use":
        before = modes.gpuroom.stats(modes.device).pool_reserved
        torch.cuda.empty_cache()
        stats = modes.gpuroom.stats(modes.device)
        report.figure("reserved_before", before)
        report.figure("reserved_after", stats.pool_reserved)
        report.check("empty_cache", stats.pool_reserved <= before and stats.pool_reserved < 256 * MIB, stats)
    else:
        used = modes.gpuroom.stats(modes.device)
        modes.inside().release()
        after = modes.gpuroom.stats(modes.device)
        report.check("release", after.device_used + after.host_used <= used.device_used + used.host_used, after)


def out_of_memory(report, modes):
    """A clean exception, and the next request works."""
    kept = []
    try:
        with modes.inside():
            for _ in range(1000):
                kept.append(torch.empty(256 * MIB, dtype=torch.uint8, device=modes.device))
        report.check("out of memory", False, f"{len(kept)} times 256 MiB and no end")
    except torch.cuda.OutOfMemoryError as error:
        report.check("out of memory", True, "torch.OutOfMemoryError")
        report.figure("out_of_memory", f"OutOfMemoryError: {error}"[:200])
    except RuntimeError as error:
        report.check("out of memory", modes.name == "use" and "out of memory" in str(error), error)
        report.figure("out_of_memory", f"{type(error).__name__}: {error}"[:200])
    whole = sum(tensor.data_ptr() == 0 for tensor in kept)
    report.check("no null tensor", whole == 0, whole)
    count = len(kept)
    kept.clear()
    with modes.inside():
        again = torch.full((COUNT,), 3, dtype=torch.int32, device=modes.device)
    report.check("works afterwards", int(again.sum()) == 3 * COUNT, f"after {count} pieces")


def statistics_of(report, modes):
    stats = modes.gpuroom.stats(modes.device)
    report.check("statistics", stats.allocations > 0 and (modes.name != "use" or stats.pool_allocations > 0), stats)
    if modes.name == "use":
        report.check("pool allocations balance", stats.pool_frees <= stats.pool_allocations, stats)


class Modes:
    """How this run allocates: inside() is entered around what is to be gpuroom's."""

    def __init__(self, options, chosen):
        self.gpuroom, self.inside = chosen.gpuroom, chosen.inside
        self.device = torch.device("cuda", options.device)
        self.name = "pool" if chosen.name == "gpuroom_pool" else "use"
        self.managed = chosen.name == "gpuroom_managed"
        self.pieces = 5 if self.managed else 40  # of 256 MiB: 10 GiB where 6 are HBM


def main():
    global torch
    options = common.arguments(allocator="gpuroom_pool", only="")
    if not options.allocator.startswith("gpuroom_"):
        sys.exit(f"--allocator is '{options.allocator}'; use gpuroom_use, gpuroom_pool or gpuroom_managed")
    chosen = allocators.choose(options.allocator, options.device, hbm_limit="6GiB", host_limit="8GiB")
    torch = common.need("torch")
    if torch.cuda.device_count() <= options.device:
        common.skip(f"there is no GPU {options.device}")
    modes = Modes(options, chosen)
    report = common.Report(f"torch_allocator_{options.allocator}")
    topics = [tensors, streams, graphs, backward, threads, compiled, statistics_of, empty_cache, out_of_memory]
    names = [name for name in options.only.split(",") if name]
    for topic in topics:
        if not names or topic.__name__ in names:
            report.run(topic, modes)
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
