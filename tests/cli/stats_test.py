"""--report and --stats-file, with a program that allocates for real (the sample, on the simulated driver)."""

import json
import os

import pytest
from conftest import LIBRARIES

SMALL = ("--sim", "128MiB,host=1GiB")
MIB = 1 << 20


def sample(megabytes):
    return [LIBRARIES / "gpuroom-demo", "--json", "--bytes", megabytes * MIB]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_line_for_a_process(gpuroom, tmp_path):
    stats = tmp_path / "stats.jsonl"
    done = gpuroom("run", *SMALL, "--host-limit", "512MiB", "--stats-file", stats, "--", *sample(192))
    assert done.returncode == 0, done.stderr
    (line,) = lines(stats)
    assert line["program"] == "gpuroom-demo"
    assert line["pid"] > 0
    assert line["shim_seconds"] >= 0
    (device,) = line["devices"]
    seen = json.loads(done.stdout)["buffers"]
    assert device["device"] == 0
    assert device["host_bytes"]["peak"] == sum(buffer["host_bytes"] for buffer in seen) > 0
    assert device["hbm_bytes"]["current"] == 0
    assert device["host_bytes"]["current"] == 0
    assert device["allocations"] >= len(seen)
    assert device["spilled"] == sum(buffer["host_bytes"] > 0 for buffer in seen)
    assert device["largest"] == max(buffer["bytes"] for buffer in seen)


def test_every_process_appends(gpuroom, tmp_path):
    stats = tmp_path / "stats.jsonl"
    stats.write_text('{"earlier": true}\n')
    command = " ".join(map(str, sample(32)))
    done = gpuroom("run", *SMALL, "--stats-file", stats, "--", "sh", "-c", f"{command} && {command}")
    assert done.returncode == 0, done.stderr
    first, *others = lines(stats)
    assert first == {"earlier": True}
    samples = [line for line in others if line["program"] == "gpuroom-demo"]
    assert len({line["pid"] for line in samples}) == 2


def test_relative_file_is_the_callers_wherever_the_command_goes(gpuroom, tmp_path):
    command = " ".join(map(str, sample(32)))
    done = gpuroom("run", *SMALL, "--stats-file", "s.jsonl", "--", "sh", "-c", f"cd / && {command}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert any(line["program"] == "gpuroom-demo" for line in lines(tmp_path / "s.jsonl"))


def test_report_goes_to_standard_error(gpuroom):
    done = gpuroom("run", *SMALL, "--host-limit", "512MiB", "--report", "--", *sample(192))
    assert done.returncode == 0
    json.loads(done.stdout)
    for word in ("gpuroom-demo", "GPU 0", "HBM", "host", "peak", "spilled", "largest"):
        assert word in done.stderr


def test_without_them_nothing_is_said(gpuroom):
    assert gpuroom("run", *SMALL, "--", *sample(32)).stderr == ""


@pytest.mark.parametrize("name", ["absent/stats.jsonl", ".", "file/stats.jsonl"])
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_stats_file_that_cannot_be_written(gpuroom, tmp_path, name, dry):
    (tmp_path / "file").write_text("")
    gpuroom.refuses(
        2, "--stats-file", "cannot be written",
        arguments=["run", *SMALL, *dry, "--stats-file", tmp_path / name, "--", "true"],
    )  # fmt: skip


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_stats_file_without_permission(gpuroom, tmp_path):
    tmp_path.chmod(0o555)
    gpuroom.refuses(
        2, "Permission denied", arguments=["run", *SMALL, "--stats-file", tmp_path / "s", "--", "true"]
    )


def test_fifo_without_a_reader_does_not_hang(gpuroom, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    gpuroom.refuses(
        2, "--stats-file", arguments=["run", *SMALL, "--stats-file", tmp_path / "fifo", "--", "true"], timeout=60
    )
