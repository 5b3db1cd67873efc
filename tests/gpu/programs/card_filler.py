"""Keeps a GPU full for --seconds: takes all that is free, gives 2 GiB back, and takes it again."""

import argparse
import time

import torch

PIECE = 256 << 20


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, required=True)
    end = time.monotonic() + parser.parse_args().seconds
    time.sleep(12)  # the others start meanwhile
    held = []
    while time.monotonic() < end:
        try:
            while True:
                held.append(torch.empty(PIECE, dtype=torch.uint8, device="cuda"))
        except torch.OutOfMemoryError:
            pass
        time.sleep(1.5)
        del held[-8:]
        torch.cuda.empty_cache()
        time.sleep(0.7)


if __name__ == "__main__":
    main()
