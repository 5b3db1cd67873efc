"""Shared by the tests of what users install."""

import os
import pathlib
import subprocess

import pytest

SOURCE = pathlib.Path(os.environ.get("GPUROOM_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[2]))
BUILD = os.environ.get("GPUROOM_BUILD_DIR")


def clean_environment(**variables):
    """This process's environment without what steers gpuroom, the loader and Python."""
    unwanted = ("GPUROOM_", "LD_", "PYTHON", "PIP_FIND_LINKS", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return {**kept, "HOME": "/nonexistent", **variables}


def run(*command, **options):
    """(exit status, both outputs) of a command."""
    options.setdefault("env", clean_environment())
    done = subprocess.run([*map(str, command)], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    return done.returncode, done.stdout


def passes(*command, **options):
    status, output = run(*command, **options)
    assert status == 0, f"{command}: {status}\n{output}"
    return output


def files_below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """What `make install` puts below PREFIX, from the build that is tested."""
    folder = tmp_path_factory.mktemp("prefix") / "usr"
    passes("bash", SOURCE / "scripts/install.sh", "install", folder, BUILD)
    return folder
