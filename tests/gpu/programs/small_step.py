"""Step time of a small training-like loop, where the processor and not the GPU sets
the pace, so that a cost per driver call or per allocation shows. With --paced it runs
one round for each line on standard input, so that two processes can take turns."""

import json
import sys
import time

import common

torch = common.need("torch")


class Loop:
    def __init__(self, device):
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
        for _ in range(steps):
            self.step()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / steps * 1e6


def main():
    options = common.arguments(steps=2000, rounds=5, paced=0)
    if torch.cuda.device_count() <= options.device:
        common.skip(f"there is no GPU {options.device}")
    loop = Loop(torch.device("cuda", options.device))
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
