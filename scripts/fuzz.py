#!/usr/bin/env python3
"""Runs the fuzz targets of a build of the preset `fuzz`, and says what each did.

    fuzz.py --seconds 60 [--workers N] [--jobs N] [TARGET...]
    fuzz.py --minimize [TARGET...]

Each target begins with its folder of tests/fuzz/corpus and with what earlier runs found, which is kept in
build/fuzz/found; `machine` begins with tests/fixtures as well. With --workers several processes fuzz one target, and each
reads within a second what the others found. An input that crashes is kept in build/fuzz/crashes, and makes the exit
status 1; it becomes a file of the corpus and a test with a name.

Coverage is counted after the run: one process is fed every input that any worker kept, another those that were there
after two thirds of the time. --minimize copies found inputs into the corpus: as few as reach the edges that the corpus
does not reach yet. A run from that corpus begins with the coverage at which the former run ended.

This script also runs on a machine without a compiler, in a folder with tests/fuzz/corpus, tests/fixtures and the
programs fuzz_* in BUILD/tests/fuzz (--build BUILD). Those need glibc and libstdc++, and nothing else.
"""

import argparse
import concurrent.futures
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

ROOT = pathlib.Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "fuzz" / "corpus"

COVERAGE = re.compile(r"#\d+\s+INITED cov: (\d+) ")
EXECUTIONS = re.compile(r"stat::number_of_executed_units:\s+(\d+)")


class Broken(Exception):
    """A target that cannot be fed the inputs which it kept."""


@dataclasses.dataclass
class Worker:
    """What one process did."""
    processor_seconds: float
    status: int
    said: str

    def executions(self) -> int:
        counted = EXECUTIONS.search(self.said)
        return int(counted[1]) if counted else 0


@dataclasses.dataclass
class Outcome:
    target: str
    seconds: float
    workers: list[Worker]
    coverage: int
    coverage_at_two_thirds: int

    def crashes(self) -> list[str]:
        """What the workers that crashed said at last."""
        return [worker.said[-10000:] for worker in self.workers if worker.status != 0]

    def line(self) -> str:
        processor = sum(worker.processor_seconds for worker in self.workers)
        executions = sum(worker.executions() for worker in self.workers)
        late, crashed = self.coverage - self.coverage_at_two_thirds, len(self.crashes())
        return (f"{self.target:14} {self.seconds:6.0f} s {processor / 60:7.2f} processor-minutes"
                f" {executions:14,} executions {executions / max(processor, 0.001):9,.0f}/s"
                f"   coverage {self.coverage:5}, of it {late:3} in the last third"
                + (f"   CRASHED: {crashed} of {len(self.workers)} workers" if crashed else ""))


def pack(machine: pathlib.Path) -> bytes:
    """The files below a folder of tests/fixtures, as an input of `machine`: each behind a line "=== its path"."""
    packed = b""
    for path in sorted(path for path in machine.rglob("*") if path.is_file() and path.name != "README.md"):
        packed += b"=== %s\n" % str(path.relative_to(machine)).encode() + path.read_bytes().rstrip(b"\n") + b"\n"
    return packed


