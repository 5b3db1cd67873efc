#!/usr/bin/env python3
"""vLLM's api_server under `gpuroom run`, by HTTP: many clients at once, then sleep and wake, by HTTP and from outside.

    server.py CASE.json RESULT.json     under `gpuroom run`, which the case names as `command`

Ends with 1 where an answer after a sleep differs from the one before. Writes RESULT.json as engine.py does."""

import concurrent.futures
import fcntl
import json
import os
import subprocess
import sys
import time
import urllib.request
from typing import Any, Dict, List

PORT, CLIENTS, TOKENS = 8123, 64, 16
URL = f"http://127.0.0.1:{PORT}"
BEGAN = time.perf_counter()
with open(sys.argv[1]) as file:
    CASE = json.load(file)
RESULT: Dict[str, Any] = {"name": CASE["name"], "works": {}}


def save(**more: Any) -> None:
    RESULT.update(more)
    with open(sys.argv[2] + ".part", "w") as file:
        json.dump(RESULT, file)
    os.replace(sys.argv[2] + ".part", sys.argv[2])


def done(name: str, begin: float, **more: Any) -> None:
    RESULT["works"][name] = dict(all_s=round(time.perf_counter() - begin, 3), **more)
    print(f"## {CASE['name']} {time.perf_counter() - BEGAN:7.2f} work {name} {json.dumps(RESULT['works'][name])}", flush=True)
    save()


def ask(path: str, body: Any = None, timeout: float = 60) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=timeout).read()


def complete(client: int) -> List[int]:
    """The tokens that follow a prompt of this client's."""
    prompt = [3 + (7919 * client + 31 * i) % 31000 for i in range(256)]
    body = dict(model="m", prompt=prompt, max_tokens=TOKENS, temperature=0, ignore_eos=True, return_token_ids=True)
    return json.loads(ask("/v1/completions", body))["choices"][0]["token_ids"]


def all_clients(name: str) -> List[List[int]]:
    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        tokens = list(pool.map(complete, range(CLIENTS)))
    done(name, begin, tokens=sum(map(len, tokens)))
    return tokens


def alone(first: List[int]) -> None:
    """One client's answer has to be the same as before whenever nobody else asks."""
    if complete(0) != first:
        raise SystemExit("another answer than before the sleep")


def wait_for(server: "subprocess.Popen[bytes]") -> None:
    while server.poll() is None:
        try:
            ask("/health", timeout=2)
            return
        except OSError:
            time.sleep(0.3)
    raise SystemExit(f"the server ended with {server.returncode}")


def sleep_by_http(level: int) -> None:
    begin = time.perf_counter()
    ask(f"/sleep?level={level}", {})
    done(f"sleep_level_{level}", begin, asleep=json.loads(ask("/is_sleeping"))["is_sleeping"])
    begin = time.perf_counter()
    ask("/wake_up", {})
    done(f"wake_level_{level}", begin)


def sleep_from_outside() -> None:
    """The process that holds most goes to sleep without its KV cache, which no request uses now."""
    command = CASE["command"]
    listed = json.loads(subprocess.run([command, "ps", "--json"], check=True, capture_output=True, text=True).stdout)
    engine = str(max(listed["processes"], key=lambda one: one.get("awake_bytes") or 0)["pid"])
    for name, arguments in (("sleep_pid", ["sleep", engine, "--drop-tag", "kv_cache"]), ("wake_pid", ["wake", engine])):
        begin = time.perf_counter()
        ended = subprocess.run([command, *arguments, "--json"], capture_output=True, text=True, timeout=30)
        done(name, begin, exit=ended.returncode, said=(ended.stdout + ended.stderr).strip()[:300])
        if ended.returncode:
            raise SystemExit(f"gpuroom {' '.join(arguments)}: {ended.stderr}")


def main() -> None:
    lock = open(CASE["lock"], "w")  # as in engine.py: one case at a time has the GPU
    fcntl.flock(lock, fcntl.LOCK_EX)
    begin = time.perf_counter()
    server = subprocess.Popen([sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--port", str(PORT), *CASE["server"],
                               "--model", CASE["llm"]["model"]])  # fmt: skip
    try:
        wait_for(server)
        save(start_s=round(time.perf_counter() - begin, 2), kv_tokens=None)
        first = complete(0)
        all_clients("clients")
        all_clients("clients_again")
        sleep_by_http(1)
        alone(first)
        sleep_from_outside()
        alone(first)
        save(ok=True)
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()


if __name__ == "__main__":
    main()
