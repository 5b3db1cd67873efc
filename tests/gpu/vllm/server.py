#!/usr/bin/env python3
"""vLLM's api_server under `gpuroom run`, by HTTP: many clients at once, then sleep and wake, by HTTP and from outside.

    server.py CASE.json RESULT.json     under `gpuroom run`, which the case names as `command`

The case's `phases` name what is done, in their order. Ends with 1 where an answer after a sleep differs from the one
before, or memory grows from turn to turn. Writes RESULT.json as engine.py does."""

import concurrent.futures
import fcntl
import json
import os
import subprocess
import sys
import time
import urllib.request
from typing import Any, Callable, Dict, List, Tuple

CLIENTS, TOKENS, LONG_TOKENS = 64, 16, 256
TURN_SECONDS = 90  # at most, of all turns
MOST_GROWN_MIB = 64  # between the first turns and the last: what allocators round to
MIB = 1 << 20
BEGAN = time.perf_counter()
with open(sys.argv[1]) as file:
    CASE = json.load(file)
RESULT: Dict[str, Any] = {"name": CASE["name"], "works": {}}
PORT = CASE.get("port", 8123)
URL = f"http://127.0.0.1:{PORT}"


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


def complete(client: int, tokens: int = TOKENS) -> List[int]:
    """The tokens that follow a prompt of this client's."""
    prompt = [3 + (7919 * client + 31 * i) % 31000 for i in range(256)]
    body = dict(model="m", prompt=prompt, max_tokens=tokens, temperature=0, ignore_eos=True, return_token_ids=True)
    made = json.loads(ask("/v1/completions", body))["choices"][0]["token_ids"]
    if len(made) != tokens:
        raise SystemExit(f"client {client} got {len(made)} of {tokens} tokens")
    return made


def gpuroom(*arguments: str) -> Dict[str, Any]:
    """What the command prints as JSON."""
    ended = subprocess.run([CASE["command"], *arguments, "--json"], capture_output=True, text=True, timeout=60)
    if ended.returncode:
        raise SystemExit(f"gpuroom {' '.join(arguments)} ended with {ended.returncode}: {(ended.stdout + ended.stderr).strip()[:500]}")
    return json.loads(ended.stdout)


