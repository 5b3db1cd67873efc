"""Shared by the tests of the Python package: the package from the source tree, the built library, clean processes."""

import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

SOURCE = pathlib.Path(os.environ.get("GPUROOM_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[2]))
BUILD = pathlib.Path(os.environ.get("GPUROOM_BUILD_DIR", SOURCE / "build" / "dev"))
PACKAGE = SOURCE / "python"
LIBRARY = BUILD / "lib" / "gpuroom" / "libgpuroom.so"
COMMAND = BUILD / "bin" / "gpuroom"
SIM = "1GiB,host=4GiB"

sys.path.insert(0, str(PACKAGE))
sys.path.insert(0, os.path.dirname(__file__))


def clean_environment(**variables):
    """This process's environment without gpuroom's variables, with the package in the path, and with those given."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GPUROOM_") and name not in ("LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH")
    }
    return {**kept, "PYTHONPATH": str(PACKAGE), "XDG_CACHE_HOME": "/nonexistent", "GPUROOM_QUIET": "1", **variables}


class Python:
    """Python programs in processes of their own, since the library is loaded once in each. They share `ledger`, and not what tests
    beside them take of the node's host memory."""

    def __init__(self, ledger):
        self.ledger = ledger

    def __call__(self, program, *arguments, env=None, command=()):
        return subprocess.run([*map(str, command), sys.executable, "-B", "-c", textwrap.dedent(program), *arguments],
                              env=clean_environment(**{"GPUROOM_LEDGER": str(self.ledger), **(env or {})}), text=True,
                              capture_output=True, timeout=120)  # fmt: skip

    def passes(self, program, *arguments, **options):
        """The program's output; it has to end well and say nothing on standard error."""
        done = self(program, *arguments, **options)
        assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
        return done.stdout

    def under_gpuroom(self, program, *options, env=None):
        """The same under `gpuroom run` on the simulated driver."""
        limits = ("--hbm-limit", "256MiB", "--host-limit", "512MiB", *options)
        return self.passes(program, command=(COMMAND, "run", "--sim", SIM, *limits, "--"), env=env)

    def dlopened(self, program, **variables):
        """The same with the library loaded by the package, on the simulated driver."""
        folder = str(LIBRARY.parent / "sim")
        return self.passes(program, env={"LD_LIBRARY_PATH": folder, "GPUROOM_SIM": SIM,
                                         "GPUROOM_LIBRARY": str(LIBRARY), **variables})


@pytest.fixture
def python(tmp_path):
    return Python(tmp_path / "ledger")