class Target:
    """One target's program, its inputs, and a folder for what it needs while it runs."""

    def __init__(self, build: pathlib.Path, found: pathlib.Path, name: str, scratch: pathlib.Path) -> None:
        self.name, self.scratch = name, scratch
        self.program = build / "tests" / "fuzz" / f"fuzz_{name}"
        self.found, self.crashes = found / name, build / "crashes"
        self.found.mkdir(parents=True, exist_ok=True)
        self.crashes.mkdir(exist_ok=True)
        self.seeds = self.folder("seeds")
        for seed in (CORPUS / name).iterdir():
            shutil.copyfile(seed, self.seeds / seed.name)
        if name == "machine":
            for fixture in (ROOT / "tests" / "fixtures").iterdir():
                (self.seeds / fixture.name).write_bytes(pack(fixture))

    def folder(self, name: str) -> pathlib.Path:
        folder = self.scratch / name
        folder.mkdir()
        return folder

    def run(self, *words: object) -> Worker:
        environment = {**os.environ, "TMPDIR": str(self.scratch)}
        environment.setdefault("ASAN_OPTIONS", "malloc_context_size=4")
        with tempfile.TemporaryFile(dir=self.scratch) as said:
            process = subprocess.Popen([str(word) for word in (self.program, *words)], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=said, env=environment)
            _, status, used = os.wait4(process.pid, 0)  # Popen.wait does not say how much processor time was used
            process.returncode = os.waitstatus_to_exitcode(status)
            said.seek(0)
            return Worker(used.ru_utime + used.ru_stime, process.returncode, said.read().decode(errors="replace"))

    def fuzz_once(self, seconds: int) -> Worker:
        return self.run(self.found, self.seeds, f"-max_total_time={seconds}", "-print_final_stats=1",
                        f"-artifact_prefix={self.crashes}/{self.name}-", "-verbosity=0", "-timeout=20",
                        "-rss_limit_mb=1024")

    def coverage(self, inputs: pathlib.Path) -> int:
        """The edges that the seeds and the files of `inputs` reach together."""
        fed = self.run("-runs=0", f"-artifact_prefix={self.crashes}/{self.name}-", inputs, self.seeds)
        counted = COVERAGE.search(fed.said)
        if fed.status != 0 or counted is None:
            raise Broken(f"fuzz: {self.name} cannot be fed the inputs that it kept:\n{fed.said}")
        return int(counted[1])

    def fuzz(self, seconds: int, workers: int) -> Outcome:
        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            running = [pool.submit(self.fuzz_once, seconds) for _ in range(workers)]
            concurrent.futures.wait(running, seconds * 2 / 3)
            found_early = [path.name for path in self.found.iterdir()]
            done = [worker.result() for worker in running]
        took = time.monotonic() - begin
        early = self.folder("early")
        for name in found_early:
            (early / name).symlink_to(self.found / name)
        return Outcome(self.name, took, done, self.coverage(self.found), self.coverage(early))

    def minimize(self) -> int:
        """Copies found inputs into the corpus, and says how many."""
        merged = self.folder("merged")
        shutil.copytree(self.seeds, merged, dirs_exist_ok=True)
        # Edges alone: how often each was passed would need ten times the files.
        done = self.run("-merge=1", "-use_counters=0", merged, self.found)
        if done.status != 0:
            raise Broken(f"fuzz: {self.name} cannot be fed the inputs that it kept:\n{done.said}")
        new = {path.name for path in merged.iterdir()} - {path.name for path in self.seeds.iterdir()}
        for name in new:
            shutil.copyfile(merged / name, CORPUS / self.name / name)
        return len(new)


@contextmanager
def opened(options: argparse.Namespace, name: str) -> Iterator[Target]:
    """The target of that name, for as long as its scratch folder is there: in memory, where that can be."""
    shared_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="gpuroom-fuzz-", dir=shared_memory) as scratch:
        yield Target(options.build, options.found or options.build / "found", name, pathlib.Path(scratch))


def minimize(options: argparse.Namespace, names: list[str]) -> None:
    for name in names:
        with opened(options, name) as target:
            print(f"{name:14} {target.minimize():4} inputs copied into {CORPUS / name}", flush=True)


def fuzz(options: argparse.Namespace, names: list[str]) -> None:
    def fuzz_target(name: str) -> Outcome:
        with opened(options, name) as target:
            return target.fuzz(options.seconds, options.workers)

    failed = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as jobs:
        for running in [jobs.submit(fuzz_target, name) for name in names]:
            try:
                outcome = running.result()
            except Broken as broken:  # the others go on
                print(broken, file=sys.stderr, flush=True)
                failed += 1
                continue
            print(outcome.line(), flush=True)
            if outcome.crashes():
                print(outcome.crashes()[0], file=sys.stderr, flush=True)
                failed += 1
    if failed:
        sys.exit(f"fuzz: {failed} of the targets failed; inputs that crashed are in {options.build / 'crashes'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--found", type=pathlib.Path, help="folder of what runs find; default: found in --build")
    parser.add_argument("--seconds", type=int, default=60, help="of each target, by the clock")
    parser.add_argument("--workers", type=int, default=1, help="processes that fuzz one target")
    parser.add_argument("--jobs", type=int, help="targets at a time; default: processors / workers")
    parser.add_argument("--minimize", action="store_true", help="copy what runs found into the corpus; fuzz nothing")
    parser.add_argument("targets", nargs="*", help="default: all")
    options = parser.parse_args()
    options.build = options.build.resolve()
    options.jobs = options.jobs or max(1, len(os.sched_getaffinity(0)) // options.workers)
    built = sorted(path.name[len("fuzz_"):] for path in (options.build / "tests" / "fuzz").glob("fuzz_*"))
    unknown = set(options.targets) - set(built)
    if not built or unknown:
        sys.exit(f"fuzz: {options.build} has no target {', '.join(sorted(unknown)) or 'at all'}; build the preset 'fuzz'")
    try:
        (minimize if options.minimize else fuzz)(options, options.targets or built)
    except Broken as broken:
        sys.exit(str(broken))


if __name__ == "__main__":
    main()
