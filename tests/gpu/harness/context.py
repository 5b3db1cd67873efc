"""How steps start programs: the commands with and without gpuroom, time limits,
logs, and what is known of the machine. Knows nothing of single steps."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
PROGRAMS = ROOT / "tests" / "gpu" / "programs"
SKIP = 77
GIB = 1 << 30
MIB = 1 << 20
UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": MIB, "G": GIB, "T": 1 << 40}


def parse_size(text):
    match = re.fullmatch(r"([0-9.]+)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not match:
        raise ValueError(f"'{text}' is not a size; write 6GiB or 512MiB")
    return int(float(match.group(1)) * UNITS[match.group(2).upper()])


@dataclasses.dataclass
class Outcome:
    """How one program ended; `answer` is its last line of JSON, or {}."""

    status: int
    text: str
    answer: dict
    seconds: float
    timed_out: bool = False

    def failure(self):
        """Why it did not pass, in one line; empty when it passed."""
        if self.timed_out:
            return f"did not end within {self.seconds:.0f} s"
        bad = [check for check in self.answer.get("checks", []) if not check["ok"]]
        if bad:
            return "; ".join(f"{check['name']}: {check['detail']}" for check in bad)[:400]
        if self.status != 0:
            lines = [line for line in self.text.splitlines() if line.strip()]
            return f"status {self.status}: {lines[-1][:300] if lines else 'no output'}"
        return ""


def last_json(text):
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            try:
                return json.loads(line)
            except ValueError:
                continue
    return {}


class Context:
    """One run of the harness: its options, the machine, and the commands."""

    def __init__(self, options):
        self.build = pathlib.Path(options.build)
        self.out = pathlib.Path(options.out)
        self.sim = options.sim
        self.quick = options.quick
        self.hbm = parse_size(options.hbm_limit)
        self.host = parse_size(options.host_limit)
        self.piece = (self.hbm + self.host) // 28 // (2 * MIB) * (2 * MIB)  # 512 MiB of 14 GiB
        self.logs = pathlib.Path(options.logs)
        self.logs.mkdir(parents=True, exist_ok=True)
        self.out.mkdir(parents=True, exist_ok=True)
        self.gpus = gpu_names(self)
        self.current = threading.local()  # .step, .ledger: of the step this thread runs

    @property
    def total(self):
        return self.hbm + self.host

    def binary(self, name):
        return str(self.build / "bin" / name)

    def has(self, name):
        return (self.build / "bin" / name).exists()

    def program(self, name, *arguments):
        return [sys.executable, str(PROGRAMS / name), *map(str, arguments)]

    def pieces(self, device=0, pieces=16):
        """Arguments that tell a test program how much there is."""
        return ["--device", device, "--expect-total", self.total, "--piece", self.piece, "--pieces", pieces]

    def gpuroom(self, command, options=()):
        limits = ["--hbm-limit", str(self.hbm), "--host-limit", str(self.host)]
        sim = ["--sim", self.sim] if self.sim else []
        return [self.binary("gpuroom"), "run", *limits, *sim, *options, "--", *command]

    def environment(self, extra=None, bare=False):
        environment = {**os.environ, **(extra or {})}
        if bare and self.sim:
            folder = str(self.build / "lib" / "gpuroom" / "sim")
            environment["LD_LIBRARY_PATH"] = ":".join(filter(None, [folder, environment.get("LD_LIBRARY_PATH", "")]))
            environment["GPUROOM_SIM"] = self.sim
        ledger = getattr(self.current, "ledger", None)
        if ledger and not bare:
            environment["GPUROOM_LEDGER"] = ledger
        return environment

    def log(self, text):
        with open(self.logs / f"{self.current.step}.log", "a", encoding="utf-8") as file:
            file.write(text if text.endswith("\n") else text + "\n")

    def start(self, command, extra=None, bare=False):
        """A program with pipes, in a session of its own so that it can be ended whole."""
        self.log("$ " + " ".join(command))
        log = open(self.logs / f"{self.current.step}.log", "a", encoding="utf-8")
        return subprocess.Popen(command, env=self.environment(extra, bare), stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)

    def call(self, command, limit, extra=None, bare=False):
        """Runs a program to its end or to `limit` seconds."""
        self.log("$ " + " ".join(f"{k}={v}" for k, v in (extra or {}).items()) + " " + " ".join(command))
        start = time.monotonic()
        child = subprocess.Popen(command, env=self.environment(extra, bare), stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                                 start_new_session=True)
        timed_out = False
        try:
            text, errors = child.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            timed_out = True
            end_session(child)
            text, errors = child.communicate()
        seconds = time.monotonic() - start
        self.log(f"{text}{errors}\n[status {child.returncode} after {seconds:.1f} s]")
        return Outcome(child.returncode, text + errors, last_json(text), seconds, timed_out)


def end_session(child):
    """Kills a child started by this harness together with its own children."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def output_of(command):
    if not shutil.which(command[0]):
        return ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout if done.returncode == 0 else ""


def gpu_names(context):
    if context.sim:
        match = re.match(r"(\d+)x", context.sim)
        return ["simulated"] * (int(match.group(1)) if match else 1)
    lines = output_of(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]).splitlines()
    return [line.strip() for line in lines if line.strip()]


def machine(context):
    """What every result file says about where it was made."""
    revision = os.environ.get("GPUROOM_REVISION", "")
    stamp = context.build / "bin" / "revision.txt"
    if not revision and stamp.exists():
        revision = stamp.read_text().strip()
    driver = output_of(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]).splitlines()
    return {
        "revision": revision or output_of(["git", "-C", str(ROOT), "describe", "--always", "--dirty"]).strip(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "gpu": context.gpus[0] if context.gpus else "none",
        "gpus": len(context.gpus),
        "driver": f"simulated ({context.sim})" if context.sim else (driver[0].strip() if driver else "none"),
        "hbm_limit": context.hbm,
        "host_limit": context.host,
    }
