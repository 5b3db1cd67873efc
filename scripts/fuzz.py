#!/usr/bin/env python3
"""Runs the fuzz targets of a build of the preset `fuzz`, and says what each did.

    fuzz.py --seconds 60 [--jobs N] [TARGET...]

Each target begins with its folder of tests/fuzz/corpus and with what earlier runs found, which is kept in
build/fuzz/found; `machine` begins with tests/fixtures as well. An input that crashes is kept in build/fuzz/crashes, and
makes the exit status 1; it becomes a file of the corpus and a test with a name.
"""

import argparse
import concurrent.futures
import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent

COVERAGE = re.compile(r"#\d+\s+\w+\s+cov: (\d+) ")
EXECUTIONS = re.compile(r"stat::number_of_executed_units:\s+(\d+)")


@dataclasses.dataclass
class Outcome:
    target: str
    seconds: float
    executions: int = 0
    coverage: int = 0
    coverage_at_two_thirds: int = 0
    crash: str = ""  # what the target said

    def line(self) -> str:
        late = self.coverage - self.coverage_at_two_thirds
        rate = self.executions / max(self.seconds, 0.001)
        return (f"{self.target:14} {self.seconds:6.0f} s {self.executions:12,} executions {rate:9,.0f}/s"
                f"   coverage {self.coverage:5}, of it {late:3} in the last third{'   CRASHED' if self.crash else ''}")


def pack(machine: pathlib.Path) -> bytes:
    """The files below a folder of tests/fixtures, as an input of `machine`: each behind a line "=== its path"."""
    packed = b""
    for path in sorted(path for path in machine.rglob("*") if path.is_file() and path.name != "README.md"):
        packed += b"=== %s\n" % str(path.relative_to(machine)).encode() + path.read_bytes().rstrip(b"\n") + b"\n"
    return packed


def seeds(target: str, folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders of inputs that `target` begins with; `folder` may be written."""
    if target == "machine":
        for fixture in sorted((ROOT / "tests" / "fixtures").iterdir()):
            (folder / fixture.name).write_bytes(pack(fixture))
    return [ROOT / "tests" / "fuzz" / "corpus" / target, folder]


def fuzz(build: pathlib.Path, target: str, seconds: int) -> Outcome:
    found, crashes = build / "found" / target, build / "crashes"
    found.mkdir(parents=True, exist_ok=True)
    crashes.mkdir(exist_ok=True)
    shared_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="gpuroom-fuzz-", dir=shared_memory) as scratch:
        fixtures = pathlib.Path(scratch, "fixtures")
        fixtures.mkdir()
        command = [build / "tests" / "fuzz" / f"fuzz_{target}", found, *seeds(target, fixtures),
                   f"-max_total_time={seconds}", f"-artifact_prefix={crashes}/{target}-", "-print_final_stats=1",
                   "-print_funcs=0", "-timeout=20", "-rss_limit_mb=1024"]
        environment = {**os.environ, "TMPDIR": scratch, "ASAN_OPTIONS": "malloc_context_size=4"}
        begin = time.monotonic()
        with subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True, errors="replace", env=environment) as process:
            outcome = Outcome(target, seconds)
            said: list[str] = []
            assert process.stderr is not None
            for line in process.stderr:
                said = [*said[-200:], line]
                coverage, executions = COVERAGE.match(line), EXECUTIONS.match(line)
                if coverage:
                    outcome.coverage = int(coverage[1])
                    if time.monotonic() - begin <= seconds * 2 / 3:
                        outcome.coverage_at_two_thirds = outcome.coverage
                if executions:
                    outcome.executions = int(executions[1])
        outcome.seconds = time.monotonic() - begin
        outcome.crash = "".join(said) if process.returncode != 0 else ""
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="of each target")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("targets", nargs="*", help="default: all")
    options = parser.parse_args()
    build = options.build.resolve()
    built = sorted(path.name[len("fuzz_"):] for path in (build / "tests" / "fuzz").glob("fuzz_*"))
    unknown = set(options.targets) - set(built)
    if not built or unknown:
        sys.exit(f"fuzz: {build} has no target {', '.join(sorted(unknown)) or 'at all'}; build the preset 'fuzz'")
    crashed = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as workers:
        for outcome in workers.map(lambda target: fuzz(build, target, options.seconds), options.targets or built):
            print(outcome.line(), flush=True)
            if outcome.crash:
                crashed += 1
                print(outcome.crash, file=sys.stderr, flush=True)
    if crashed:
        sys.exit(f"fuzz: {crashed} of the targets crashed; their inputs are in {build / 'crashes'}")


if __name__ == "__main__":
    main()
