"""Shared by the tests of the command line: the built command, run in a clean environment."""

import atexit
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(__file__))

SOURCE = pathlib.Path(os.environ.get("GPUROOM_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[2]))
BUILD = pathlib.Path(os.environ.get("GPUROOM_BUILD_DIR", SOURCE / "build" / "dev"))
BINARY = pathlib.Path(os.environ.get("GPUROOM_BIN", BUILD / "bin" / "gpuroom"))
LIBRARIES = BINARY.resolve().parent.parent / "lib" / "gpuroom"
SIM = ("--sim", "1GiB,host=4GiB")


# For a test that puts the library into a program of this machine, which one built with a sanitizer cannot enter.
LEDGER = pathlib.Path(tempfile.gettempdir()) / f"gpuroom-cli-{os.getpid()}.ledger"
atexit.register(lambda: LEDGER.unlink(missing_ok=True))
preloads = pytest.mark.skipif("GPUROOM_SANITIZED" in os.environ, reason="the library has a sanitizer, the program none")


def clean_environment(**variables):
    """This process's environment without gpuroom's variables, and with those given."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GPUROOM_") and name not in ("LD_PRELOAD", "LD_LIBRARY_PATH")
    }
    kept["XDG_CACHE_HOME"] = "/nonexistent"  # what was measured on this machine decides no test
    kept.update(variables)
    return kept


def environment_of(arguments, variables):
    """Of a command. Tests that run at the same time have simulated machines of their own, whose GPUs have the same names,
    so they count in ledgers of their own. `env` would pass the ledger on. A run does not say what it offers, so that standard
    error is the program's alone, unless `variables` say otherwise."""
    ledger = {} if "env" in arguments else {"GPUROOM_LEDGER": str(LEDGER)}
    quiet = {"GPUROOM_QUIET": "1"} if arguments[:1] == ("run",) else {}
    return clean_environment(**{**ledger, **quiet, **(variables or {})})


class Gpuroom:
    """The command. Called with its arguments; keyword `env` adds variables."""

    binary = BINARY
    shim = LIBRARIES / "libgpuroom.so"
    sim_folder = LIBRARIES / "sim"
    # Where a musl loader is installed, LD_PRELOAD names the library so that glibc's loader alone finds it.
    musl = pathlib.Path(f"/lib/ld-musl-{platform.machine()}.so.1")
    preload = ("$ORIGIN" + "/.." * 32 if musl.exists() else "") + str(shim)

    def __call__(self, *arguments, env=None, **options):
        options.setdefault("timeout", 120)
        options.setdefault("stdin", subprocess.DEVNULL if "input" not in options else None)
        if "input" in options:
            options.pop("stdin")
        return subprocess.run(
            [str(BINARY), *map(str, arguments)],
            env=environment_of(arguments, env),
            text=True,
            capture_output=True,
            **options,
        )

    def start(self, *arguments, env=None, **options):
        return subprocess.Popen(
            [str(BINARY), *map(str, arguments)], env=environment_of(arguments, env), text=True, **options
        )

    def refuses(self, status, *words, arguments, **options):
        """The command ends with `status` and one sentence that has all `words`."""
        done = self(*arguments, **options)
        assert done.returncode == status, done
        assert done.stdout == ""
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("gpuroom: ")
        for word in words:
            assert word in lines[0]
        return lines[0]

    def plan(self, *arguments, **options):
        """What `run --dry-run --json` says of these arguments."""
        done = self("run", "--dry-run", "--json", *arguments, **options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def gpuroom():
    return Gpuroom()


@pytest.fixture
def script(tmp_path):
    """script("name", "text") writes an executable file and returns its path."""

    def write(name, text, mode=0o755):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return path

    return write


@pytest.fixture
def folder():
    """A short path: sockets' paths have at most 107 bytes."""
    path = f"/tmp/gpuroom-test-{os.getpid()}"
    shutil.rmtree(path, ignore_errors=True)
    yield path
    shutil.rmtree(path, ignore_errors=True)
