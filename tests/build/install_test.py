"""What `make install` puts below a prefix is what the command looks for beside itself."""

import os
import pathlib
import subprocess

import pytest

BUILD = os.environ.get("GPUROOM_BUILD_DIR")
pytestmark = pytest.mark.skipif(BUILD is None, reason="needs a build: run it through ctest")


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prefix")
    done = subprocess.run(["cmake", "--install", BUILD, "--prefix", folder], text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_installs_the_parts_and_nothing_else(prefix):
    files = {p.relative_to(prefix).as_posix() for p in prefix.rglob("*") if not p.is_dir()}
    # Where Python's headers are, as everywhere after `make deps`.
    assert {name for name in files if not name.startswith("include/gpuroom/")} == {
        "lib/gpuroom/python/cumem_allocator.abi3.so",
        "bin/gpuroom", "lib/gpuroom/libgpuroom.so", "lib/gpuroom/libgpuroom_compat.so", "lib/gpuroom/gpuroom-demo",
        "share/gpuroom/plot_results.py", "share/gpuroom/plot_tiers.py", "share/gpuroom/plot_sleep.py",
        "lib/gpuroom/sim/libcuda.so.1", "lib/gpuroom/sim/libnvidia-ml.so.1"}
    assert "include/gpuroom/gpuroom.h" in files


def test_libraries_are_files_and_no_links(prefix):
    assert not [p for p in prefix.rglob("*") if p.is_symlink()]


def test_the_installed_command_runs(prefix):
    done = subprocess.run([prefix / "bin/gpuroom", "--version"], text=True, capture_output=True)
    assert done.returncode == 0 and done.stdout.startswith("gpuroom "), done.stdout + done.stderr


def test_the_installed_command_finds_its_own_libraries(prefix):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GPUROOM_", "LD_"))}
    done = subprocess.run([prefix / "bin/gpuroom", "run", "--sim", "1GiB,host=1GiB", "--host-limit", "64MiB", "--",
                           "/bin/sh", "-c", 'echo "$LD_PRELOAD $LD_LIBRARY_PATH"'], text=True, capture_output=True,
                          env=environment)
    assert done.returncode == 0, done.stderr
    preload, search = done.stdout.split()
    assert pathlib.Path(preload) == prefix / "lib/gpuroom/libgpuroom.so"
    assert pathlib.Path(search.split(":")[0]) == prefix / "lib/gpuroom/sim"
