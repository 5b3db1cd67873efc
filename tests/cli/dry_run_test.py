"""`gpuroom run --dry-run`: says what would be done, and does nothing."""

import json

import pytest
from conftest import SIM, preloads

GIB = 1 << 30


def test_offer_on_a_simulated_machine(gpuroom):
    plan = gpuroom.plan("--sim", "2x8GiB,host=16GiB", "--hbm-limit", "6GiB", "--host-limit", "8GiB", "--", "true")
    assert plan["simulated"] is True
    assert plan["driver_version"] >= 13000
    assert plan["driver_problem"] is None
    assert [gpu["device"] for gpu in plan["devices"]] == [0, 1]
    for gpu in plan["devices"]:
        assert gpu["hbm_bytes"] == 8 * GIB
        assert gpu["offered_hbm_bytes"] == 6 * GIB
        assert gpu["offered_bytes"] == 14 * GIB
    assert plan["limits"] == {
        "hbm_bytes": 6 * GIB, "hbm_percent": None, "host_bytes": 8 * GIB, "host_auto": False, "reserve_bytes": None,
    }  # fmt: skip


def test_a_limit_that_is_a_part_of_the_gpu(gpuroom):
    plan = gpuroom.plan("--sim", "2x8GiB,host=16GiB", "--hbm-limit", "25%", "--host-limit", "8GiB", "--", "true")
    assert [gpu["offered_hbm_bytes"] for gpu in plan["devices"]] == [2 * GIB, 2 * GIB]
    assert plan["limits"]["hbm_bytes"] is None and plan["limits"]["hbm_percent"] == 25
    assert plan["environment"]["GPUROOM_HBM_LIMIT"] == "25%"


@pytest.mark.parametrize("part, offered", [("equal", 4 * GIB), ("25%", 2 * GIB), ("1GiB", GIB), ("auto", 8 * GIB)])
def test_each_gpu_is_offered_its_part_of_the_host(gpuroom, part, offered):
    plan = gpuroom.plan("--sim", "2x8GiB,host=16GiB", "--host-limit", "8GiB", "--host-part", part, "--", "true")
    assert [gpu["offered_bytes"] for gpu in plan["devices"]] == [8 * GIB + offered] * 2
    assert plan["limits"]["host_bytes"] == 8 * GIB
    assert plan["environment"]["GPUROOM_HOST_PART"] == plan["tiers"]["host_part"] == {"1GiB": str(GIB)}.get(part, part)


def test_limit_beyond_the_gpu_offers_the_gpu(gpuroom):
    plan = gpuroom.plan(*SIM, "--hbm-limit", "6GiB", "--host-limit", "1GiB", "--", "true")
    assert plan["devices"][0]["offered_hbm_bytes"] == GIB
    assert plan["devices"][0]["offered_bytes"] == 2 * GIB


def test_a_gpu_without_memory_of_its_own_is_offered_no_more(gpuroom):
    arguments = ("--sim", "1GiB,host=4GiB,integrated", "--host-limit", "2GiB", "--", "true")
    (gpu,) = gpuroom.plan(*arguments)["devices"]
    assert gpu["offered_bytes"] == gpu["offered_hbm_bytes"] == GIB


def test_auto_host_limit_says_where_it_comes_from(gpuroom):
    plan = gpuroom.plan("--", "true")
    assert plan["limits"]["host_auto"] is True
    host = plan["host"]
    assert 0 <= plan["limits"]["host_bytes"] <= host["available_bytes"]
    assert host["limited_by"]


@pytest.mark.parametrize("profile, offered", [("gh200-egm", 470 * GIB), ("h200", None), ("1GiB,host=64GiB", None)])
def test_auto_on_a_simulated_machine_is_the_profiles(gpuroom, profile, offered):
    plan = gpuroom.plan("--sim", profile, "--", "true")
    doctor = json.loads(gpuroom("doctor", "--json", "--sim", profile).stdout)["pool"]
    assert plan["limits"]["host_bytes"] == doctor["host_bytes"] == (offered or doctor["host_bytes"])
    assert plan["host"]["limited_by"] == doctor["host_limited_by"]
    (gpu,) = plan["devices"]
    assert gpu["offered_bytes"] == doctor["gpus"][0]["total_bytes"]


def test_no_gpu_is_a_sentence(gpuroom):
    """With or without a driver here, the plan stands; what is not known has its reason."""
    plan = gpuroom.plan("--", "true")
    assert (plan["devices"] == []) == (plan["driver_problem"] is not None)
    text = gpuroom("run", "--dry-run", "--", "true")
    assert text.returncode == 0
    assert ("GPU: not known here: " in text.stdout) == (plan["driver_problem"] is not None)


def test_program_and_command(gpuroom, tmp_path):
    plan = gpuroom.plan("--", "sh", "-c", "exit 3")
    assert plan["command"] == ["sh", "-c", "exit 3"]
    assert plan["program"].endswith("/sh")


@preloads
def test_environment_is_what_a_run_sets(gpuroom):
    options = (*SIM, "--hbm-limit", "512MiB", "--host-limit", "1GiB", "--report", "--stats-file", "/dev/null",
               "--stats-interval", "10s")
    planned = gpuroom.plan(*options, "--", "env")["environment"]
    assert planned["GPUROOM_REPORT"] == "1"
    assert planned["GPUROOM_STATS_FILE"] == "/dev/null"
    assert planned["GPUROOM_STATS_INTERVAL"] == "10s"
    done = gpuroom("run", *options, "--", "env")
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    for name, value in planned.items():
        assert found[name] == value


def test_nothing_runs_and_nothing_is_left(gpuroom, tmp_path):
    mark, stats = tmp_path / "mark", tmp_path / "stats.jsonl"
    done = gpuroom("run", *SIM, "--dry-run", "--stats-file", stats, "--", "touch", mark)
    assert done.returncode == 0, done.stderr
    assert not mark.exists()
    assert not stats.exists()
    for part in ("would offer:", "1.0 GiB HBM", "would set:", f"GPUROOM_STATS_FILE={stats}", "would run:", f"touch {mark}"):
        assert part in done.stdout


def test_output_can_be_typed_into_a_shell(gpuroom):
    done = gpuroom("run", "--dry-run", "--", "echo", "it's", "$HOME", "")
    assert done.stdout.splitlines()[-1].endswith("echo 'it'\\''s' '$HOME' ''")


def test_arguments_that_are_not_utf8(gpuroom):
    done = gpuroom("run", "--dry-run", "--json", "--", "echo", b"\xff\xfe".decode(errors="surrogateescape"))
    assert done.returncode == 0
    assert json.loads(done.stdout)["command"][0] == "echo"


def test_dry_run_refuses_what_a_run_refuses(gpuroom, tmp_path):
    gpuroom.refuses(126, "directory", arguments=["run", "--dry-run", "--", tmp_path])
    gpuroom.refuses(3, "older than CUDA 13.0", arguments=["run", "--dry-run", "--sim", "1GiB,driver=12040", "--", "true"])
