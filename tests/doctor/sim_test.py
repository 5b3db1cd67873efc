"""Doctor with a driver: simulated ones, none, and ones that fail."""
import pytest
from conftest import BUILD, FIXTURES

GIB = 1 << 30
REQUIRED = ["context", "device_chunk", "host_chunk", "mixed_range"]


@pytest.mark.parametrize("profile, count", [("h200", 1), ("gh200", 1), ("gh200-egm", 1), ("gb200", None), ("gb10", 1),
                                            ("rtx4090", 1), ("8xh200", 8), ("2x1GiB,host=4GiB", 2)])
def test_profiles_work(doctor, profile, count):
    run = doctor("--json", "--sim", profile, GPUROOM_SIM_STRICT="1")  # a leak would fail it
    assert run.status == 0, run.out + run.err
    assert run["simulated"]["value"] == profile
    gpus = run.json["pool"]["gpus"]
    assert len(gpus) == count if count else len(gpus) >= 1
    for gpu in range(len(gpus)):
        for feature in REQUIRED:
            assert run[f"gpu{gpu}.{feature}"]["status"] == "ok", run[f"gpu{gpu}.{feature}"]
        assert run[f"gpu{gpu}.export_fd"]["status"] in ("ok", "warn")
        assert run[f"gpu{gpu}.memory"]["bytes"] == gpus[gpu]["device_bytes"]


def test_coherent_profiles_have_c2c(doctor):
    assert "C2C" in doctor("--json", "--sim", "gh200")["gpu0.link"]["value"]
    assert "share one memory" in doctor("--json", "--sim", "gb10")["gpu0.link"]["value"]


