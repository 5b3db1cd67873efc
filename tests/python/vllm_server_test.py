"""tests/gpu/vllm/server.py against a stand-in for vLLM's api_server: its phases work where memory really sleeps and wakes (on
the simulated driver), and end with 1 where an answer is wrong."""

import json
import runpy
import socket
import textwrap

import pytest
from conftest import COMMAND, PACKAGE, SIM, SOURCE

PROGRAM = SOURCE / "tests" / "gpu" / "vllm" / "server.py"
PHASES = ["clients", "http", "pid", "load", "turns", "level_2"]

API_SERVER = """
    import argparse, ctypes, http.server, json, os, sys, urllib.parse
    sys.path.insert(0, os.environ["PACKAGE"])
    import gpuroom
    from gpuroom import _intent
    parser = argparse.ArgumentParser()
    for option in ("--host", "--port", "--served-model-name", "--model"):
        parser.add_argument(option)
    options = parser.parse_args()
    driver, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p()
    assert not driver.cuInit(0) and not driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
    assert not driver.cuCtxSetCurrent(context)

    def allocate(tag, size):
        pointer, before = ctypes.c_uint64(), _intent.current()
        _intent.apply(before._replace(tag=tag))
        assert not driver.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(size))
        _intent.apply(before)

    allocate(b"weights", 64 << 20)
    allocate(b"kv_cache", 48 << 20)
    asleep, slept = False, 0

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"
        def log_message(self, *_):
            pass
        def answer(self, value):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(value).encode())
        def do_GET(self):
            self.answer({"is_sleeping": asleep})
        def do_POST(self):
            global asleep, slept
            driver.cuCtxSetCurrent(context)
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            url = urllib.parse.urlparse(self.path)
            query = urllib.parse.parse_qs(url.query)
            if url.path == "/v1/completions":
                wrong = slept if "WRONG" in os.environ else 0
                self.answer({"choices": [{"token_ids": [wrong] * body["max_tokens"]}]})
            elif url.path == "/sleep":
                asleep, slept = True, slept + 1
                kept = ["weights"] if query["level"] == ["1"] else []
                gpuroom.sleep(kept, drop=["kv_cache"]) if kept else gpuroom.sleep(["weights", "kv_cache"], action="drop")
                self.answer({})
            elif url.path == "/wake_up":
                gpuroom.wake(query.get("tags"))
                asleep = any(state.kept or state.dropped for state in gpuroom.sleep_states().values())
                self.answer({})

    http.server.ThreadingHTTPServer.request_queue_size = 256
    http.server.ThreadingHTTPServer((options.host, int(options.port)), Handler).serve_forever()
    """


@pytest.fixture
def serve(python, tmp_path):
    """Runs the program with the stand-in; what it ended with, and what it wrote."""
    module = tmp_path / "vllm" / "entrypoints" / "openai"
    module.mkdir(parents=True)
    (module / "api_server.py").write_text(textwrap.dedent(API_SERVER))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    case, result = tmp_path / "case.json", tmp_path / "result.json"
    control = tmp_path / "control"
    control.mkdir(mode=0o700)

    def run(phases, **env):
        case.write_text(json.dumps(dict(name="stand_in", lock=str(tmp_path / "lock"), command=str(COMMAND), phases=phases, turns=6,
                                        server=["--served-model-name", "m"], llm=dict(model="model"), port=port)))  # fmt: skip
        own = dict(PYTHONPATH=str(tmp_path), PACKAGE=str(PACKAGE), GPUROOM_LEDGER=str(tmp_path / "ledger"), GPUROOM_VLLM="0",
                   GPUROOM_CONTROL_DIR=str(control), **env)  # fmt: skip
        limits = ("--sim", SIM, "--hbm-limit", "256MiB", "--host-limit", "1GiB")
        program = f"import runpy, sys; sys.argv[1:] = [{str(case)!r}, {str(result)!r}]; runpy.run_path({str(PROGRAM)!r}, run_name='__main__')"
        return python(program, command=(COMMAND, "run", *limits, "--"), env=own), json.loads(result.read_text())

    return run


def test_every_phase_runs(serve):
    done, result = serve(PHASES)
    assert done.returncode == 0 and result["ok"], done.stdout + done.stderr
    works = result["works"]
    assert works["clients"]["tokens"] == 64 * 16 and works["load"]["tokens"] == 64 * 256
    assert works["http_sleep_first"]["kept_mib"] == works["pid_sleep"]["kept_bytes"] == 64
    assert works["pid_sleep"]["dropped_bytes"] == 48
    assert works["turns"]["turns"] == 6 and works["turns"]["awake_bytes"] == 0


def test_a_wrong_answer_after_a_sleep_is_a_failure(serve):
    done, result = serve(["http"], WRONG="1")
    assert done.returncode == 1 and "another answer than before the sleep" in done.stderr and "ok" not in result


def test_cases_that_are_to_be_equal_differ_in_what_stands_before_them_alone():
    folder = SOURCE / "tests" / "gpu" / "vllm"
    listed = runpy.run_path(str(folder / "cases.py"))
    models = runpy.run_path(str(folder / "models.py"))["SHAPES"]
    cases = listed["CASES"]
    assert {case["model"] for case in cases.values()} == set(models)
    for bare, limited in listed["EQUAL"]:
        one, other = cases[bare], cases[limited]
        assert one["under"] is None and other["under"] and (one["model"], one["llm"]) == (other["model"], other["llm"])
        assert other["env"].pop("GPUROOM_VLLM_STAGE", None) is None or "staged" in limited
        assert one["env"] == other["env"] and one["env"]["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
        assert set(one["works"]) & set(other["works"])
