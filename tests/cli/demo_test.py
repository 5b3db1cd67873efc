"""`gpuroom demo` and the sample program, on the simulated driver."""

import json
import signal
import subprocess

import pytest
from conftest import LIBRARIES, clean_environment

MIB = 1 << 20
SAMPLE = LIBRARIES / "gpuroom-demo"
SMALL = "128MiB,host=1GiB"


def run_sample(gpuroom, *arguments, profile=SMALL, **variables):
    """The sample by itself, without gpuroom."""
    return subprocess.run(
        [str(SAMPLE), *map(str, arguments)],
        env=clean_environment(GPUROOM_SIM=profile, LD_LIBRARY_PATH=str(gpuroom.sim_folder), **variables),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_what_lay_where(gpuroom):
    done = gpuroom("demo", "--sim", SMALL, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["ok"] is True
    assert result["simulated"] is True
    assert result["under_gpuroom"] is True
    assert result["wrong_words"] == 0
    buffers = result["buffers"]
    assert sum(buffer["bytes"] for buffer in buffers) == 224 * MIB  # 1.75 times 128
    assert sum(buffer["hbm_bytes"] for buffer in buffers) <= 128 * MIB
    assert sum(buffer["host_bytes"] for buffer in buffers) >= 96 * MIB
    for buffer in buffers:
        assert buffer["hbm_bytes"] + buffer["host_bytes"] == buffer["bytes"]
        assert buffer["read_seconds"] > 0
    ends = sorted((buffer["address"], buffer["address"] + buffer["bytes"]) for buffer in buffers)
    assert all(end <= begin for (_, end), (begin, _) in zip(ends, ends[1:]))
    places = {group["place"]: group for group in result["groups"]}
    assert places["all"]["bytes"] == 224 * MIB
    assert places["host"]["hbm_bytes"] == 0
    assert places["HBM"]["host_bytes"] == 0
    assert all(group["read_gb_per_s"] > 0 for group in result["groups"])


def test_table_for_people(gpuroom):
    done = gpuroom("demo", "--sim", SMALL)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for part in (f"simulated driver, profile {SMALL}", "not a GPU's", "1.75 times", "read GB/s", "\nHBM ", "\nhost ", "\nall "):
        assert part in done.stdout
    assert done.stdout.splitlines()[-1].startswith("PASS: ")


def test_smaller_limit(gpuroom):
    done = gpuroom("demo", "--sim", "1GiB,host=1GiB", "--hbm-limit", "64MiB", "--json")
    assert done.returncode == 0, done.stderr
    buffers = json.loads(done.stdout)["buffers"]
    assert sum(buffer["bytes"] for buffer in buffers) == 112 * MIB
    assert sum(buffer["hbm_bytes"] for buffer in buffers) <= 64 * MIB


def test_without_a_gpu_it_simulates_and_says_why(gpuroom):
    probe = gpuroom.plan("--", "true")
    if probe["driver_problem"] is None:
        pytest.skip("this machine has a GPU")
    done = gpuroom("demo", "--hbm-limit", "64MiB")
    assert done.returncode == 0, done.stderr
    assert "profile 1GiB,host=4GiB" in done.stdout
    assert f"why: {probe['driver_problem']}" in done.stdout


def test_inside_a_simulated_run_it_does_not_claim_a_gpu(gpuroom):
    done = gpuroom("run", "--sim", SMALL, "--", gpuroom.binary, "demo")
    assert done.returncode == 0, done.stderr
    assert f"simulated driver, profile {SMALL}" in done.stdout
    assert "real GPU" not in done.stdout


def test_unknown_profile(gpuroom):
    gpuroom.refuses(2, "'no-such-machine' is not a profile", arguments=["demo", "--sim", "no-such-machine"])


def test_a_gpu_without_memory_of_its_own(gpuroom):
    gpuroom.refuses(
        2, "no memory but the host's", "--sim h200", arguments=["demo", "--sim", "1GiB,host=4GiB,integrated"]
    )


def test_more_than_the_machine_can_spare(gpuroom):
    text = gpuroom.refuses(2, "can be spared", arguments=["demo", "--sim", "64TiB,host=64TiB"])
    assert "--hbm-limit" in text or "free some" in text


def test_failure_of_the_driver_is_a_failure(gpuroom):
    done = gpuroom("demo", "--sim", SMALL, env={"GPUROOM_SIM_FAIL": "cuMemcpyDtoH:2:CUDA_ERROR_UNKNOWN"})
    assert done.returncode == 1
    assert "cuMemcpyDtoH failed" in done.stderr
    assert "PASS" not in done.stdout


def test_interrupt(gpuroom):
    process = gpuroom.start(
        "demo", "--sim", "1GiB,host=4GiB", "--hbm-limit", "1GiB", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline().startswith("gpuroom demo on the simulated driver")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert "PASS" not in output and "FAIL" not in output
    assert errors in ("", "gpuroom-demo: interrupted; all memory was given back\n")


def test_sample_alone(gpuroom):
    done = run_sample(gpuroom, "--bytes", 64 * MIB, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["under_gpuroom"] is False
    assert sum(buffer["host_bytes"] for buffer in result["buffers"]) == 0
    assert "without gpuroom" in run_sample(gpuroom, "--bytes", 64 * MIB).stdout


def test_sample_alone_has_not_enough(gpuroom):
    """The memory that the demo shows is not there without gpuroom."""
    done = run_sample(gpuroom, "--bytes", 224 * MIB)
    assert done.returncode == 1
    assert "device memory ran out" in done.stderr


def test_sample_by_default_takes_most_of_what_is_free(gpuroom):
    result = json.loads(run_sample(gpuroom, "--json").stdout)
    used = sum(buffer["bytes"] for buffer in result["buffers"])
    assert 96 * MIB <= used <= 128 * MIB


@pytest.mark.parametrize("arguments", [["--bytes"], ["--bytes", "x"], ["--bytes", "-1"], ["--bytes", "1x"], ["--what"]])
def test_sample_usage(gpuroom, arguments):
    done = run_sample(gpuroom, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")


def test_sample_without_a_driver(gpuroom, tmp_path):
    (tmp_path / "libcuda.so.1").write_text("not a library")
    done = subprocess.run(
        [str(SAMPLE)], env=clean_environment(LD_LIBRARY_PATH=str(tmp_path)), capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    if done.returncode == 0:
        pytest.skip("the loader went on to this machine's own libcuda.so.1")
    assert done.returncode == 3
    assert "libcuda.so.1" in done.stderr


def test_sample_links_nothing_of_gpuroom():
    data = SAMPLE.read_bytes()
    assert b"libgpuroom" not in data
    needed = subprocess.run(["ldd", str(SAMPLE)], capture_output=True, text=True, check=True).stdout
    assert "gpuroom" not in needed.replace(str(SAMPLE), "") and "libcuda" not in needed
