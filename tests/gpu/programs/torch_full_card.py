"""For --seconds: two threads launch sorts and sparse products on streams of their own, while a third allocates and frees, so
that old memory gives way and comes back. Lack of memory is passed over, wherever it comes; whatever else goes wrong is a
failed check. For a card that others keep full."""

import argparse
import random
import sys
import threading
import time

from common import MIB, Report, need

SIZE = 1024
OLD_BYTES = 512 * MIB
PAUSE = 0.05  # seconds, after a lack of memory


class Load:
    def __init__(self, torch, seconds):
        self.torch, self.end = torch, time.monotonic() + seconds
        self.wrong, self.rounds, self.lacks = [], [0, 0, 0], 0

    def going(self):
        return time.monotonic() < self.end and not self.wrong

    def insist(self, action):
        """What `action` gives, once there is memory for it; None if there is none to the end."""
        while self.going():
            try:
                return action()
            except RuntimeError as error:
                if "out of memory" not in str(error):
                    self.wrong.append(str(error).splitlines()[0])
                    return None
            self.lacks += 1
            time.sleep(PAUSE)
        return None

    def launch(self, number, weight):
        torch = self.torch

        def once():
            row = torch.ones((SIZE, SIZE), device="cuda")
            for _ in range(20):
                row = weight.mm(row)
                row.div_(float(SIZE))
            return row.sum().item()

        with torch.cuda.stream(torch.cuda.Stream()):
            while self.going():
                found = self.insist(once)
                if found is not None and found != SIZE * SIZE:
                    self.wrong.append(f"a sum is {found}")
                self.rounds[number] += 1

    def churn(self, old):
        torch = self.torch

        def once():
            sizes = [random.choice((32, 64, 96)) * MIB for _ in range(random.randint(3, 9))]
            fresh = [torch.full((size,), 7.0, device="cuda") for size in sizes]
            right = all(bool((tensor == 7).all()) for tensor in fresh)
            return right and all(bool((tensor == number).all()) for number, tensor in enumerate(old))

        with torch.cuda.stream(torch.cuda.Stream()):
            while self.going():
                if self.insist(once) is False:
                    self.wrong.append("a tensor has other contents")
                torch.cuda.empty_cache()
                self.rounds[2] += 1

    def run(self):
        torch = self.torch
        places = self.insist(lambda: torch.cartesian_prod(*[torch.arange(SIZE, device="cuda")] * 2).t())
        weight = self.insist(lambda: torch.sparse_coo_tensor(places, torch.ones(SIZE * SIZE, device="cuda")))
        old = [self.insist(lambda number=number: torch.full((OLD_BYTES // 4,), float(number), device="cuda"))
               for number in range(3)]
        if weight is None or any(tensor is None for tensor in old):
            return
        torch.cuda.synchronize()
        threads = [threading.Thread(target=self.launch, args=(number, weight)) for number in (0, 1)]
        threads.append(threading.Thread(target=self.churn, args=(old,)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    seconds = parser.parse_args().seconds
    torch = need("torch")
    report = Report("torch_full_card")
    load = Load(torch, seconds)
    load.run()
    report.figure("rounds", load.rounds)
    report.figure("lacks_of_memory", load.lacks)
    report.check("nothing but lack of memory", not load.wrong, load.wrong[:2])
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
