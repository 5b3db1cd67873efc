#!/usr/bin/env python3
"""Checks the Python package's types with mypy, as pyproject.toml says (strict)."""

import argparse
import os
import pathlib
import subprocess
import sys

PYTHONS = [sys.executable, "/usr/bin/python3"]  # one early in PATH may lack what the distribution's has


def with_mypy():
    """An interpreter that has mypy, or None."""
    for python in PYTHONS:
        try:
            if subprocess.run([python, "-c", "import mypy"], capture_output=True).returncode == 0:
                return python
        except OSError:
            pass
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    root = parser.parse_args().root.resolve()
    files = sorted((root / "python").rglob("*.py"))
    if not files:
        sys.exit(f"check_types: no Python files under {root / 'python'}, so nothing was checked")
    python = with_mypy()
    if python is None:
        sys.exit("check_types: mypy was not found; run 'make deps' or scripts/deps.sh lint")
    command = [python, "-m", "mypy", "--config-file", str(root / "pyproject.toml"), "--cache-dir", os.devnull]
    done = subprocess.run(command, cwd=root, text=True, capture_output=True)
    print(done.stdout + done.stderr, end="")
    print(f"check_types: {len(files)} files")
    return 1 if done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
