"""Takes device memory on command, for the test of two processes that share the
host's budget. Reads lines from standard input and answers each with one JSON line:
    take N    take up to N pieces, stopping when there is no more
    quit      leave
The answer says how many pieces it holds and how many bytes lie in host memory."""

import json
import sys

import common
import driver_ctypes


def main():
    options = common.arguments()
    driver = driver_ctypes.Driver(options.device)
    held = []
    print(json.dumps({"ready": True, "memory": driver.memory()}), flush=True)
    for line in sys.stdin:
        words = line.split()
        if words[0] == "quit":
            break
        for _ in range(int(words[1])):
            pointer = driver.allocate(options.piece)
            if pointer is None:
                break
            driver.set_words(pointer, len(held), options.piece)
            held.append(pointer)
        bad = sum(driver.word(pointer + options.piece - 4) != i for i, pointer in enumerate(held))
        places = [common.describe(pointer) for pointer in held]
        host = sum(place.host_bytes for place in places if place is not None)
        print(json.dumps({"pieces": len(held), "host_bytes": host, "wrong": bad, "memory": driver.memory()}), flush=True)


if __name__ == "__main__":
    main()
