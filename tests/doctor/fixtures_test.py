"""What doctor says of the machines in tests/fixtures."""
import shutil

import pytest
from conftest import FIXTURES

GIB = 1 << 30
MIB = 1 << 20
NAMES = sorted(path.name for path in FIXTURES.iterdir() if path.is_dir())


def test_there_are_fixtures():
    assert len(NAMES) >= 9


@pytest.mark.parametrize("name", NAMES)
def test_every_fixture_gives_whole_facts(on_fixture, name):
    run = on_fixture(name)
    assert run.status == (3 if name == "no-gpu" else 0), run.err
    assert (FIXTURES / name / "README.md").read_text().strip()
    assert run.json["schema"] == 1
    statuses = [fact["status"] for fact in run.json["facts"]]
    assert run.json["counts"] == {status: statuses.count(status) for status in ("ok", "warn", "fail")}
    for fact in run.json["facts"]:
        assert set(fact) - {"bytes"} == {"group", "name", "status", "value", "meaning", "fix"}
        assert fact["status"] in ("ok", "warn") or fact["name"] == "gpus"
        assert fact["value"]
        assert fact["status"] == "ok" or fact["fix"], fact
    names = [(fact["group"], fact["name"]) for fact in run.json["facts"]]
    assert len(set(names)) == len(names)
    for group, fact_name in [("driver", "kernel"), ("memory", "real_ram"), ("memory", "egm"), ("memory", "cdmm"),
                             ("memory", "cgroup"), ("memory", "hugepages"), ("memory", "iomem"), ("pool", "host")]:
        assert (group, fact_name) in names
    pool = run.json["pool"]
    assert pool["host_bytes"] % (2 * MIB) == 0
    assert pool["host_bytes"] + pool["host_reserve_bytes"] <= pool["host_available_bytes"]


def test_gh200_egm_corrects_the_field_report(on_fixture):
    run = on_fixture("gh200-egm")
    assert run["node2"]["status"] == "warn"
    assert run["node2"]["value"].startswith("HBM, 95.0 GiB")
    assert "not RAM" in run["node2"]["meaning"] and "System RAM (NVIDIA)" in run["node2"]["meaning"]
    assert run["node0"]["value"].startswith("RAM, 7.9 GiB (8080 MiB)")
    assert run["real_ram"]["bytes"] == 8080 * MIB
    assert "95.0 GiB of that is HBM" in run["real_ram"]["meaning"]
    egm = run["egm"]
    assert egm["bytes"] == 472 * GIB
    assert egm["value"] == "about 472 GiB (estimated)"
    for part in ["480 GiB of LPDDR (dmidecode)", "estimate", "no file or driver call gives EGM's size",
                 "377 GiB and is wrong", "node 2 is HBM, not left-over LPDDR"]:
        assert part in egm["meaning"], part
    assert "numactl" not in run["node2"]["fix"]  # 8 GiB is too little to bind programs to
    pool = run.json["pool"]
    assert pool["egm"] and pool["estimated"]
    assert pool["host_bytes"] == 470 * GIB
    assert pool["gpus"][0]["total_bytes"] == 97871 * MIB + 470 * GIB


def test_restricted_iomem_says_so(on_fixture):
    run = on_fixture("gh200-egm-restricted")
    assert run["iomem"]["status"] == "warn"
    assert "zeros" in run["iomem"]["value"] and "root" in run["iomem"]["fix"]
    assert run["node2"]["value"].startswith("HBM")
    assert "the product name" in run["egm"]["meaning"]


def test_gh200_without_egm(on_fixture):
    run = on_fixture("gh200")
    assert run["egm"]["value"] == "off"
    assert run["cdmm"]["status"] == "warn" and run["cdmm"]["value"].startswith("off")
    assert run["node1"]["value"].startswith("HBM")
    assert "--membind=0" in run["node1"]["fix"]
    assert run["gpu0.link"]["value"].startswith("NVLink-C2C")
    assert run.json["pool"]["host_available_bytes"] == 479000 * MIB


