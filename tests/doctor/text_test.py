"""What doctor prints for people."""
import fcntl
import os
import pty
import re
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
