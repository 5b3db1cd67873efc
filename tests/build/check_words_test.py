"""The words gate trips on places that only one machine has, and on the project's old
name. The bad words are put together here, so that this file itself passes the gate."""

import subprocess

import pytest

from conftest import Gate

gate = Gate("check_words.py")


@pytest.fixture
def checkout(write, tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    write("README.md", "See /usr/include, /etc/os-release, build/root/x, $HOME/work/x and docs/work/a.md.\n"
                       "Driver 580.159.04, version 13.0.96, https://docs.nvidia.com/cuda and /home/ alone.\n")
    return tmp_path


def test_passes_on_ordinary_text(checkout):
    gate.passes("--root", checkout)
    assert "1 files, 0 problems" in gate.output


@pytest.mark.parametrize("text", [
    "/" + "work/main/src", "'/" + "root/.cache'", "PATH=/" + "root/bin", "/home/" + "alice/src", "/Users/" + "bob/x",
    "10.1" + ".2.3", "192.168" + ".0.1", "http://pypi.example." + "internal/simple", "mirror." + "corp",
    "--index-url " + "https://mirror.example.org/simple", "PIP_INDEX_URL=" + "https://mirror.example.org",
    "https://user:" + "secret@example.org/x",
])
def test_trips_on(checkout, write, text):
    write("notes.txt", f"first line\nsee {text} for it\n")
    gate.trips("notes.txt:2:", "--root", checkout)


OLD_NAME = "head" + "room"


@pytest.mark.parametrize("text", [f"{OLD_NAME} run", f"{OLD_NAME.upper()}_LOG=info", f"lib{OLD_NAME}.so", OLD_NAME.title()])
def test_trips_on_the_old_name(checkout, write, text):
    write("notes.txt", f"first line\nsee {text} for it\n")
    gate.trips("notes.txt:2:", "--root", checkout)


def test_trips_on_a_file_of_the_old_name(checkout, write):
    write(f"include/{OLD_NAME}.h", "int x;\n")
    gate.trips(f"include/{OLD_NAME}.h:", "--root", checkout)


def test_lets_history_and_other_packages_have_the_old_name(checkout, write):
    write("CHANGELOG.md", f"Was called {OLD_NAME}.\n")
    write("docs/measurements.md", f"{OLD_NAME} run -- true\n")
    write("docs/measurements/2026.json", f'"{OLD_NAME}"\n')
    write("docs/install.md", f"Not the {OLD_NAME}-ai package, nor {OLD_NAME} on PyPI.\n")
    gate.passes("--root", checkout)


def test_leaves_ignored_files_alone(checkout, write):
    write(".gitignore", "/build/\n")
    write("build/cache.txt", "/" + "work/main\n")
    gate.passes("--root", checkout)


def test_trips_outside_a_checkout(tmp_path):
    gate.trips("is no git checkout", "--root", tmp_path)