class Server:
    """The server once it answers: its engine's process, and what one client hears that is alone."""

    def __init__(self) -> None:
        listed = gpuroom("ps")["processes"]
        self.engine = str(max(listed, key=lambda one: one.get("awake_bytes") or 0)["pid"])
        self.first = complete(0)

    def state(self) -> Dict[str, Any]:
        return next(one for one in gpuroom("ps")["processes"] if str(one["pid"]) == self.engine)

    def check(self) -> None:
        """One client's answer has to be the same as before whenever nobody else asks."""
        if complete(0) != self.first:
            raise SystemExit("another answer than before the sleep")

    def resident_mib(self) -> int:
        """Of the engine's process, on the host, as the kernel counts it."""
        with open(f"/proc/{self.engine}/status") as file:
            return next(int(line.split()[1]) // 1024 for line in file if line.startswith("VmRSS:"))


def all_clients(server: Server) -> None:
    for name in ("clients", "clients_again"):
        begin = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            tokens = list(pool.map(complete, range(CLIENTS)))
        done(name, begin, tokens=sum(map(len, tokens)))
    server.check()


def rate(byte_count: int, begin: float) -> float:
    """GB/s since `begin`."""
    return round(byte_count / (time.perf_counter() - begin) / 1e9, 1)


def sleep_by_http(server: Server) -> None:
    """Level 1, the first time and later, and waking by tags."""
    for name in ("first", "later", "by_tags"):
        begin = time.perf_counter()
        ask("/sleep?level=1", {})
        took = time.perf_counter()
        if not json.loads(ask("/is_sleeping"))["is_sleeping"]:
            raise SystemExit("/is_sleeping says that it is awake")
        kept = server.state()["kept_bytes"]
        speed = round(kept / (took - begin) / 1e9, 1)
        done(f"http_sleep_{name}", begin, sleep_s=round(took - begin, 3), kept_mib=kept // MIB, gb_s=speed)
        begin = time.perf_counter()
        for path in ("/wake_up?tags=weights", "/wake_up?tags=kv_cache") if name == "by_tags" else ("/wake_up",):
            ask(path, {})
        done(f"http_wake_{name}", begin, gb_s=rate(kept, begin))
        server.check()


def sleep_by_pid(server: Server) -> None:
    """Without the KV cache, which no request uses now."""
    turn(server, "pid")
    server.check()


def turn(server: Server, name: str = "") -> None:
    """Sleep and wake from outside, once; with a name, what it took is noted."""
    begin = time.perf_counter()
    slept = gpuroom("sleep", server.engine, "--drop-tag", "kv_cache")["processes"][0]
    if name:
        sizes = {key: slept[key] // MIB for key in ("kept_bytes", "dropped_bytes")}
        done(f"{name}_sleep", begin, gb_s=round(slept["kept_bytes"] / max(slept["seconds"], 1e-9) / 1e9, 1), **sizes)
    begin = time.perf_counter()
    gpuroom("wake", server.engine)
    if name:
        done(f"{name}_wake", begin)


def sleep_under_load(server: Server) -> None:
    """While 64 clients wait for their tokens: the launches wait, and every client gets as many tokens as it asked for. Their
    values are any, since the KV cache of requests under way was dropped; the next requests' are right again."""
    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        waiting = [pool.submit(complete, client, LONG_TOKENS) for client in range(CLIENTS)]
        turns = 0
        while turns < 3 or (turns < 10 and any(not one.done() for one in waiting)):
            turn(server, "load" if turns == 0 else "")
            turns += 1
        tokens = sum(len(one.result()) for one in waiting)
    done("load", begin, turns=turns, tokens=tokens)
    server.check()


def many_turns(server: Server) -> None:
    """Memory after the last turn is what it was after the first ones."""
    wanted, begin = CASE.get("turns", 20), time.perf_counter()
    turns = 0
    early: Tuple[int, Dict[str, Any]] = (0, {})
    while turns < wanted and time.perf_counter() - begin < TURN_SECONDS:
        turn(server)
        turns += 1
        if turns % 10 == 0:
            server.check()
        if turns == min(10, wanted // 2):
            early = (server.resident_mib(), server.state())
    resident, state = server.resident_mib(), server.state()
    grown = {key: state[key] - early[1][key] for key in ("awake_bytes", "awake_on_gpu_bytes", "ranges")}
    done("turns", begin, turns=turns, resident_mib=resident, resident_grown_mib=resident - early[0], **grown)
    if grown["awake_bytes"] > MOST_GROWN_MIB * MIB or resident - early[0] > MOST_GROWN_MIB:
        raise SystemExit(f"memory grew from turn to turn: {grown}, and {resident - early[0]} MiB on the host")


def sleep_level_2(server: Server) -> None:
    """Weights are dropped, and nobody loads them again here: the server answers, with any tokens. The last phase."""
    begin = time.perf_counter()
    ask("/sleep?level=2", {})
    done("http_sleep_level_2", begin)
    begin = time.perf_counter()
    ask("/wake_up", {})
    complete(0)
    done("http_wake_level_2", begin)


PHASES: Dict[str, Callable[[Server], None]] = {
    "clients": all_clients, "http": sleep_by_http, "pid": sleep_by_pid, "load": sleep_under_load, "turns": many_turns,
    "level_2": sleep_level_2,
}  # fmt: skip


def wait_for(server: "subprocess.Popen[bytes]") -> None:
    while server.poll() is None:
        try:
            ask("/health", timeout=2)
            return
        except OSError:
            time.sleep(0.3)
    raise SystemExit(f"the server ended with {server.returncode}")


def main() -> None:
    lock = open(CASE["lock"], "w")  # as in engine.py: one case at a time has the GPU
    fcntl.flock(lock, fcntl.LOCK_EX)
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port",
                                str(PORT), *CASE["server"], "--model", CASE["llm"]["model"]])  # fmt: skip
    try:
        wait_for(process)
        save(start_s=round(time.perf_counter() - begin, 2), kv_tokens=None)
        server = Server()
        for phase in CASE["phases"]:
            PHASES[phase](server)
        save(ok=True)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


if __name__ == "__main__":
    main()
