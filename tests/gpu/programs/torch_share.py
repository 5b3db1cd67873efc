"""Stock PyTorch passes CUDA tensors between two processes and back: one small enough
for the driver's own allocator, one larger, and one that lies in host memory."""

import sys

import common

torch = common.need("torch")
PATIENCE = 120  # seconds that one process waits for the other


def pattern(count, seed, device):
    return torch.arange(seed, seed + count, dtype=torch.int32, device=device)


def wrong(tensor, seed, step=16 * common.MIB):
    """Elements that differ from pattern(seed), compared piece by piece to save memory."""
    bad = 0
    for start in range(0, tensor.numel(), step):
        part = tensor[start : start + step]
        bad += int((part != pattern(part.numel(), seed + start, tensor.device)).sum())
    return bad


def host_bytes(tensor):
    place = common.describe(tensor.data_ptr())
    return 0 if place is None else place.host_bytes


def serve(inbox, outbox, device):
    """The other process: checks what comes, changes it where it lies, and sends tensors of its own."""
    torch.cuda.set_device(device)
    while True:
        item = inbox.get(timeout=PATIENCE)
        if item is None:
            return
        tensor, seed = item
        bad = wrong(tensor, seed)
        host = host_bytes(tensor)
        tensor += 1
        mine = tensor[: 8 * common.MIB].clone()  # 32 MiB at most; what was received may not be sent on
        mine += 1
        torch.cuda.synchronize()
        outbox.put((bad, host, mine, seed + 2))
        del tensor, item
        # The sender looks at `mine`, changes it, and says so.
        answer = inbox.get(timeout=PATIENCE)
        outbox.put(wrong(mine, answer))
        del mine
        torch.cuda.ipc_collect()


def refill(tensor, seed, step=16 * common.MIB):
    """Writes pattern(seed), piece by piece."""
    for start in range(0, tensor.numel(), step):
        part = tensor[start : start + step]
        part.copy_(pattern(part.numel(), seed + start, tensor.device))


def there_and_back(report, name, tensor, seed, inbox, outbox):
    refill(tensor, seed)
    torch.cuda.synchronize()
    inbox.put((tensor, seed))
    bad, host, received, received_seed = outbox.get(timeout=PATIENCE)
    report.figure(f"{name}_host_bytes", host_bytes(tensor))
    report.check(f"{name}: the other process reads it", bad == 0, f"{bad} wrong elements")
    report.check(f"{name}: it lies there as here", host == host_bytes(tensor), f"{host} and {host_bytes(tensor)}")
    bad = wrong(tensor, seed + 1)
    report.check(f"{name}: its changes are seen here", bad == 0, f"{bad} wrong elements")
    bad = wrong(received, received_seed)
    report.check(f"{name}: a tensor comes back", bad == 0, f"{bad} wrong elements")
    received += 1
    torch.cuda.synchronize()
    del received
    inbox.put(received_seed + 1)
    bad = outbox.get(timeout=PATIENCE)
    report.check(f"{name}: changes made here are seen there", bad == 0, f"{bad} wrong elements")


def most_spilled(options, device):
    """Fills the memory and returns the tensor with most of its bytes on the host."""
    row = [torch.zeros(options.piece // 4, dtype=torch.int32, device=device) for _ in range(options.pieces)]
    chosen = max(row, key=host_bytes)
    del row
    torch.cuda.synchronize()
    return chosen


def main():
    options = common.arguments()
    if not torch.cuda.is_available():
        common.skip("needs a GPU")
    report = common.Report("torch_share")
    device = torch.device("cuda", options.device)
    processes = torch.multiprocessing.get_context("spawn")
    inbox, outbox = processes.Queue(), processes.Queue()
    other = processes.Process(target=serve, args=(inbox, outbox, options.device))
    other.start()
    small = torch.empty(12 * common.MIB // 4, dtype=torch.int32, device=device)
    large = torch.empty(64 * common.MIB // 4, dtype=torch.int32, device=device)
    spilled = most_spilled(options, device)
    if common.describe(large.data_ptr()) is not None:  # gpuroom is there
        report.check("the small one is the driver's own", common.describe(small.data_ptr()) is None)
        report.check("one lies on the host", host_bytes(spilled) > 0)
    for name, tensor, seed in (("small", small, 1), ("large", large, 1000), ("spilled", spilled, 5000)):
        report.run(there_and_back, name, tensor, seed, inbox, outbox)
    inbox.put(None)
    other.join(PATIENCE)
    report.check("the other process ends well", other.exitcode == 0, f"exit code {other.exitcode}")
    if other.is_alive():
        other.kill()
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
