#!/usr/bin/env python3
"""On the GPU machine: runs cases one after the other, the next one's imports beside the last one's work.

    run.py [--alone] CARRY SECONDS CASE...     logs and results go to $OUT (default /tmp/vllm_out)

--alone: nothing runs beside a case, so that also its short steps are exact; 12 s more for each.

CARRY is what pack.sh made, with a release install of gpuroom in CARRY/hr. SECONDS is when to begin no more case."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from typing import Any, Callable, Dict, List, Optional

from cases import CASES, EQUAL

HERE = pathlib.Path(__file__).resolve().parent
OUT = pathlib.Path(os.environ.get("OUT", "/tmp/vllm_out"))
HOME = pathlib.Path("/tmp/vllm_gpuroom")  # of all that is unpacked
COMMAND = HOME / "hr" / "bin" / "gpuroom"
BEGAN = time.time()
BASE = dict(
    VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1", HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", VLLM_HOST_IP="127.0.0.1",
    GLOO_SOCKET_IFNAME="lo", NCCL_SOCKET_IFNAME="lo", VLLM_ALLOW_INSECURE_SERIALIZATION="1", PYTHONUNBUFFERED="1",
    PYTHONPATH=str(HOME / "v"), VLLM_CACHE_ROOT=str(HOME / "cache"),
    VLLM_USE_FLASHINFER_SAMPLER="0",  # flashinfer is not carried
)  # fmt: skip
MOST_SECONDS = 150  # of one case, once it has the GPU, where the case does not say otherwise


def say(*words: Any) -> None:
    print(f"[{time.time() - BEGAN:6.1f}]", *words, flush=True)


def unpack(carry: pathlib.Path) -> None:
    HOME.mkdir(exist_ok=True)
    shutil.rmtree(HOME / "hr", ignore_errors=True)
    shutil.copytree(carry / "hr", HOME / "hr")
    subprocess.run([sys.executable, str(HERE / "models.py"), str(HOME / "models")], check=True)
    for program in (HOME / "hr" / "bin").iterdir():
        program.chmod(0o755)
    if not (HOME / "v" / "vllm" / "__init__.py").exists():
        sys.path.insert(0, str(carry / "vllm" / "zs"))
        import zstandard

        with open(carry / "vllm" / "vllm.tar.zst", "rb") as packed:
            stream = zstandard.ZstdDecompressor(max_window_size=1 << 28).stream_reader(packed)
            tarfile.open(fileobj=stream, mode="r|").extractall(HOME / "v", filter="fully_trusted")
    say("unpacked")


class Run:
    """One case in a process group of its own."""

    def __init__(self, name: str) -> None:
        self.name, self.case = name, dict(CASES[name], name=name, lock=str(HOME / "lock"), command=str(COMMAND))
        self.case["llm"] = dict(self.case["llm"], model=str(HOME / "models" / self.case["model"]))
        self.result, self.log = OUT / f"{name}.json", OUT / f"{name}.log"
        case = OUT / f"{name}.case"
        case.write_text(json.dumps(self.case))
        command = [sys.executable, str(HERE / self.case["program"]), str(case), str(self.result)]
        if self.case["under"]:
            command = [str(COMMAND), "run", "--report", *self.case["under"], "--", *command]
        with open(self.log, "w") as out:
            self.process = subprocess.Popen(command, env=dict(os.environ, **BASE, **self.case["env"]), stdout=out,
                                            stderr=subprocess.STDOUT, start_new_session=True, cwd="/tmp")  # fmt: skip

    def results(self) -> Dict[str, Any]:
        return json.loads(self.result.read_text()) if self.result.exists() else {}

    def wait(self, end: float, what: Callable[[Dict[str, Any]], bool]) -> bool:
        while time.time() < end and self.process.poll() is None and not what(self.results()):
            time.sleep(0.2)
        return what(self.results())

    def stop(self) -> None:
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            say(self.name, "did not end by itself")
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def finish(run: Run, end: float) -> bool:
    """Waits for a run's end and says what came of it."""
    ok = run.wait(end, lambda results: bool(results.get("ok")))
    run.stop()
    results = run.results()
    if "refused" in run.case:
        ok = not ok and run.process.returncode != 0 and run.case["refused"] in run.log.read_text(errors="replace")
    say(run.name, "OK" if ok else f"FAILED (exit {run.process.returncode})", "start", results.get("start_s"), "s, KV tokens",
        results.get("kv_tokens"))  # fmt: skip
    for name, work in results.get("works", {}).items():
        say("   ", name, " ".join(f"{key}={value}" for key, value in work.items()))
    lines = [line for line in run.log.read_text(errors="replace").splitlines() if line.strip()]
    for line in [line for line in lines if "gpuroom: " in line or " profile " in line][:40]:
        say("    |", line[:400])
    if not ok:
        print("\n".join(line[:400] for line in [x for x in lines if "Error" in x][-12:] + ["..."] + lines[-12:]), flush=True)
    return ok


def same_results(names: List[str]) -> bool:
    """Whether cases that have to agree to the bit do: those with the engine in the same process."""
    return all([same(names, bare, limited) for bare, limited in EQUAL])


def same(names: List[str], bare: str, limited: str) -> bool:
    """Whether two cases agree in the works that both have done."""
    found = []
    for name in (bare, limited):
        path = OUT / f"{name}.json"
        if name not in names or not path.exists():
            return True
        works = json.loads(path.read_text())["works"]
        found.append({work: (made["tokens"], made["logprobs"]) for work, made in works.items()})
    different = [work for work in found[0] if work in found[1] and found[0][work] != found[1][work]]
    say(limited, "and", bare, "equal to the bit" if not different else f"DIFFERENT in {', '.join(different)}")
    return not different


def main() -> int:
    arguments = [argument for argument in sys.argv[1:] if argument != "--alone"]
    alone = len(arguments) < len(sys.argv) - 1
    carry, seconds, names = pathlib.Path(arguments[0]).resolve(), float(arguments[1]), arguments[2:] or list(CASES)
    OUT.mkdir(parents=True, exist_ok=True)
    unpack(carry)
    end, last, queue, failed = BEGAN + seconds, None, list(names), 0
    while queue or last:
        following: Optional[Run] = None
        if queue and end - time.time() > 45:
            if last is None or not alone and last.wait(end - 20, lambda results: "kv_tokens" in results):
                following = Run(queue.pop(0))
        if last is not None:
            failed += not finish(last, min(time.time() + last.case.get("seconds", MOST_SECONDS), end - 10))
        elif following is None:
            break
        last = following
    for name in queue:
        say(name, "was not begun: no time was left")
    return 1 if failed or not same_results(names) else 0


if __name__ == "__main__":
    sys.exit(main())
