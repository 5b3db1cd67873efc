"""Copies from pinned host memory to one GPU over one link, and over its own and another GPU's at once: what goes over the other
GPU's link is passed on from there, GPU to GPU, slice by slice. GB/s, the medians of several turns."""

import statistics
import sys

from common import GIB, MIB, Report, need, skip

BYTES = 4 * GIB  # of each copy
SLICE = 64 * MIB
TURNS = 5


class Links:
    def __init__(self, torch):
        self.torch = torch
        self.host = torch.empty(BYTES, dtype=torch.uint8, pin_memory=True)
        self.host.view(torch.int64).copy_(torch.arange(BYTES // 8))
        self.target = [torch.zeros(BYTES, dtype=torch.uint8, device=f"cuda:{number}") for number in (0, 1)]
        self.passing = [torch.empty(SLICE, dtype=torch.uint8, device="cuda:1") for _ in range(4)]
        self.streams = [torch.cuda.Stream(number) for number in (0, 1)]
        self.onward = torch.cuda.Stream(1)

    def straight(self, number, first, last):
        """Host bytes from `first` to `last`, to the same place on GPU `number`, over its own link."""
        with self.torch.cuda.stream(self.streams[number]):
            self.target[number][first:last].copy_(self.host[first:last], non_blocking=True)

    def round_about(self, first, last):
        """The same to GPU 0 over the link of GPU 1."""
        torch = self.torch
        free = [None] * len(self.passing)
        for turn, begin in enumerate(range(first, last, SLICE)):
            end, buffer = min(begin + SLICE, last), turn % len(self.passing)
            piece = self.passing[buffer][: end - begin]
            with torch.cuda.stream(self.streams[1]):
                if free[buffer] is not None:
                    self.streams[1].wait_event(free[buffer])
                piece.copy_(self.host[begin:end], non_blocking=True)
                arrived = self.streams[1].record_event()
            with torch.cuda.stream(self.onward):
                self.onward.wait_event(arrived)
                self.target[0][begin:end].copy_(piece, non_blocking=True)
                free[buffer] = self.onward.record_event()

    def both(self):
        """Half of the bytes each way, all to GPU 0."""
        self.straight(0, 0, BYTES // 2)
        self.round_about(BYTES // 2, BYTES)

    def each_its_own(self):
        """As many bytes to each GPU over its own link."""
        self.straight(0, 0, BYTES)
        self.straight(1, 0, BYTES)

    def speed(self, action, size):
        """GB/s of `size` bytes by `action`."""
        torch, took = self.torch, []
        for _ in range(TURNS + 1):
            for number in (0, 1):
                torch.cuda.synchronize(number)
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            with torch.cuda.device(0):
                begin = torch.cuda.Stream(0)
                start.record(begin)
                for stream in [*self.streams, self.onward]:
                    stream.wait_event(start)
                action()
                for stream in [*self.streams, self.onward]:
                    begin.wait_event(stream.record_event())
                end.record(begin)
            end.synchronize()
            took.append(start.elapsed_time(end) / 1000)
        return round(size / statistics.median(took[1:]) / 1e9, 1)

    def right(self):
        return bool((self.target[0].view(self.torch.int64) == self.torch.arange(BYTES // 8, device="cuda:0")).all())


def main():
    torch = need("torch")
    if torch.cuda.device_count() < 2:
        skip("needs two GPUs")
    report = Report("two_links")
    links = Links(torch)
    report.figure("own_link", links.speed(lambda: links.straight(0, 0, BYTES), BYTES))
    report.figure("other_gpu_own_link", links.speed(lambda: links.straight(1, 0, BYTES), BYTES))
    report.figure("each_its_own", links.speed(links.each_its_own, 2 * BYTES))
    links.target[0].zero_()
    report.figure("round_about_alone", links.speed(lambda: links.round_about(0, BYTES), BYTES))
    report.check("what came round about", links.right())
    links.target[0].zero_()
    report.figure("both_links_to_one", links.speed(links.both, BYTES))
    report.check("what came both ways", links.right())
    report.figure("peer_access", int(torch.cuda.can_device_access_peer(0, 1)))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
