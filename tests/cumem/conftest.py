"""Shared by the tests of cumem_allocator: programs in processes of their own, on either simulated driver."""

import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

SOURCE = pathlib.Path(os.environ.get("GPUROOM_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[2]))
BUILD = pathlib.Path(os.environ.get("GPUROOM_BUILD_DIR", SOURCE / "build" / "dev"))
LIBRARIES = BUILD / "lib" / "gpuroom"
HERE = pathlib.Path(__file__).resolve().parent

PRELUDE = """
from stand_in import *
"""


class Program:
    """Runs Python programs that have `stand_in` (the simulated GPU, and a Pool as vLLM keeps one) at hand."""

    def __init__(self, backend):
        self.backend = backend

    def __call__(self, text, command=(), prelude=PRELUDE, **variables):
        kept = {name: value for name, value in os.environ.items()
                if not name.startswith(("GPUROOM_", "VLLM_")) and name not in ("LD_PRELOAD", "LD_LIBRARY_PATH")}
        folders = [LIBRARIES / "sim"] if self.backend == "cuda" else [LIBRARIES / "sim" / "hip"]
        environment = {**kept, "LD_LIBRARY_PATH": ":".join(map(str, folders)), "GPUROOM_SIM": "2x1GiB,host=1GiB",
                       "PYTHONPATH": f"{LIBRARIES / 'python'}:{HERE}:{SOURCE / 'python'}", "STAND_IN": self.backend,
                       **variables}
        return subprocess.run([*map(str, command), sys.executable, "-B", "-c", prelude + textwrap.dedent(text)],
                              env=environment, text=True, capture_output=True, timeout=240)

    def passes(self, text, **options):
        """What it printed on standard error; the GPU has to be as empty and as well treated as it was."""
        done = self(textwrap.dedent(text) + "\nsim.check()\nprint('done')\n", **options)
        assert done.returncode == 0 and done.stdout.endswith("done\n"), done.stdout + done.stderr
        return done.stderr


@pytest.fixture(params=["cuda", "hip"])
def program(request):
    return Program(request.param)


@pytest.fixture
def cuda():
    return Program("cuda")


@pytest.fixture
def hip():
    return Program("hip")
