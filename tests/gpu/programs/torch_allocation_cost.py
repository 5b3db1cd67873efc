"""Microseconds to allocate and free CUDA memory through PyTorch, by size, threads and streams, with one allocator
of allocators.py. Sizes that were had before, as a training loop asks for them; the first time counts apart."""

import statistics
import sys
import threading
import time

import allocators
import common

SIZES = [4096, 256 * 1024, 4 * common.MIB, 64 * common.MIB, 256 * common.MIB]


def pairs(torch, device, size, count):
    """Microseconds for each allocation and its free."""
    start = time.perf_counter()
    for _ in range(count):
        torch.empty(size, dtype=torch.uint8, device=device)
    return (time.perf_counter() - start) / count * 1e6


def by_size(report, torch, device, chosen):
    with chosen.inside():
        for size in SIZES:
            torch.cuda.synchronize(device)
            report.figure(f"first_{size}_us", round(pairs(torch, device, size, 1), 2))
            pairs(torch, device, size, 20)
            rounds = [pairs(torch, device, size, 200) for _ in range(7)]
            report.figure(f"cached_{size}_us", round(statistics.median(rounds), 3))
    report.check("sizes", True)


def by_threads(report, torch, device, chosen):
    """Microseconds a pair in each of so many threads; PyTorch's interpreter lock is in it, for all alike."""
    for count in (1, 4, 16):
        times = []

        def work():
            with chosen.inside():
                pairs(torch, device, 1 << 20, 50)
                times.append(pairs(torch, device, 1 << 20, 1000))

        started = [threading.Thread(target=work) for _ in range(count)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
        report.figure(f"threads_{count}_us", round(statistics.median(times) / count, 3))
        report.check(f"{count} threads", len(times) == count, f"{len(times)} ended well")


def by_streams(report, torch, device, chosen):
    """A tensor made on one stream, used on another with record_stream, and freed."""
    one, two = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def hand_over(count):
        start = time.perf_counter()
        for _ in range(count):
            with torch.cuda.stream(one):
                made = torch.empty(1 << 20, dtype=torch.uint8, device=device)
            made.record_stream(two)
            del made
        return (time.perf_counter() - start) / count * 1e6

    with chosen.inside():
        hand_over(50)
        torch.cuda.synchronize(device)
        report.figure("record_stream_us", round(statistics.median(hand_over(200) for _ in range(5)), 3))
    torch.cuda.synchronize(device)
    report.check("streams", True)


def mixed(report, torch, device, chosen):
    """A trace as of a training step: a thousand requests of mixed sizes, freed in another order."""
    state = 12345
    sizes = []
    for _ in range(1000):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        sizes.append(512 << (state >> 16) % 15)  # 512 bytes to 8 MiB

    def trace():
        kept, start = [], time.perf_counter()
        for index, size in enumerate(sizes):
            kept.append(torch.empty(size, dtype=torch.uint8, device=device))
            if index % 3 == 2:
                kept.pop((index * 7) % len(kept))
        kept.clear()
        return (time.perf_counter() - start) / len(sizes) * 1e6

    with chosen.inside():
        trace()
        report.figure("mixed_us", round(statistics.median(trace() for _ in range(7)), 3))
    report.check("mixed", True)


def main():
    options = common.arguments(allocator="native")
    chosen = allocators.choose(options.allocator, options.device, hbm_limit="16GiB", host_limit="8GiB")
    torch = common.need("torch")
    if torch.cuda.device_count() <= options.device:
        common.skip(f"there is no GPU {options.device}")
    device = torch.device("cuda", options.device)
    torch.zeros(1, device=device)
    report = common.Report(f"torch_allocation_cost_{options.allocator}")
    for topic in (by_size, by_threads, by_streams, mixed):
        report.run(topic, torch, device, chosen)
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
