"""Runs the built `gpuroom doctor` and reads its JSON."""
import json
import os
import pathlib
import subprocess

import pytest

BUILD = pathlib.Path(os.environ["GPUROOM_BUILD_DIR"])
FIXTURES = pathlib.Path(os.environ["GPUROOM_SOURCE_DIR"]) / "tests" / "fixtures"


class Doctor:
    """One run: status, texts, and the facts by name."""

    def __init__(self, *arguments, **environment):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("GPUROOM_SIM", "LD_"))}
        done = subprocess.run([BUILD / "bin" / "gpuroom", "doctor", *map(str, arguments)], capture_output=True,
                              text=True, errors="replace", timeout=120, env={**clean, **environment}, check=False)
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr
        self.json = json.loads(done.stdout) if "--json" in arguments and done.stdout else None

    def __getitem__(self, name):
        found = [fact for fact in self.json["facts"] if fact["name"] == name]
        assert len(found) == 1, f"{name}: {found or [f['name'] for f in self.json['facts']]}"
        return found[0]


@pytest.fixture
def doctor():
    return Doctor


@pytest.fixture
def on_fixture():
    return lambda name: Doctor("--json", "--sysroot", FIXTURES / name)
