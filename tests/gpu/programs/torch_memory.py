"""Stock PyTorch with more tensors than the GPU is said to hold: fills, verifies,
multiplies, clones, copies, captures, runs out of memory and gives all back."""

import gc
import os
import subprocess
import sys
import threading

import common

torch = common.need("torch")
STEP = 16 * 1024 * 1024  # elements compared at once, so that checking takes little memory


def fill(tensor, seed):
    torch.arange(seed, seed + tensor.numel(), dtype=torch.int32, out=tensor)


def wrong(tensor, seed, added=0):
    """Elements that differ from what fill(seed) wrote, plus `added`."""
    bad = torch.zeros((), dtype=torch.int64, device=tensor.device)
    for start in range(0, tensor.numel(), STEP):
        part = tensor[start : start + STEP]
        first = seed + start + added
        expected = torch.arange(first, first + part.numel(), dtype=torch.int32, device=tensor.device)
        bad += (part != expected).sum()
    return int(bad.item())


class Tensors:
    """The row of tensors all topics work on, and which of them lie in host memory."""

    def __init__(self, options):
        self.options = options
        self.device = torch.device("cuda", options.device)
        self.row = []
        self.spilled = []

    def seed(self, index):
        return 1000 * index + 7

    def wrong(self):
        return sum(wrong(tensor, self.seed(i)) for i, tensor in enumerate(self.row))

    def one_spilled(self):
        """Index of a tensor that lies in host memory, or of the first."""
        return self.spilled[0] if self.spilled else 0


def visible_memory(report, t):
    free, total = torch.cuda.mem_get_info(t.device)
    properties = torch.cuda.get_device_properties(t.device)
    report.figure("mem_get_info_free", free)
    report.figure("mem_get_info_total", total)
    report.check("total_memory agrees", properties.total_memory == total, f"{properties.total_memory} and {total}")
    if t.options.expect_total:
        report.check("total", total == t.options.expect_total, f"{total}, expected {t.options.expect_total}")
    bus_id = f"{properties.pci_domain_id:08x}:{properties.pci_bus_id:02x}:{properties.pci_device_id:02x}.0"
    totals = common.nvml_totals(bus_id)
    if totals is None:
        report.figure("nvml", "pynvml is missing")
    else:
        report.check("NVML agrees", totals[0] == total, f"{totals[0]} and {total}")
        report.check("NVML v2 agrees", totals[1] == total, f"{totals[1]} and {total}")


