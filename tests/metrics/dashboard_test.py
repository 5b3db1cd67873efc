"""The dashboard's panels, filled by the real Prometheus server, which scrapes a simulated node: one program that moves, sleeps,
wakes and is refused memory on the simulated driver, and eight processes on eight GPUs of two sockets that only count."""

import contextlib
import json
import math
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests" / "cli"))

from conftest import Gpuroom, clean_environment, folder  # noqa: E402, F401
from doubles import Double  # noqa: E402

DASHBOARD = json.loads((SOURCE / "docs" / "grafana-dashboard.json").read_text())
PROGRAM = SOURCE / "tests" / "hostile" / "gpu_program.py"
OPTIONS = ("--sim", "1GiB,host=4GiB", "--hbm-limit", "256MiB", "--host-limit", "1GiB", "--resident-below", "384MiB")
LONG = 120  # seconds
WINDOW = "10s"  # of a rate; some ten scrapes


def queries():
    """(panel, query) of each, its variables as Grafana would put them in."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$instance", ".*").replace("$__rate_interval", WINDOW)
            assert "$" not in query, query
            yield f"{panel['title']} {target['refId']}", query


class Program:
    """gpu_program.py under `gpuroom run` on the simulated driver."""

    def __init__(self, env):
        self.gpuroom, self.env = Gpuroom(), env
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = self.gpuroom.start("run", *OPTIONS, "--", sys.executable, PROGRAM, env=env, **pipes)
        assert self.process.stdout.readline() == "ready\n"
        self.allocate(80, 80, 80, 4096)  # the last is refused

    def allocate(self, *megabytes):
        for count in megabytes:
            self.process.stdin.write(f"alloc {count}\n")
            self.process.stdin.flush()
            self.process.stdout.readline()

    def work(self):
        self.allocate(16)  # another gives way to it
        for verb in ("sleep", "wake"):
            done = self.gpuroom(verb, self.process.pid, env=self.env)
            assert done.returncode == 0, done.stderr

    def kill(self):
        self.process.kill()
        self.process.communicate(timeout=LONG)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Prometheus:
    def __init__(self, folder, target):
        self.url = f"http://127.0.0.1:{free_port()}"
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s}\n"
            f"scrape_configs: [{{job_name: gpuroom, static_configs: [{{targets: ['{target}']}}]}}]\n"
        )
        self.log = open(folder / "log", "w+", encoding="utf-8")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address={self.url[7:]}"], stdout=self.log, stderr=self.log)  # fmt: skip

    def values(self, query):
        """Those that Grafana would draw."""
        address = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(address, timeout=LONG) as answer:
                result = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            assert error.code == 503, (query, error.read())  # it is starting
            return []
        except urllib.error.URLError:
            assert self.process.poll() is None, self.log.read()
            return []
        return [value for value in (float(series["value"][1]) for series in result) if math.isfinite(value)]

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=LONG)
        self.log.close()


@pytest.fixture
def node(folder):
    """The program and the exporter's address."""
    env = {"GPUROOM_CONTROL_DIR": folder}
    with contextlib.ExitStack() as stack:
        for gpu in range(8):
            stack.callback(Double(folder, gpu).kill)
        program = Program(env)
        stack.callback(program.kill)
        command = [Gpuroom.binary, "exporter", "--listen", "127.0.0.1:0"]
        exporter = subprocess.Popen(command, env=clean_environment(**env), text=True, stderr=subprocess.PIPE)
        stack.callback(exporter.communicate)
        stack.callback(exporter.kill)
        yield program, re.search(r"http://(.*)/metrics", exporter.stderr.readline()).group(1)


def test_every_panel_is_filled(node, tmp_path):
    program, address = node
    server = Prometheus(tmp_path, address)
    try:
        end = time.monotonic() + LONG
        empty = dict(queries())
        assert len(empty) > 25
        while empty and time.monotonic() < end:
            program.work()
            time.sleep(0.5)  # half of what passes between two scrapes
            empty = {panel: query for panel, query in empty.items() if not server.values(query)}
        assert empty == {}
        assert max(server.values("gpuroom_host_memory_misplaced")) == 1
        assert server.values('up{job="gpuroom"}') == [1]
    finally:
        server.kill()


def test_promtool_reads_every_query(tmp_path):
    """As recording rules, which it checks for syntax."""
    if shutil.which("promtool") is None:
        pytest.fail("promtool is missing")
    rules = [{"record": f"panel_{number}", "expr": query} for number, (_, query) in enumerate(queries())]
    file = tmp_path / "rules.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", file], text=True, capture_output=True, timeout=LONG)
    assert done.returncode == 0, done.stdout + done.stderr
