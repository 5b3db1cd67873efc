"""What doctor prints for people, and the file that they can send."""
import fcntl
import getpass
import json
import os
import pty
import re
import shutil
import socket
import struct
import subprocess
import termios

import pytest
from conftest import BUILD, FIXTURES

NAMES = sorted(path.name for path in FIXTURES.iterdir() if path.is_dir())
STATUSES = ("ok ", "warn ", "fail ")


def lines_of(text):
    return [line for line in text.splitlines() if line.startswith(STATUSES)]


@pytest.mark.parametrize("name", NAMES)
def test_problems_come_first_and_every_fact_once(doctor, on_fixture, name):
    text = doctor("--sysroot", FIXTURES / name)
    facts = on_fixture(name).json["facts"]
    lines = lines_of(text.out)
    rank = {"fail": 0, "warn": 1, "ok": 2}
    ranks = [rank[line.split()[0]] for line in lines]
    assert ranks == sorted(ranks)
    names = [line.split()[1].rstrip(":") for line in lines]
    for fact in facts:
        of_gpus = r"gpu[0-9,-]+" + re.escape(re.sub(r"^gpu\d+", "", fact["name"]))
        assert fact["name"] in names or [line for line in names if re.fullmatch(of_gpus, line)], fact["name"]
    wrong = [fact for fact in facts if fact["status"] != "ok"]
    assert ("next step: " in text.out) == bool(wrong)
    assert text.out.rstrip().endswith("failures")


def test_the_next_step_is_the_fix_of_the_first_failure(doctor):
    out = doctor("--sysroot", FIXTURES / "no-gpu").out.splitlines()
    assert out[0] == "problems" and out[1].startswith("fail  gpus: none.")
    (step,) = [line for line in out if line.startswith("next step: ")]
    assert "save what plain 'nvidia-smi' prints" in step and step.endswith("(for gpus)")


def test_no_problem_says_so(doctor):
    assert doctor("--sysroot", FIXTURES / "gh200-cdmm").out.splitlines()[0] == "no problems"


def test_gpus_that_are_alike_share_a_line(doctor):
    text = doctor("--sysroot", FIXTURES / "server-8gpu").out
    assert "ok    gpu0-7.model: NVIDIA H200." in text
    assert "ok    gpu0-1,3-7.link: PCIe 5 x16." in text
    assert "warn  gpu2.link: PCIe 5 x8" in text
    text = doctor("--sim", "8xh200").out
    for words in ("gpu0-7.model: NVIDIA H200, compute 9.0.", "gpu0-7.peers: all the others (rank 0).",
                  "gpu0-3.host_node: 0.", "gpu0-7.mixed_range: works."):
        assert words in text, words
    assert len(lines_of(text)) < 45


def test_problems_alone(doctor):
    run = doctor("--problems", "--sysroot", FIXTURES / "server-8gpu")
    assert run.status == 0
    assert not [line for line in lines_of(run.out) if line.startswith("ok")]
    assert "gpu2.link" in run.out and "next step: " in run.out
    refused = doctor("--problems", "--json")
    assert refused.status == 2 and len(refused.err.splitlines()) == 1


