"""Sorts on two streams at once while all tensors lie on the host.

PyTorch sorts with CUB's merge sort, some versions of which read what the kernel before them in the stream is about to
write (docs/driver-notes.md, "Kernels that begin early"). In HBM that goes well; in slow memory it ends in illegal
addresses, unless launches do not begin early."""

import argparse
import sys
import threading

from common import Report, need

ROUNDS, THREADS, SIZE = 40, 2, 1024


def sums(torch, weight, wrong):
    """A product of an unsorted sparse matrix of ones, again and again; each element of it is SIZE."""
    with torch.cuda.stream(torch.cuda.Stream()):
        row = torch.ones((SIZE, SIZE), device="cuda")
        for number in range(ROUNDS):
            row = weight.mm(row)
            row.div_(float(SIZE))
            if row.sum().item() != SIZE * SIZE:
                wrong.append(number)


def sort_on_streams(report, torch):
    number = torch.arange(SIZE, device="cuda")
    places = torch.cartesian_prod(number, number).t()
    weight = torch.sparse_coo_tensor(places, torch.ones(SIZE * SIZE, device="cuda"))
    torch.cuda.synchronize()
    wrong, failed = [], []

    def work():
        try:
            sums(torch, weight, wrong)
        except RuntimeError as error:
            failed.append(str(error).splitlines()[0])

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report.check("no kernel failed", not failed, failed[:1])
    report.check("every sum is right", not wrong, f"{len(wrong)} of {THREADS * ROUNDS} rounds")


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch = need("torch")
    report = Report("torch_early_launch")
    report.run(sort_on_streams, torch)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
