"""The gate for the Python package's types trips on a wrong type and on a missing one."""

import subprocess
import sys

import pytest

from conftest import SOURCE, Gate


def has_mypy():
    pythons = [sys.executable, "/usr/bin/python3"]
    return any(subprocess.run([python, "-c", "import mypy"], capture_output=True).returncode == 0 for python in pythons)


pytestmark = pytest.mark.skipif(not has_mypy(), reason="mypy is installed for 'make lint'")
gate = Gate("check_types.py")


@pytest.fixture
def package(write, tmp_path):
    """package(text) makes a tree whose package is one module."""

    def make(text):
        write("pyproject.toml", (SOURCE / "pyproject.toml").read_text())
        write("python/gpuroom/__init__.py", text)
        return "--root", tmp_path

    return make


def test_passes_what_is_right(package):
    gate.passes(*package("def double(x: int) -> int:\n    return 2 * x\n"))


def test_trips_on_a_wrong_type(package):
    gate.trips('Incompatible return value type (got "str", expected "int")',
               *package("def double(x: int) -> int:\n    return str(x)\n"))


def test_trips_on_a_missing_type(package):
    gate.trips("missing a type annotation", *package("def double(x):\n    return x\n"))


def test_says_when_there_is_nothing_to_check(tmp_path):
    gate.trips("nothing was checked", "--root", tmp_path)