def fill_and_verify(report, t):
    before = torch.cuda.memory_allocated(t.device)
    for index in range(t.options.pieces):
        t.row.append(torch.empty(t.options.piece // 4, dtype=torch.int32, device=t.device))
        fill(t.row[-1], t.seed(index))
    allocated = torch.cuda.memory_allocated(t.device) - before
    expected = t.options.pieces * t.options.piece
    report.check("memory_allocated", allocated == expected, f"{allocated}, expected {expected}")
    bad = t.wrong()
    report.check("values", bad == 0, f"{bad} wrong elements")


def read_speed(tensor):
    """Best GB/s of three sums over the tensor."""
    words = tensor.view(torch.float32)
    best = 0.0
    for _ in range(3):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        words.sum()
        end.record()
        end.synchronize()
        best = max(best, tensor.numel() * 4 / (start.elapsed_time(end) / 1e3) / 1e9)
    return best


def placement_and_speed(report, t):
    """Which tensors spilled, by gpuroom_describe or, where the program mapped its
    memory itself (expandable segments), by their speed."""
    speeds = [read_speed(tensor) for tensor in t.row]
    places = [common.describe(tensor.data_ptr()) for tensor in t.row]
    known = [place for place in places if place is not None]
    report.figure("speeds_GBps", [round(speed, 1) for speed in speeds])
    report.figure("described", len(known))
    if not t.options.expect_total:
        return  # no limit: nothing has to spill
    if len(known) == len(t.row):
        shares = [place.host_bytes / place.bytes for place in places]
        report.figure("host_shares", [round(share, 3) for share in shares])
        t.spilled = [i for i, share in enumerate(shares) if share > 0.999]
    else:
        t.spilled = [i for i, speed in enumerate(speeds) if speed < 60]
    if not report.check("some tensor is wholly spilled", t.spilled, f"speeds {speeds}"):
        return
    chosen = sorted(speeds[i] for i in t.spilled)
    median = chosen[len(chosen) // 2]
    report.figure("spilled_tensors", len(t.spilled))
    report.figure("spilled_read_GBps", round(median, 2))
    report.check("spilled read speed", median >= t.options.minimum_speed, f"{median:.2f} GB/s")
    resident = [speed for i, speed in enumerate(speeds) if i not in t.spilled]
    report.figure("resident_read_GBps", round(max(resident), 1) if resident else None)


def matmul(report, t):
    index = t.one_spilled()
    size = 2048
    left = t.row[index].view(torch.float32)[: size * size].view(size, size)
    generator = torch.Generator(device=t.device).manual_seed(3)
    left.normal_(generator=generator)
    right = torch.randn(size, size, device=t.device, generator=generator)
    product = (left @ right).cpu().double()
    reference = left.cpu().double() @ right.cpu().double()
    error = float((product - reference).abs().max() / reference.abs().max())
    report.figure("matmul_relative_error", error)
    report.check("matmul", error < 1e-4, f"relative error {error}")
    fill(t.row[index], t.seed(index))


def clone_and_copies(report, t):
    index = t.one_spilled()
    tensor, seed = t.row[index], t.seed(index)
    copy = tensor.clone()
    report.check("clone", wrong(copy, seed) == 0, "wrong elements")
    del copy
    host = tensor.cpu()
    expected = torch.arange(seed, seed + tensor.numel(), dtype=torch.int32)
    report.check("copy to host", torch.equal(host, expected), "wrong elements")
    host += 5
    tensor.copy_(host)
    report.check("copy from host", wrong(tensor, seed, 5) == 0, "wrong elements")
    pinned = torch.arange(seed, seed + STEP, dtype=torch.int32).pin_memory()
    tensor[:STEP].copy_(pinned, non_blocking=True)
    torch.cuda.synchronize(t.device)
    report.check("copy from pinned memory", wrong(tensor[:STEP], seed) == 0, "wrong elements")
    back = torch.empty_like(pinned, pin_memory=True)
    back.copy_(tensor[:STEP], non_blocking=True)
    torch.cuda.synchronize(t.device)
    report.check("copy to pinned memory", torch.equal(back, pinned), "wrong elements")
    fill(tensor, seed)


def graph(report, t):
    """Captures work on a spilled tensor, with a large allocation inside the capture."""
    index = t.one_spilled()
    tensor, seed = t.row[index], t.seed(index)
    side = torch.cuda.Stream(t.device)
    side.wait_stream(torch.cuda.current_stream(t.device))
    with torch.cuda.stream(side):
        tensor.add_(1)
    torch.cuda.current_stream(t.device).wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        tensor.add_(1)
        doubled = tensor[:STEP] * 2
    for _ in range(3):
        captured.replay()
    torch.cuda.synchronize(t.device)
    report.check("graph on a spilled tensor", wrong(tensor, seed, 4) == 0, "wrong elements after the replays")
    report.check("graph's own tensor", torch.equal(doubled, tensor[:STEP] * 2), "wrong elements")
    del captured, doubled
    fill(tensor, seed)


def streams(report, t):
    """Two streams hand tensors to one another; the second frees what the first made."""
    one, two = torch.cuda.Stream(t.device), torch.cuda.Stream(t.device)
    bad = 0
    for turn in range(4):
        with torch.cuda.stream(one):
            made = torch.empty(STEP * 2, dtype=torch.int32, device=t.device)
            fill(made, turn)
        two.wait_stream(one)
        with torch.cuda.stream(two):
            taken = made + 1
            made.record_stream(two)
            del made
            bad += wrong(taken, turn, 1)
            del taken
    torch.cuda.synchronize(t.device)
    report.check("streams", bad == 0, f"{bad} wrong elements")


def threads(report, t):
    failures = []

    def work(number):
        try:
            torch.cuda.set_device(t.device)
            with torch.cuda.stream(torch.cuda.Stream(t.device)):
                for turn in range(4):
                    tensor = torch.empty(4 * STEP, dtype=torch.int32, device=t.device)
                    fill(tensor, 100 * number + turn)
                    if wrong(tensor, 100 * number + turn):
                        failures.append(f"thread {number} read wrong elements")
                    del tensor
                    if turn == 1:
                        torch.cuda.empty_cache()
        except Exception as error:
            failures.append(f"thread {number}: {type(error).__name__}: {error}")

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    report.check("threads", not failures, "; ".join(failures)[:300])


def children(report, t):
    """A fork that only exits, and a child program that asks the driver itself."""
    process = os.fork()
    if process == 0:
        os._exit(5)
    _, status = os.waitpid(process, 0)
    report.check("fork", os.waitstatus_to_exitcode(status) == 5, f"status {status}")
    child = os.path.join(os.path.dirname(os.path.abspath(__file__)), "driver_ctypes.py")
    command = [sys.executable, child, "--pieces", "0", "--device", str(t.options.device)]
    command += ["--expect-total", str(t.options.expect_total)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    report.check("child program", done.returncode == 0, (done.stdout + done.stderr)[-300:])


def out_of_memory(report, t):
    for bytes_wanted in (2 * torch.cuda.mem_get_info(t.device)[1], 1 << 42):
        try:
            torch.empty(bytes_wanted, dtype=torch.uint8, device=t.device)
            report.check("over-large request", False, f"{bytes_wanted} bytes were given")
        except torch.OutOfMemoryError:
            report.check("over-large request", True)
    more = []
    try:
        while len(more) < 1000:
            more.append(torch.empty(t.options.piece // 4, dtype=torch.int32, device=t.device))
            more[-1].fill_(len(more))
    except torch.OutOfMemoryError:
        pass
    right = all(int(tensor[-1].item()) == i + 1 for i, tensor in enumerate(more))
    report.figure("pieces_until_out_of_memory", len(t.row) + len(more))
    report.check("filled up", right and 0 < len(more) < 1000, f"{len(more)} more tensors")
    if t.options.expect_total:  # all but what contexts and the cache's rounding take
        least = (t.options.expect_total - 2 * common.GIB) // t.options.piece
        report.check("pool is usable", len(t.row) + len(more) >= least, f"{len(t.row) + len(more)} of {least}")
    more.clear()
    torch.cuda.empty_cache()
    bad = t.wrong()
    report.check("goes on", bad == 0, f"{bad} wrong elements after running out of memory")


def memory_back(report, t, free_before):
    t.row.clear()
    gc.collect()
    torch.cuda.synchronize(t.device)
    if hasattr(torch._C, "_cuda_clearCublasWorkspaces"):
        torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    free_after, _ = torch.cuda.mem_get_info(t.device)
    report.figure("free_lost_bytes", free_before - free_after)
    # Kernels that were loaded since (cuBLAS, reductions) stay; a tensor would be 512 MiB.
    report.check("memory back", free_after >= free_before - 128 * common.MIB, f"{free_before} before, {free_after} after")
    report.check("nothing allocated", torch.cuda.memory_allocated(t.device) == 0, torch.cuda.memory_allocated(t.device))


def main():
    options = common.arguments(minimum_speed=0.0)
    if torch.cuda.device_count() <= options.device:
        common.skip(f"there is no GPU {options.device}")
    torch.cuda.set_device(options.device)
    report = common.Report("torch_memory")
    t = Tensors(options)
    report.run(visible_memory, t)
    warm = torch.ones(64, 64, device=t.device)
    (warm @ warm).sum().item()
    del warm
    torch.cuda.empty_cache()
    free_before, _ = torch.cuda.mem_get_info(t.device)
    for topic in (fill_and_verify, placement_and_speed, matmul, clone_and_copies, graph, streams, threads, children,
                  out_of_memory):
        report.run(topic, t)
    report.run(memory_back, t, free_before)
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