@pytest.mark.parametrize("profile, host, egm", [("gh200-egm", 470 * GIB, True), ("gh200", 432 * GIB, False),
                                                ("1GiB,host=64GiB,nodes=2", (32 * GIB) * 9 // 10, False)])
def test_a_profile_brings_its_own_machine(doctor, profile, host, egm):
    """Nothing of the machine that the command runs on is mixed in."""
    run = doctor("--json", "--sim", profile)
    assert run.json["pool"]["host_bytes"] == host // (2 << 20) * (2 << 20)
    assert run.json["pool"]["egm"] == egm
    assert run["real_ram"]["bytes"] == {"gh200-egm": 8 * GIB, "gh200": 480 * GIB}.get(profile, 64 * GIB)
    assert run["cgroup"]["value"] == "no limit"


@pytest.mark.parametrize("profile, least, most", [("h200", 4500, 4600), ("gh200", 3600, 4023), ("gb200", 7000, 8184),
                                                  ("gb10", 230, 273), ("rtx4090", 900, 1008)])
def test_a_profile_has_the_speed_of_its_memory(doctor, profile, least, most):
    words = doctor("--json", "--sim", profile)["gpu0.speeds"]["value"].split()
    assert words[0] == "HBM" and least <= int(words[1].rstrip(",")) <= most


def test_a_profile_beside_a_sysroot_is_its_machine(doctor):
    run = doctor("--json", "--sim", "gh200-egm", "--sysroot", FIXTURES / "gh200-egm")
    assert run.status == 0
    assert run["gpu0.mixed_range"]["status"] == "ok"
    assert run["node2"]["value"].startswith("HBM")
    assert run["egm"]["bytes"] == 472 * GIB


def test_a_profile_from_the_environment_is_entered(doctor):
    run = doctor("--json", GPUROOM_SIM="3x1GiB,host=4GiB")
    assert run.status == 0, run.out + run.err
    assert run["simulated"]["value"] == "3x1GiB,host=4GiB"
    assert len(run.json["pool"]["gpus"]) == 3
    assert run["gpu0.mixed_range"]["status"] == "ok"


def test_a_sysroot_alone_stays_without_a_driver(doctor):
    run = doctor("--json", "--sysroot", FIXTURES / "gh200-egm", GPUROOM_SIM="1GiB,host=4GiB")
    names = {fact["name"] for fact in run.json["facts"]}
    assert "simulated" not in names and "gpu0.mixed_range" not in names


def test_peers_are_named(doctor):
    run = doctor("--json", "--sim", "2x1GiB,host=4GiB,peer=nvlink")
    assert run["gpu0.peers"]["value"].startswith("GPU 1")
    assert doctor("--json", "--sim", "2x1GiB,host=4GiB,peer=none")["gpu0.peers"]["value"] == "none reachable"


def test_unknown_profile_is_bad_input(doctor):
    run = doctor("--sim", "5XiB")
    assert run.status == 2
    assert run.out == ""
    (line,) = run.err.splitlines()
    assert "'5XiB' is not a profile" in line and "gb10" in line


def test_old_driver_is_a_sentence(doctor):
    run = doctor("--json", "--sim", "1GiB,host=4GiB,driver=12080")
    assert run.status == 3
    assert run["cuda"]["status"] == "fail"
    assert "older than CUDA 13.0" in run["cuda"]["meaning"] and "12.8" in run["cuda"]["meaning"]


def test_no_driver_is_a_sentence(doctor, tmp_path):
    # A libcuda.so.1 that is no library stands first, so that this holds on a
    # machine with a driver too: the loader stops at it.
    (tmp_path / "libcuda.so.1").write_text("not a library")
    run = doctor("--json", LD_LIBRARY_PATH=str(tmp_path))
    if run.status != 3:
        pytest.skip("this machine's own driver was found behind the broken one")
    assert run["cuda"]["status"] == "fail" and run["cuda"]["fix"]
    assert run["real_ram"]["value"]  # the host's facts are told all the same


def test_host_memory_that_is_refused_says_what_refuses_it(doctor):
    """The second chunk that is tried is the host's."""
    refused = {"NOT_PERMITTED": ["SYS_NICE", "seccomp"], "OUT_OF_MEMORY": ["NUMA node 0", "numactl --hardware"]}
    for error, words in refused.items():
        run = doctor("--json", "--sim", "1GiB,host=4GiB", GPUROOM_SIM_FAIL=f"cuMemCreate:2:CUDA_ERROR_{error}")
        assert run["gpu0.host_chunk"]["status"] == "fail" and error in run["gpu0.host_chunk"]["value"]
        for word in words:
            assert word in run["gpu0.host_chunk"]["fix"]
        assert "driver" not in run["gpu0.host_chunk"]["fix"]


@pytest.mark.parametrize("call, feature, others", [
    ("cuMemCreate:2", "host_chunk", "device_chunk"),
    ("cuMemCreate:1", "device_chunk", "host_chunk"),
    ("cuMemMap:4", "mixed_range", "host_chunk"),
    ("cuMemSetAccess:3", "mixed_range", "host_chunk"),
])
def test_a_feature_that_fails_is_named(doctor, call, feature, others):
    run = doctor("--json", "--sim", "1GiB,host=4GiB", GPUROOM_SIM_FAIL=call, GPUROOM_SIM_STRICT="1")
    assert run.status == 1
    assert "leak" not in run.err and "misuse" not in run.err
    failed = run[f"gpu0.{feature}"]
    assert failed["status"] == "fail"
    assert call.split(":")[0] in failed["value"] and "CUDA_ERROR_OUT_OF_MEMORY" in failed["value"]
    assert run[f"gpu0.{others}"]["status"] == "ok"  # cleaned up, so that the rest still works


def test_optional_features_only_warn(doctor):
    run = doctor("--json", "--sim", "1GiB,host=4GiB", GPUROOM_SIM_FAIL="cuMemExportToShareableHandle:1")
    assert run.status == 0
    assert run["gpu0.export_fd"]["status"] == "warn"


def test_any_failing_call_is_survived(doctor):
    statuses = set()
    for number in range(1, 60):
        run = doctor("--json", "--sim", "1GiB,host=4GiB", GPUROOM_SIM_FAIL=f"*:{number}")
        assert run.status in (0, 1, 2, 3), f"call {number}: {run.err}"
        statuses.add(run.status)
    assert {0, 1} <= statuses


def test_the_command_is_there():
    assert (BUILD / "bin" / "gpuroom").exists()
