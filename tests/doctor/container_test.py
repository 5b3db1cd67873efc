"""What doctor says of a container: what the engine keeps from programs, and how to have it otherwise."""

import shutil

import pytest
from conftest import FIXTURES

MIB = 1 << 20
SHM = "819 814 0:119 / /dev/shm rw,nosuid,nodev,noexec,relatime - tmpfs shm rw,size=65536k,inode64\n"
SYS_NICE = 1 << 23


@pytest.fixture
def container(doctor, tmp_path):
    """container(change) looks at Docker with its defaults, once `change` has altered its files."""

    def look(change=lambda tree: None):
        tree = tmp_path / "tree"
        shutil.copytree(FIXTURES / "container-docker", tree)
        change(tree)
        run = doctor("--json", "--sysroot", tree)
        assert run.status == 0, run.err
        return run

    return look


def alters(path, old, new):
    def change(tree):
        text = (tree / path).read_text()
        assert old in text
        (tree / path).write_text(text.replace(old, new))

    return change


def names(run):
    return {fact["name"] for fact in run.json["facts"] if fact["group"] == "container"}


def test_docker_s_defaults_warn_of_three_things(container):
    run = container()
    assert run["container"]["value"] == "Docker"
    assert run["numa_calls"]["status"] == "warn" and "--cap-add SYS_NICE" in run["numa_calls"]["fix"]
    assert run["shm"]["status"] == "warn" and run["shm"]["bytes"] == 64 * MIB and "--shm-size" in run["shm"]["fix"]
    assert run["ledger"]["status"] == "warn" and "GPUROOM_LEDGER" in run["ledger"]["fix"]
    assert run["cgroup"]["status"] == "warn" and "--memory" in run["cgroup"]["fix"]


def test_no_container_has_no_such_facts(on_fixture):
    for name in "server-8gpu", "gh200-egm", "no-gpu":
        assert not names(on_fixture(name))


def test_the_capability_is_enough(container):
    run = container(alters("proc/self/status", "CapBnd:\t00000000a80425fb", f"CapBnd:\t{0xa80425fb | SYS_NICE:016x}"))
    assert run["numa_calls"]["status"] == "ok"


def test_no_filter_is_enough(container):
    assert container(alters("proc/self/status", "Seccomp:\t2", "Seccomp:\t0"))["numa_calls"]["status"] == "ok"


def test_more_room_in_dev_shm(container):
    run = container(alters("proc/self/mountinfo", "tmpfs shm rw,size=65536k", "tmpfs shm rw,size=8388608k"))
    assert run["shm"]["status"] == "ok" and run["shm"]["bytes"] == 8192 * MIB
    assert run["ledger"]["status"] == "warn"  # it still is the container's own


def test_the_host_s_dev_shm_holds_a_common_ledger(container):
    run = container(alters("proc/self/mountinfo", "tmpfs shm rw,size=65536k,inode64", "tmpfs tmpfs rw,inode64"))
    assert run["shm"]["status"] == "ok"
    assert run["ledger"]["status"] == "ok" and "/dev/shm" in run["ledger"]["meaning"]


def test_dev_shm_on_the_container_s_disk(container):
    run = container(alters("proc/self/mountinfo", SHM, ""))
    assert run["shm"]["status"] == "warn" and "tmpfs" in run["shm"]["fix"]
    assert run["ledger"]["status"] == "warn"


def kubernetes(tree):
    (tree / ".dockerenv").unlink()
    (tree / "run/secrets/kubernetes.io/serviceaccount").mkdir(parents=True)


def podman(tree):
    (tree / ".dockerenv").unlink()
    (tree / "run").mkdir()
    (tree / "run/.containerenv").write_text('engine="podman-4.3.1"\n')


@pytest.mark.parametrize("change, engine, words", [
    (kubernetes, "Kubernetes", ["securityContext", "emptyDir", "hostPath"]),
    (podman, "Podman", ["--cap-add", "--shm-size", "--volume"]),
    (lambda tree: (tree / ".dockerenv").unlink(), "yes", ["--cap-add", "--shm-size", "--volume"]),
])  # fmt: skip
def test_each_engine_is_told_in_its_own_words(container, change, engine, words):
    run = container(change)
    assert run["container"]["value"] == engine
    for name, word in zip(("numa_calls", "shm", "ledger"), words):
        assert word in run[name]["fix"]


@pytest.mark.parametrize("text", ["", "\n", "819 814\n", "819 814 0:119 / /dev/shm rw - tmpfs\n", "a b c d /dev/shm f -\n",
                                  SHM.replace("65536k", "99999999999999999999999k"), SHM.replace("65536k", "-1k")])  # fmt: skip
def test_a_broken_list_of_mounts_is_survived(container, text):
    run = container(lambda tree: (tree / "proc/self/mountinfo").write_text(text))
    assert {"container", "numa_calls", "shm", "ledger"} <= names(run)
