"""Step time of a small training-like loop, where the processor and not the GPU sets
the pace, so that a cost per driver call or per allocation shows. With --paced it runs
one round for each line on standard input, so that two processes can take turns. --allocator chooses another
allocator than PyTorch's own (allocators.py)."""

import json
import sys
import time

import allocators
import common

torch = None  # imported when the allocator has been chosen


class Loop:
    def __init__(self, device, inside):
        self.inside = inside
        with inside():
            self.make(device)

    def make(self, device):
        torch.manual_seed(0)
        self.weight = torch.randn(1024, 1024, device=device, requires_grad=True)
        self.input = torch.randn(1024, 1024, device=device)

    def step(self):
        loss = torch.relu(self.input @ self.weight).mean()
        loss.backward()
        with torch.no_grad():
            self.weight -= 1e-3 * self.weight.grad
        self.weight.grad = None

    def round(self, steps):
        """Microseconds a step."""
        torch.cuda.synchronize()
        start = time.perf_counter()
        with self.inside():
            for _ in range(steps):
                self.step()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / steps * 1e6


def main():
    global torch
    options = common.arguments(steps=2000, rounds=5, paced=0, allocator="native")
    chosen = allocators.choose(options.allocator, options.device, hbm_limit="16GiB", host_limit="8GiB")
    torch = common.need("torch")
    if torch.cuda.device_count() <= options.device:
        common.skip(f"there is no GPU {options.device}")
    loop = Loop(torch.device("cuda", options.device), chosen.inside)
    loop.round(500)
    if options.paced:
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            if line.strip() == "quit":
                return
            print(json.dumps({"us": loop.round(options.steps)}), flush=True)
        return
    report = common.Report("small_step")
    rounds = sorted(loop.round(options.steps) for _ in range(options.rounds))
    report.figure("step_us", rounds[len(rounds) // 2])
    report.check("ran", rounds[0] > 0)
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
