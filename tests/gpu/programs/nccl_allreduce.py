"""NCCL over two GPUs on spilled tensors: starts one process a GPU, each takes more
than the GPU is said to hold, and all_reduce and all_gather over the spilled ones
have to give the right sums."""

import json
import os
import socket
import subprocess
import sys
import time

import common

torch = common.need("torch")


def one_spilled(row):
    """A tensor in host memory: by gpuroom_describe, else the slowest to read."""
    places = [common.describe(tensor.data_ptr()) for tensor in row]
    if all(place is not None for place in places):
        return max(range(len(row)), key=lambda i: places[i].host_bytes / places[i].bytes)
    times = []
    for tensor in row:
        torch.cuda.synchronize()
        start = time.perf_counter()
        tensor.sum()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return max(range(len(row)), key=lambda i: times[i])


def timed_all_reduce(distributed, tensor):
    """GB/s of the data's size, the median of five."""
    speeds = []
    for _ in range(5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        distributed.all_reduce(tensor)
        torch.cuda.synchronize()
        speeds.append(tensor.numel() * 4 / (time.perf_counter() - start) / 1e9)
    return sorted(speeds)[2]


def collectives(report, options, rank, size):
    import torch.distributed as distributed

    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    distributed.init_process_group("nccl", device_id=device)
    row = [torch.full((options.piece // 4,), float(i), device=device) for i in range(options.pieces)]
    for index, name in ((one_spilled(row), "spilled"), (None, "small")):
        tensor = torch.empty(1 << 20, device=device) if index is None else row[index][: 64 << 20]
        place = common.describe(tensor.data_ptr())
        report.figure(f"{name}_host_share", None if place is None else round(place.host_bytes / place.bytes, 3))
        tensor.copy_(torch.arange(tensor.numel(), device=device) % 1024 + rank)
        distributed.all_reduce(tensor)
        expected = (torch.arange(tensor.numel(), device=device) % 1024) * size + size * (size - 1) // 2
        bad = int((tensor != expected).sum())
        report.check(f"all_reduce {name}", bad == 0, f"{bad} wrong elements")
        parts = torch.empty(size * (1 << 20), device=device)
        tensor[: 1 << 20].fill_(rank + 1)
        distributed.all_gather_into_tensor(parts, tensor[: 1 << 20])
        right = all(bool((parts[r << 20 : (r + 1) << 20] == r + 1).all()) for r in range(size))
        report.check(f"all_gather {name}", right, "wrong elements")
        tensor.zero_()
        report.figure(f"{name}_all_reduce_GBps", round(timed_all_reduce(distributed, tensor), 2))
    others = [i for i in range(len(row)) if i != one_spilled(row)]
    bad = sum(int((row[i] != float(i)).sum()) for i in others)
    report.check("other tensors", bad == 0, f"{bad} wrong elements")
    distributed.destroy_process_group()


def rank_main(options):
    report = common.Report("nccl_allreduce")
    report.run(collectives, options, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    return report.finish()


def main():
    options = common.arguments(pieces=15, ranks=2)
    if "RANK" in os.environ:
        sys.exit(rank_main(options))
    if torch.cuda.device_count() < options.ranks:
        common.skip(f"there are {torch.cuda.device_count()} GPUs and this needs {options.ranks}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(options.ranks)}
    children = []
    for rank in range(options.ranks):
        environment = {**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        children.append(subprocess.Popen([sys.executable, *sys.argv], env=environment, stdout=subprocess.PIPE, text=True))
    report = common.Report("nccl_allreduce")
    for rank, child in enumerate(children):
        text, _ = child.communicate(timeout=150)
        lines = [line for line in text.splitlines() if line.startswith("{")]
        report.check(f"rank {rank} ends well", child.returncode == 0 and lines, f"status {child.returncode}")
        answer = json.loads(lines[-1]) if lines else {"checks": [], "figures": {}}
        for check in answer["checks"]:
            report.check(f"rank {rank}: {check['name']}", check["ok"], check["detail"])
        for name, value in answer["figures"].items():
            report.figure(f"rank{rank}_{name}", value)
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
