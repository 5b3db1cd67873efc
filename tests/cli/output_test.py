"""Output that cannot be written: a sentence and an exit status that is not 0, whatever is printed."""

import subprocess

import pytest
from conftest import SOURCE, clean_environment, preloads

FIXTURE = SOURCE / "tests" / "fixtures" / "gh200-egm"
SIM = ["--sim", "1GiB,host=4GiB"]
PRINTS = [
    ["help"],
    ["help", "run"],
    ["--version"],
    ["run", "--help"],
    ["sleep", "--help"],
    ["bench", "--help"],
    ["bench", "tiers", "--help"],
    ["ps"],
    ["ps", "--json"],
    ["top", "--once"],
    ["top", "--once", "--json"],
    ["top", "--json"],
    ["sleep", "--all"],
    ["doctor", "--sysroot", FIXTURE],
    ["doctor", "--sysroot", FIXTURE, "--json"],
    ["doctor", *SIM],
    ["run", "--dry-run", *SIM, "--", "true"],
    ["run", "--dry-run", *SIM, "--json", "--", "true"],
    pytest.param(["demo", *SIM, "--hbm-limit", "64MiB"], marks=preloads),
    pytest.param(["demo", *SIM, "--hbm-limit", "64MiB", "--json"], marks=preloads),
]


@pytest.mark.parametrize("arguments", PRINTS, ids=lambda words: " ".join(map(str, words)).replace(str(FIXTURE), "DIR"))
def test_a_full_disk_is_told(gpuroom, tmp_path, arguments):
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run(
            [gpuroom.binary, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
            env=clean_environment(GPUROOM_CONTROL_DIR=str(tmp_path)),
        )
    assert done.returncode == 1, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, lines
    assert "output" in lines[0] and "No space left on device" in lines[0] and "internal" not in lines[0]


def test_a_closed_output_is_told(gpuroom):
    done = subprocess.run(
        ["sh", "-c", '"$0" help >&-', gpuroom.binary], stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "output" in done.stderr and len(done.stderr.splitlines()) == 1
