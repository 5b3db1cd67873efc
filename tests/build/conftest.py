"""Shared by the tests of the gates: each gate runs over a small tree made for it."""

import os
import pathlib
import subprocess
import sys

import pytest

SOURCE = pathlib.Path(os.environ.get("GPUROOM_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[2]))


class Gate:
    """Runs a script of the project and keeps what it said."""

    def __init__(self, script):
        self.script = SOURCE / "scripts" / script

    def run(self, *arguments, **options):
        start = [sys.executable] if self.script.suffix == ".py" else ["bash"]
        done = subprocess.run([*start, str(self.script), *map(str, arguments)], text=True, capture_output=True,
                              **options)
        self.output = done.stdout + done.stderr
        return done.returncode

    def passes(self, *arguments, **options):
        assert self.run(*arguments, **options) == 0, self.output

    def trips(self, text, *arguments, **options):
        assert self.run(*arguments, **options) == 1, self.output
        assert text in self.output


@pytest.fixture
def write(tmp_path):
    """write("src/base/a.h", "text") puts a file into the small tree."""

    def write_file(name, text=""):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write_file
