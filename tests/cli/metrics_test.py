"""What a process tells about itself (docs/metrics.md), asked of one that moves, sleeps and is refused memory on the
simulated driver."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import SOURCE, clean_environment, preloads

pytestmark = preloads

PROGRAM = SOURCE / "tests" / "hostile" / "gpu_program.py"
OPTIONS = ("--sim", "1GiB,host=4GiB", "--hbm-limit", "256MiB", "--host-limit", "512MiB", "--resident-below", "384MiB")
MIB = 1 << 20
ODD = 'odd "\\\n\xe9%'  # what a program may call itself
REFUSED = "2"  # CUDA_ERROR_OUT_OF_MEMORY


class Process:
    def __init__(self, gpuroom, folder):
        self.gpuroom, self.env = gpuroom, {"GPUROOM_CONTROL_DIR": folder}
        program = ("bash", "-c", 'exec -a "$0" "$@"', ODD, sys.executable, PROGRAM)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = gpuroom.start("run", *OPTIONS, "--", *program, env=self.env, **pipes)
        assert self.process.stdout.readline() == "ready\n"

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def command(self, *arguments):
        done = self.gpuroom(*arguments, env=self.env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stats(self):
        (process,) = json.loads(self.command("ps", "--json"))["processes"]
        assert process["pid"] == self.process.pid
        return process["stats"]

    def sleep(self):
        self.command("sleep", self.process.pid)

    def wake(self):
        self.command("wake", self.process.pid)


@pytest.fixture
def process(gpuroom):
    folder = f"/tmp/gpuroom-metrics-{os.getpid()}"
    started = Process(gpuroom, folder)
    yield started
    started.process.kill()
    started.process.communicate(timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


def count(times):
    bounds = [bucket["at_most_seconds"] for bucket in times["buckets"]]
    assert bounds == [0.0001, 0.001, 0.01, 0.1, 0.5, 1, 5, 30, None]
    return sum(bucket["count"] for bucket in times["buckets"])


def test_bytes_by_tier(process):
    assert process.tell("alloc 64") == "0"
    assert process.tell("alloc 384") == "0"  # more than HBM has left
    stats = process.stats()
    assert stats["version"] == 1
    (gpu,) = stats["gpus"]
    assert gpu["device"] == 0 and gpu["uuid"].startswith("GPU-") and len(gpu["uuid"]) == 40
    assert gpu["hbm_bytes"]["limit"] == 256 * MIB and gpu["host_bytes"]["limit"] == 512 * MIB
    assert 0 < gpu["hbm_bytes"]["current"] <= gpu["hbm_bytes"]["peak"] <= 256 * MIB
    assert gpu["host_bytes"]["current"] + gpu["hbm_bytes"]["current"] >= 448 * MIB
    assert (gpu["allocations"], gpu["spilled"]) == (2, 1)
    assert stats["host_unclaimed_bytes"] <= 512 * MIB - gpu["host_bytes"]["current"]


def test_refusals_with_the_last_one_s_reason(process):
    assert process.tell("alloc 64") == "0"
    assert process.stats()["refusals"] == {"by_reason": {}, "last": None}
    assert process.tell("alloc 4096") == REFUSED
    assert process.tell("alloc 2048") == REFUSED
    refusals = process.stats()["refusals"]
    assert refusals["by_reason"] == {"out_of_memory": 2}
    assert refusals["last"]["reason"] == "out_of_memory" and refusals["last"]["bytes"] == 2048 * MIB
    assert refusals["last"]["text"] and refusals["last"]["device"] == 0


def test_sleeps_and_wakes(process):
    assert process.tell("alloc 64") == "0"
    before = process.stats()
    assert count(before["sleeps"]) == count(before["wakes"]) == count(before["standstills"]) == 0
    process.sleep()
    asleep = process.stats()
    assert count(asleep["sleeps"]) == 1 and asleep["sleeps"]["seconds"] > 0
    assert (asleep["backed_up_bytes"], asleep["restored_bytes"]) == (64 * MIB, 0)
    assert asleep["gpus"][0]["hbm_bytes"]["current"] < before["gpus"][0]["hbm_bytes"]["current"]
    assert asleep["gpus"][0]["hbm_bytes"]["peak"] >= before["gpus"][0]["hbm_bytes"]["current"]
    process.wake()
    awake = process.stats()
    assert (count(awake["wakes"]), awake["restored_bytes"]) == (1, 64 * MIB)
    assert count(awake["standstills"]) == 2 and awake["standstills_in_vain"] == 0


def test_a_hint_reaches_the_memory_that_is_there(process):
    pid = process.process.pid
    for megabytes in (1, 64, 64):  # the first is the driver's own
        assert process.tell(f"alloc {megabytes}") == "0"
    assert process.command("hint", "cold", pid) == f"process {pid}: 2 allocations are now cold\n"
    process.sleep()
    assert process.command("hint", "hot", pid, "--tag", "") == f"process {pid}: 2 allocations are now hot\n"
    process.gpuroom.refuses(2, "has had the tag 'x'", arguments=["hint", "hot", pid, "--tag", "x"], env=process.env)


def test_what_gives_way(process):
    for _ in range(3):
        assert process.tell("alloc 80") == "0"
    assert process.tell("alloc 64") == "0"  # it belongs in HBM, so that another gives way
    stats = process.stats()
    (gpu,) = stats["gpus"]
    assert gpu["displaced_bytes"] == gpu["moved_bytes"]["to_host"] > 0
    assert count(stats["moves"]) >= 1 and count(stats["standstills"]) >= 1


SAMPLE = re.compile(r'([a-z_:]+)\{((?:[a-z]+="(?:[^"\\\n]|\\.)*",?)*)\} (\S+)')


def metrics(text):
    """{name: {labels: value}}, with every line checked: the format wants a metric's samples side by side."""
    types, found, last = {}, {}, ""
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, last, types[last] = line.split(" ")
        elif not line.startswith("# HELP "):
            name, labels, value = SAMPLE.fullmatch(line).groups()
            assert re.sub("_(bucket|sum|count)$", "", name) == last if types[last] == "histogram" else name == last
            assert name.endswith("_total") == (types[last] == "counter")
            key = frozenset(re.findall(r'([a-z]+)="((?:[^"\\]|\\.)*)"', labels))
            assert key not in found.setdefault(name, {})
            found[name][key] = float(value)
    assert len(types) == text.count("# TYPE ")
    return found


