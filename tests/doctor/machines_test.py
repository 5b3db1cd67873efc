"""The machines of tests/fixtures as processes on them see them: as root, as another user, in a container. Doctor and
`run --dry-run` read each, and agree."""
import json
import subprocess

import conftest
import pytest
from conftest import BUILD, FIXTURES

GIB = 1 << 30
NAMES = sorted(path.name for path in FIXTURES.iterdir() if path.is_dir())
WHOLE = [conftest.as_root, conftest.as_user, conftest.in_container]
PARTS = [conftest.without_the_drivers_files, conftest.unreadable]


def dry_run(*arguments):
    clean = {"PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": "/nonexistent"}
    sanitizer = {name: value for name, value in conftest.os.environ.items() if name.endswith("SAN_OPTIONS")}
    return subprocess.run([BUILD / "bin" / "gpuroom", "run", "--dry-run", *map(str, arguments), "--", "true"],
                          capture_output=True, text=True, timeout=120, env={**clean, **sanitizer}, check=False)


@pytest.mark.parametrize("how", WHOLE + PARTS, ids=lambda how: how.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_doctor_and_run_read_every_machine(doctor, seen, name, how):
    tree = seen(name, how)
    run = doctor("--json", "--sysroot", tree)
    status = 3 if name == "no-gpu" else 0
    assert run.status == status, run.err
    assert run.err == ""
    for fact in run.json["facts"]:
        assert fact["status"] == "ok" or fact["fix"], fact
    text = doctor("--sysroot", tree)
    assert text.status == status and "\x1b" not in text.out
    planned = dry_run("--json", "--sysroot", tree)
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    assert plan["limits"]["host_bytes"] == run.json["pool"]["host_bytes"]
    assert plan["host"]["limited_by"] == run.json["pool"]["host_limited_by"]
    assert dry_run("--sysroot", tree).returncode == 0


@pytest.mark.parametrize("how", WHOLE, ids=lambda how: how.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_every_gpu_has_its_name(doctor, seen, name, how):
    expected = [model for model, _ in conftest.gpus_of(FIXTURES / name)]
    run = doctor("--json", "--sysroot", seen(name, how))
    models = [fact["value"] for fact in run.json["facts"] if fact["name"].endswith(".model")]
    assert len(models) == len(expected)
    for model, value in zip(expected, models):
        assert value.startswith(model + ", ")


@pytest.mark.parametrize("how, source", [(conftest.as_root, "the firmware's DMI table"),
                                         (conftest.as_user, "the product name"),
                                         (conftest.in_container, "the product name")],
                         ids=["root", "user", "container"])
def test_egm_is_found_by_everybody(doctor, seen, how, source):
    run = doctor("--json", "--sysroot", seen("gh200-egm", how))
    assert run["gpu0.model"]["value"] == "NVIDIA GH200 480GB, 0009:01:00.0"
    assert source in run["egm"]["meaning"]
    assert run["node2"]["value"].startswith("HBM")
    assert run.json["pool"]["host_bytes"] // GIB == 470


def test_a_machine_that_hides_everything_offers_nothing(doctor, seen):
    run = doctor("--json", "--sysroot", seen("gh200-egm", conftest.unreadable))
    assert run["real_ram"]["status"] == "warn" and run["host"]["status"] == "warn"
    assert run.json["pool"]["host_bytes"] == 0


def test_a_dry_run_of_another_machine_offers_its_gpus():
    plan = json.loads(dry_run("--json", "--sysroot", FIXTURES / "server-8gpu").stdout)
    assert [gpu["name"] for gpu in plan["devices"]] == [name for name, _ in conftest.gpus_of(FIXTURES / "server-8gpu")]
    assert plan["driver_problem"] is None and plan["link_speeds"]["source"] == "estimated"
    for gpu in plan["devices"]:
        assert gpu["offered_bytes"] == gpu["hbm_bytes"] + plan["limits"]["host_bytes"]


def test_a_dry_run_of_a_machine_without_a_gpu_says_so():
    plan = json.loads(dry_run("--json", "--sysroot", FIXTURES / "no-gpu").stdout)
    assert plan["devices"] == [] and "no file below" in plan["driver_problem"]


def test_only_a_dry_run_is_of_another_machine(tmp_path):
    done = subprocess.run([BUILD / "bin" / "gpuroom", "run", "--sysroot", tmp_path, "--", "true"], capture_output=True,
                          text=True, timeout=120, check=False)
    assert done.returncode == 2 and "--dry-run" in done.stderr
    missing = dry_run("--sysroot", tmp_path / "absent")
    assert missing.returncode == 2 and "not a directory" in missing.stderr and len(missing.stderr.splitlines()) == 1
