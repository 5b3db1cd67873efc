#!/usr/bin/env python3
"""Checks that no file of the project holds words that do not belong in it.

Those are places that only its author's machine has, such as an absolute path
into a home or work folder, a private address, or the host of a private package
mirror: they break for everybody else and tell what nobody needs to know. And
the name that the project had before it was gpuroom: packages on PyPI have that
name, so only the history of the project, and lines about those packages, say it.
"""

import argparse
import pathlib
import re
import subprocess
import sys

START = r"(?<![\w.)}\]$*-])"  # an absolute path, not the middle of a relative one
PATTERNS = {
    "a path of one machine": re.compile(
        START + r"/(?:work|workspace|root|home/[\w.-]+|Users/[\w.-]+|mnt/[\w.-]+)/(?=[\w.$*{-])"),
    "a private address": re.compile(
        r"(?<![\w.])(?:10\.\d{1,3}|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d{1,3}\.\d{1,3}(?![\w.]\d)"),
    "a private host": re.compile(r"\b[a-z0-9][a-z0-9-]*\.(?:internal|corp|intranet|lan|localdomain)\b(?![(\w])", re.I),
    "a package mirror": re.compile(
        r"(?:\b(?:extra-)?index-url\b|PIP_INDEX_URL|GOPROXY|npm_config_registry)\s*[= ]\s*[\"']?http", re.I),
    "credentials in a URL": re.compile(r"\bhttps?://[^\s/@:\"']+:[^\s/@\"']+@"),
}


OLD_NAME = re.compile("head" + "room", re.I)
OLD_NAME_FILES = re.compile(r"CHANGELOG\.md|docs/measurements(\.md|/.*)")  # commands as they were run, and history
OTHER_PACKAGES = re.compile("PyPI|sam_head" + "room|head" + "room-ai")


def tracked_files(root):
    done = subprocess.run(["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                          capture_output=True)
    if done.returncode != 0:
        sys.exit(f"check_words: {root} is no git checkout: {done.stderr.decode().strip()}")
    return [root / name for name in done.stdout.decode().split("\0") if name]


def check_file(root, path):
    try:
        text = path.read_text()
    except (UnicodeDecodeError, OSError):
        return []  # binary, or gone
    name = path.relative_to(root).as_posix()
    found = [f"{name}:{number}: {what}: {match.group(0)}"
             for number, line in enumerate(text.splitlines(), 1)
             for what, pattern in PATTERNS.items()
             for match in pattern.finditer(line)]
    if OLD_NAME.search(name):
        found.append(f"{name}: the project's old name in a file's name")
    if not OLD_NAME_FILES.fullmatch(name):
        found += [f"{name}:{number}: the project's old name: {line.strip()}"
                  for number, line in enumerate(text.splitlines(), 1)
                  if OLD_NAME.search(line) and not OTHER_PACKAGES.search(line)]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    root = parser.parse_args().root.resolve()
    files = tracked_files(root)
    if not files:
        sys.exit(f"check_words: no files in {root}, so nothing was checked")
    problems = [problem for path in files for problem in check_file(root, path)]
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"check_words: {len(files)} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