def on_terminal(columns, *arguments):
    """What doctor prints on a terminal of that width."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen([BUILD / "bin" / "gpuroom", "doctor", *map(str, arguments)], stdout=slave) as done:
        os.close(slave)
        text = b""
        try:
            while piece := os.read(master, 65536):
                text += piece
        except OSError:
            pass  # its other end is closed
        os.close(master)
        done.wait(timeout=120)
    return text.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_lines_end_at_the_terminals_width(doctor, columns):
    arguments = ("--sysroot", FIXTURES / "gh200-egm")
    text = on_terminal(columns, *arguments)
    assert max(map(len, text.splitlines())) <= columns
    assert text.split() == doctor(*arguments).out.split()


# The file to send ------------------------------------------------------------------------------------------------

SECRETS = [r"[0-9a-f]{8}-[0-9a-f]{4}-", r"[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.", r"/home/", r"alice",
           r"192\.0\.2\.7", r"52:54:00", "S3RIAL"]


def bundle_of(doctor, path, *arguments, **environment):
    run = doctor("--bundle", path, *arguments, **environment)
    assert str(path) in run.err and len(run.err.splitlines()) == 1
    return path.read_text()


@pytest.fixture
def named_machine(tmp_path):
    """A machine with somebody's name in whatever can have one."""
    tree = tmp_path / "alice"
    shutil.copytree(FIXTURES / "container-cgroup2", tree)
    (tree / "proc/self/cgroup").write_text("0::/user.slice/alice.slice/192.0.2.7\n")
    folder = tree / "sys/fs/cgroup/user.slice/alice.slice"
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text(f"{8 << 30}\n")
    serial = tree / "sys/class/dmi/id/product_serial"
    serial.parent.mkdir(parents=True)
    serial.write_text("S3RIAL\n")
    return tree


def test_the_bundle_tells_nobody(doctor, tmp_path, named_machine):
    hidden = "GPU-6a2f91c0-52aa-11f0-9b3e-0242ac120002"
    texts = [bundle_of(doctor, tmp_path / "files.json", "--sysroot", named_machine),
             bundle_of(doctor, tmp_path / "sim.json", "--sim", "8xh200", HOME="/home/alice", USER="alice"),
             bundle_of(doctor, tmp_path / "none.json", CUDA_VISIBLE_DEVICES=hidden, LD_LIBRARY_PATH=str(named_machine)),
             bundle_of(doctor, tmp_path / "here.json", CUDA_VISIBLE_DEVICES=hidden,
                       LD_LIBRARY_PATH=str(BUILD / "lib/gpuroom/sim"))]
    names = [name for name in (socket.gethostname(), getpass.getuser()) if len(name) >= 3 and name != "root"]
    secrets = SECRETS + [r"\b" + re.escape(name) + r"\b" for name in names] + [re.escape(str(BUILD))]
    for text in texts:
        for secret in secrets:
            assert not re.search(secret, text), secret
        assert json.loads(text)["doctor"]["facts"]


def test_the_bundle_has_what_a_row_needs(doctor, tmp_path):
    cache = tmp_path / "cache" / "gpuroom"
    cache.mkdir(parents=True)
    uuid = doctor("--json", "--sim", "h200")["gpu0.model"]["value"].split(", ")[-1]
    entry = {"gpu_name": "NVIDIA H200", "gpu_uuid": uuid, "driver": "simulated h200",
             "device_bytes_per_second": 4560000000000, "peer_bytes_per_second": 0,
             "host_bytes_per_second": 51300000000, "measured": "2026-11-21T10:00:00Z"}
    (cache / "links.json").write_text(json.dumps({"version": 1, "machines": [entry]}))
    bundle = json.loads(bundle_of(doctor, tmp_path / "b.json", "--sim", "h200", XDG_CACHE_HOME=str(tmp_path / "cache")))
    assert bundle["bundle"] == 1 and bundle["versions"]["gpuroom"]
    assert bundle["doctor"]["schema"] == 1 and bundle["doctor"]["counts"]["fail"] == 0
    assert bundle["bench_tiers"] == [{name: value for name, value in entry.items() if name != "gpu_uuid"}]
    (model,) = [fact["value"] for fact in bundle["doctor"]["facts"] if fact["name"] == "gpu0.model"]
    assert model.startswith("NVIDIA H200, compute 9.0")


def test_a_bundle_that_cannot_be_written_is_a_sentence(doctor, tmp_path):
    for path in (tmp_path / "absent" / "b.json", "/dev/full"):
        run = doctor("--bundle", path, "--sysroot", FIXTURES / "gh200")
        assert run.status == 2 and "--bundle" in run.err and len(run.err.splitlines()) == 1