def value(found, name, **labels):
    (only,) = (number for key, number in found[name].items() if labels.items() <= dict(key).items())
    return only


def test_the_exporter_writes_them_for_prometheus(process, tmp_path):
    file = tmp_path / "gpuroom.prom"
    file.write_text("old")
    assert process.tell("alloc 64") == "0"
    assert process.tell("alloc 4096") == REFUSED
    process.sleep()
    process.command("exporter", "--textfile", file)
    assert [path.name for path in tmp_path.iterdir()] == ["gpuroom.prom"]
    assert file.stat().st_mode & 0o777 == 0o644
    found = metrics(file.read_text())
    pid = str(process.process.pid)
    assert value(found, "gpuroom_process_up", pid=pid) == 1
    assert f'gpuroom_process_up{{pid="{pid}",command="odd \\"\\\\%0A%C3%A9%25 ' in file.read_text()
    assert value(found, "gpuroom_memory_limit_bytes", pid=pid, tier="hbm") == 256 * MIB
    assert value(found, "gpuroom_memory_peak_bytes", tier="hbm") >= 64 * MIB
    assert value(found, "gpuroom_tag_bytes", tag="", state="kept") == 64 * MIB
    assert value(found, "gpuroom_refusals_total", reason="out_of_memory") == 1
    assert value(found, "gpuroom_sleep_seconds_count") == value(found, "gpuroom_sleep_seconds_bucket", le="+Inf") == 1
    buckets = [value(found, "gpuroom_sleep_seconds_bucket", le=bound) for bound in ("0.0001", "1", "30", "+Inf")]
    assert buckets == sorted(buckets)


def test_the_exporter_without_processes_writes_nothing(gpuroom, tmp_path):
    done = gpuroom("exporter", "--textfile", "-", env={"GPUROOM_CONTROL_DIR": str(tmp_path / "none")})
    assert (done.returncode, done.stdout) == (0, "")


def test_the_exporter_says_what_it_needs(gpuroom, tmp_path):
    gpuroom.refuses(2, "--textfile FILE", arguments=["exporter"])
    gpuroom.refuses(1, "cannot be written", arguments=["exporter", "--textfile", tmp_path / "none" / "file"])


def write_after(script, process, folder, enter=()):
    """The command replaces an old gpuroom.prom of one line in `folder` ("$1"), where the shell has run `script`."""
    assert process.tell("alloc 64") == "0"  # its metrics are several KiB
    script += ' && echo old > "$1/gpuroom.prom" && "$0" exporter --textfile "$1/gpuroom.prom"; status=$?'
    script += '; ls "$1"; cat "$1/gpuroom.prom"; exit $status'
    command = [*enter, "bash", "-c", script, process.gpuroom.binary, folder]
    return subprocess.run(command, env=clean_environment(**process.env), text=True, capture_output=True, timeout=60)


def assert_refused(done, why):
    assert done.returncode == 1, done
    assert done.stderr.count("\n") == 1 and "gpuroom.prom cannot be written" in done.stderr and why in done.stderr
    assert done.stdout == "gpuroom.prom\nold\n"


def test_a_textfile_past_the_limit_on_file_sizes_is_told(process, tmp_path):
    """The kernel sends SIGXFSZ, which would end the command without a word."""
    assert_refused(write_after("ulimit -f 1", process, tmp_path), "File too large")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_textfile_on_a_full_disk_is_told(process, tmp_path):
    done = write_after('mount -t tmpfs -o size=8k none "$1"', process, tmp_path, enter=("unshare", "--mount"))
    assert_refused(done, "No space left on device")


def test_metrics_that_cannot_be_printed_are_told(process):
    assert process.tell("alloc 64") == "0"
    with open("/dev/full", "w", encoding="ascii") as full:
        command = [process.gpuroom.binary, "exporter", "--textfile", "-"]
        done = subprocess.run(command, env=clean_environment(**process.env), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "No space left on device" in done.stderr


def test_the_dashboard_asks_for_metrics_that_there_are(process):
    """`make metrics-check` asks a real Prometheus server for its panels."""
    assert process.tell("alloc 64") == "0"
    there = set(metrics(process.command("exporter", "--textfile", "-"))) | {"gpuroom_refusals_total"}
    asked = set(re.findall(r"gpuroom_\w+", (SOURCE / "docs" / "grafana-dashboard.json").read_text()))
    assert len(asked) > 20 and asked <= there


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing; 'scripts/deps.sh nightly' installs it")
def test_promtool_has_nothing_to_say(process):
    assert process.tell("alloc 64") == "0"
    process.sleep()
    process.wake()
    text = process.command("exporter", "--textfile", "-")
    done = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
