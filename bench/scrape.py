#!/usr/bin/env python3
"""How long a scrape of `gpuroom exporter --listen` takes: scripted processes that come and go, no GPU.

  bench/scrape.py [--build DIR] [--processes N] [--scrapes N]

The processes are those of bench/doubles.py; a tenth of them is replaced in the course. Prints one line of JSON, times in
milliseconds: of a scrape as the client sees it, and the exporter's own processor time for one.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from typing import Dict, List

from doubles import cpu_seconds, end, start

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAUSE = 0.025  # seconds; a page serves for 20 ms, and each scrape is to make its own


def measure(url: str, scrapes: int, replace_one: int, running: List[subprocess.Popen[str]],
            build: pathlib.Path, environment: Dict[str, str]) -> Dict[str, float]:  # fmt: skip
    times, length = [], 0
    for number in range(scrapes):
        if number % replace_one == replace_one - 1:
            end(running.pop(0))
            running.append(start(build, environment))
        time.sleep(PAUSE)
        begin = time.perf_counter()
        with urllib.request.urlopen(url) as answer:
            length = len(answer.read())
        times.append((time.perf_counter() - begin) * 1000)
    return {"median": statistics.median(times), "p99": statistics.quantiles(times, n=100)[98], "max": max(times),
            "page_bytes": length}  # fmt: skip


def main(arguments: List[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/dev")
    parser.add_argument("--processes", type=int, default=100)
    parser.add_argument("--scrapes", type=int, default=1000)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="gpuroom-scrape-") as folder:
        environment = {**os.environ, "GPUROOM_CONTROL": "1", "GPUROOM_CONTROL_DIR": folder}
        running = [start(options.build, environment) for _ in range(options.processes)]
        command = [str(options.build / "bin/gpuroom"), "exporter", "--listen", "0"]
        exporter = subprocess.Popen(command, env=environment, text=True, stderr=subprocess.PIPE)
        assert exporter.stderr is not None
        found = re.search(r"http://\S+", exporter.stderr.readline())
        assert found is not None
        before = cpu_seconds(exporter.pid)
        replace_one = max(1, 10 * options.scrapes // options.processes)
        result = measure(found.group(), options.scrapes, replace_one, running, options.build, environment)
        result["exporter_cpu"] = 1000 * (cpu_seconds(exporter.pid) - before) / options.scrapes
        for process in [exporter, *running]:
            end(process)
    print(json.dumps({"processes": options.processes, "scrapes": options.scrapes, "milliseconds": result}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