def test_gh200_with_cdmm(on_fixture):
    run = on_fixture("gh200-cdmm")
    assert run["cdmm"]["status"] == "ok" and run["cdmm"]["value"].startswith("on")
    assert "NVreg_CoherentGPUMemoryMode=driver" in run["cdmm"]["meaning"]
    assert not [fact for fact in run.json["facts"] if fact["value"].startswith("HBM")]


def test_gb10_has_one_memory(on_fixture):
    run = on_fixture("gb10")
    assert run.json["pool"]["gpus"][0]["host_bytes"] == 0
    assert "no second tier" in [f for f in run.json["facts"] if f["group"] == "pool"][-1]["meaning"]
    assert "share one memory" in run["gpu0.link"]["value"]


def test_server_warns_of_the_narrow_link_and_hugepages(on_fixture):
    run = on_fixture("server-8gpu")
    assert [f["name"] for f in run.json["facts"] if f["name"].endswith(".link") and f["status"] == "warn"] == [
        "gpu2.link"]
    assert run["gpu2.link"]["value"] == "PCIe 5 x8, below its maximum of PCIe 5 x16"
    assert run["hugepages"]["status"] == "warn" and run["hugepages"]["bytes"] == GIB
    assert len(run.json["pool"]["gpus"]) == 8
    assert run["shared"]["bytes"] == run.json["pool"]["host_bytes"]


@pytest.mark.parametrize("name, version, left", [("container-cgroup2", 2, 28), ("container-cgroup1", 1, 12)])
def test_cgroup_limits_bind(on_fixture, name, version, left):
    run = on_fixture(name)
    assert run["cgroup"]["status"] == "warn"
    assert f"(version {version})" in run["cgroup"]["meaning"]
    assert run.json["pool"]["host_available_bytes"] == left * GIB
    assert "cgroup" in run.json["pool"]["host_limited_by"]


def test_no_gpu_offers_no_gpu_pool(on_fixture):
    run = on_fixture("no-gpu")
    assert run.json["pool"]["gpus"] == []
    assert run.status == 3
    assert [fact["name"] for fact in run.json["facts"] if fact["group"] == "gpu"] == ["gpus"]
    assert run["gpus"]["status"] == "fail" and "nvidia-smi.txt" in run["gpus"]["fix"]


def test_missing_sysroot_is_bad_input(doctor):
    run = doctor("--sysroot", "/nonexistent-sysroot")
    assert run.status == 2
    assert run.out == "" and "not a directory" in run.err and len(run.err.splitlines()) == 1


def test_empty_sysroot_warns_and_does_not_crash(doctor, tmp_path):
    run = doctor("--json", "--sysroot", tmp_path)
    assert run.status == 3
    assert run["real_ram"]["status"] == "warn" and run["host"]["status"] == "warn"
    assert run.json["pool"]["host_bytes"] == 0


@pytest.mark.parametrize("damage", [b"", b"\x00\xff\x1b[31m\n", b"9" * 70000], ids=["empty", "garbage", "huge"])
def test_damaged_files_never_crash(doctor, tmp_path, damage):
    tree = tmp_path / "tree"
    shutil.copytree(FIXTURES / "gh200-egm", tree)
    files = [path for path in tree.rglob("*") if path.is_file()]
    assert files
    for path in files:
        whole = path.read_bytes()
        for text in (damage, whole[: len(whole) // 2]):
            path.write_bytes(text)
            run = doctor("--json", "--sysroot", tree)
            assert run.status in (0, 3) and run.json, f"{path}: {run.err}"  # 3: the file with the only GPU
        path.write_bytes(whole)


def test_terminal_escapes_in_names_are_not_printed(doctor, tmp_path):
    (tmp_path / "nvidia-smi.txt").write_text(
        "|   0  NVIDIA \x1b[31mX   On  |   00000009:01:00.0 Off |\n| 1MiB / 1024MiB |\n")
    run = doctor("--sysroot", tmp_path)
    assert "NVIDIA ?[31mX" in run.out and "\x1b" not in run.out
