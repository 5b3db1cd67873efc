"""A hot loop that starts when the GPU's memory is already full of cold tensors: how
long a turn takes on the empty GPU before them and in a second set of tensors after
them. Then every cold tensor is read and has to hold what was put there."""

import statistics
import sys
import time

import common

torch = common.need("torch")
STEP = 16 * 1024 * 1024  # elements compared at once, so that checking takes little memory


def fill(tensor, seed):
    torch.arange(seed, seed + tensor.numel(), dtype=torch.int32, out=tensor)


def wrong(tensor, seed):
    """Elements that differ from what fill(seed) wrote."""
    bad = torch.zeros((), dtype=torch.int64, device=tensor.device)
    for start in range(0, tensor.numel(), STEP):
        part = tensor[start : start + STEP]
        first = seed + start
        bad += (part != torch.arange(first, first + part.numel(), dtype=torch.int32, device=tensor.device)).sum()
    return int(bad.item())


class HotSet:
    """Tensors that are all read and written every turn: elementwise work and products."""

    def __init__(self, options, device):
        count = options.hot_piece // 4
        self.tensors = [torch.full((count,), 1.0 / (i + 1), device=device) for i in range(options.hot_pieces)]
        self.side = min(4096, int(count**0.5) // 64 * 64)

    def square(self, index):
        return self.tensors[index][: self.side * self.side].view(self.side, self.side)

    def turn(self):
        for tensor in self.tensors:
            tensor.mul_(0.999).add_(0.001)
        for index in range(0, len(self.tensors) - 2, 3):
            torch.mm(self.square(index), self.square(index + 1), out=self.square(index + 2))
            self.square(index + 2).mul_(1.0 / self.side)

    def place(self):
        return common.bytes_by_tier([(t.data_ptr(), t.numel() * t.element_size()) for t in self.tensors])

    def sums(self):
        return [float(tensor.double().sum()) for tensor in self.tensors]


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(report, name, options, device):
    """The loop's time a turn; returns the set, whose memory stays taken."""
    hot = HotSet(options, device)
    for _ in range(options.warm_up):
        hot.turn()
    synchronize(device)
    times = []
    for _ in range(options.rounds):
        start = time.perf_counter()
        for _ in range(options.turns):
            hot.turn()
        synchronize(device)
        times.append((time.perf_counter() - start) / options.turns * 1e3)
    report.figure(f"{name}_ms", round(statistics.median(times), 4))
    report.figure(f"{name}_rounds_ms", [round(value, 4) for value in times])
    for tier, size in hot.place().items():
        report.figure(f"{name}_{tier}_bytes", size)
    return hot


def late_hot(report, options, device):
    hot = measure(report, "empty", options, device)
    expected = hot.sums()
    del hot
    if device.type == "cuda":
        torch.cuda.empty_cache()
    cold = []
    start = time.perf_counter()
    for index in range(options.pieces):
        cold.append(torch.empty(options.piece // 4, dtype=torch.int32, device=device))
        fill(cold[-1], 1000 * index + 7)
    synchronize(device)
    report.figure("fill_seconds", round(time.perf_counter() - start, 3))
    report.figure("cold_bytes", options.pieces * options.piece)
    for tier, size in common.bytes_by_tier([(t.data_ptr(), options.piece) for t in cold]).items():
        report.figure(f"cold_before_{tier}_bytes", size)
    hot = measure(report, "late", options, device)
    report.check("hot set", hot.sums() == expected, f"{hot.sums()} after, {expected} before")
    for tier, size in common.bytes_by_tier([(t.data_ptr(), options.piece) for t in cold]).items():
        report.figure(f"cold_{tier}_bytes", size)
    report.figure("ratio", round(report.figures["late_ms"] / report.figures["empty_ms"], 4))
    bad = sum(wrong(tensor, 1000 * index + 7) for index, tensor in enumerate(cold))
    report.check("cold tensors", bad == 0, f"{bad} wrong elements")


def main():
    options = common.arguments(pieces=20, hot_piece=128 * common.MIB, hot_pieces=8, warm_up=20, turns=50, rounds=7,
                               cpu=0)
    if not options.cpu and torch.cuda.device_count() <= options.device:
        common.skip(f"there is no GPU {options.device}")
    torch.backends.cuda.matmul.allow_tf32 = True  # or arithmetic would hide the memory's speed
    device = torch.device("cpu") if options.cpu else torch.device("cuda", options.device)
    report = common.Report("late_hot")
    report.run(late_hot, options, device)
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
