"""scripts/deps.sh asks for what is missing and for nothing else, and says what to do when it cannot."""

import os
import shutil

import pytest

from conftest import SOURCE, Gate

TOOLS = ["bash", "env", "dirname", "grep", "cat", "id", "echo", "mkdir", "rm", "sha256sum"]


class Machine:
    """A machine of our making: a PATH of its own, an os-release, a folder of headers."""

    def __init__(self, root, write):
        self.root, self.write = root, write
        self.gate = Gate("deps.sh")
        # The script works from its own folder's parent, so it gets a copy of its own.
        self.gate.script = write("scripts/deps.sh", (SOURCE / "scripts/deps.sh").read_text())
        self.system("debian")
        self.write("build/deps/cuda/include/cuda.h", "#define CUDA_VERSION 13000\n")
        (root / "bin").mkdir()
        for tool in TOOLS:
            if shutil.which(tool):
                (root / "bin" / tool).symlink_to(shutil.which(tool))
        self.command("apt-get", f'echo "$@" >> {root}/apt.log')
        self.command("id", "echo 0")

    def system(self, name):
        self.write("os-release", f"ID={name}\nNAME='{name} test'\n")

    def command(self, name, body):
        path = self.root / "bin" / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    def have(self, *names):
        for name in names:
            self.write(f"include/{name}") if name.endswith((".h", ".hpp")) else self.command(name, "exit 0")

    def environment(self):
        return {"PATH": str(self.root / "bin"), "GPUROOM_OS_RELEASE": str(self.root / "os-release"),
                "GPUROOM_SYSTEM_INCLUDE": str(self.root / "include"), "CUDA_HOME": str(self.root / "no-cuda")}

    def asked_for(self):
        log = self.root / "apt.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [word for line in lines if " install " in f" {line} " for word in line.split()
                if not word.startswith("-") and word != "install"]


@pytest.fixture
def machine(tmp_path, write):
    return Machine(tmp_path, write)


BUILD = ["g++", "cmake", "ninja", "python3", "nlohmann/json.hpp", "CLI/CLI.hpp", "fmt/format.h", "xxhash.h"]


def test_does_nothing_when_all_is_there(machine):
    machine.have(*BUILD)
    machine.gate.passes("build", env=machine.environment())
    assert machine.gate.output == "" and machine.asked_for() == []


def test_asks_for_only_what_is_missing_and_says_so(machine):
    machine.have(*(name for name in BUILD if name not in ("cmake", "fmt/format.h")))
    machine.gate.passes("build", env=machine.environment())
    assert machine.asked_for() == ["cmake", "libfmt-dev"]
    assert "installing with apt-get: cmake libfmt-dev" in machine.gate.output


def test_asks_for_nothing_of_another_purpose(machine):
    machine.gate.passes("build", env=machine.environment())
    assert sorted(machine.asked_for()) == ["cmake", "g++", "libcli11-dev", "libfmt-dev",
                                           "libxxhash-dev", "ninja-build", "nlohmann-json3-dev", "python3"]


def test_benchmarks_alone_ask_for_valgrind(machine):
    machine.have(*BUILD)
    machine.gate.passes("build", "bench", env=machine.environment())
    assert machine.asked_for() == ["valgrind"]


@pytest.mark.parametrize("purpose", ["test", "wheel"])
@pytest.mark.parametrize("place", ["include/python3.11/Python.h", "elsewhere/Python.h"])
def test_tests_and_the_wheel_ask_for_pythons_headers(machine, purpose, place):
    machine.command("python3", f'[[ $2 != *sysconfig* ]] || echo "{machine.root}/elsewhere"')
    machine.gate.passes(purpose, env=machine.environment())
    assert "python3-dev" in machine.asked_for()
    (machine.root / "apt.log").unlink()
    machine.write(place)
    machine.gate.passes(purpose, env=machine.environment())
    assert "python3-dev" not in machine.asked_for()


def test_fuzzing_asks_for_clang_and_for_its_runtime_once_clang_is_there(machine):
    machine.have(*BUILD)
    machine.command("clang++.later", f'[[ $1 == -dumpversion ]] && echo 14.0.6 || echo "{machine.root}/runtime"')
    link = shutil.which("ln")
    machine.command("apt-get", f'echo "$@" >> {machine.root}/apt.log; {link} -sf clang++.later {machine.root}/bin/clang++')
    machine.gate.passes("build", "fuzz", env=machine.environment())
    assert machine.asked_for() == ["clang", "libclang-rt-14-dev"]
    machine.write("runtime/libclang_rt.fuzzer-x86_64.a")
    (machine.root / "apt.log").unlink()
    machine.gate.passes("build", "fuzz", env=machine.environment())
    assert machine.asked_for() == []


def test_goes_through_sudo_when_not_root(machine):
    machine.have(*BUILD)
    (machine.root / "bin/cmake").unlink()
    machine.command("id", "echo 1000")
    machine.command("sudo", f'echo "sudo $@" >> {machine.root}/sudo.log; "$@"')
    machine.gate.passes("build", env=machine.environment())
    assert "installing with sudo apt-get: cmake" in machine.gate.output
    assert len((machine.root / "sudo.log").read_text().splitlines()) == 2  # update and install
    assert machine.asked_for() == ["cmake"]


def test_says_what_to_do_with_neither_root_nor_sudo(machine):
    machine.have(*BUILD)
    (machine.root / "bin/cmake").unlink()
    machine.command("id", "echo 1000")
    machine.gate.trips("not root and no sudo; ask an administrator to run: apt-get install cmake", "build",
                       env=machine.environment())


def test_says_what_to_do_on_another_distribution(machine):
    machine.system("fedora")
    machine.gate.trips("neither Debian nor Ubuntu", "build", env=machine.environment())
    assert "cmake" in machine.gate.output and machine.asked_for() == []


def test_knows_derived_distributions(machine):
    machine.write("os-release", 'ID=linuxmint\nID_LIKE="ubuntu debian"\n')
    machine.gate.passes("build", env=machine.environment())
    assert "cmake" in machine.asked_for()


def test_trips_when_apt_fails(machine):
    machine.command("apt-get", '[[ " $* " != *" install "* ]]')
    machine.gate.trips("apt-get install failed", "build", env=machine.environment())


def test_refuses_an_unknown_purpose(machine):
    machine.gate.trips("unknown purpose 'tests'; use build, test, lint, wheel, nightly, arm64, bench, fuzz, clusters, "
                       "containers or docs", "tests",
                       env=machine.environment())


@pytest.mark.skipif(os.environ.get("GPUROOM_SOURCE_DIR") is None, reason="runs from ctest, after make deps")
def test_finds_nothing_missing_on_this_machine():
    gate = Gate("deps.sh")
    gate.passes("build", "test")
    assert gate.output == ""
