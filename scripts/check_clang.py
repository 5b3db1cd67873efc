#!/usr/bin/env python3
"""Runs clang over our sources with the flags of a configured build.

    check_clang.py threads   thread-safety analysis (GUARDED_BY and friends) as errors, sim/ alone
    check_clang.py tidy      the same and clang-tidy with the checks of .clang-tidy, src/ alone

Reads compile_commands.json, so a source that no target compiles is not looked at.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

FOLDERS = {"threads": ["sim"], "tidy": ["src"]}
TOOL = {"threads": "clang++", "tidy": "clang-tidy"}


def sources(root, build, folders):
    """(source, its compile flags without compiler, output and input) for each source below the folders."""
    database = build / "compile_commands.json"
    if not database.is_file():
        sys.exit(f"check_clang: {database} does not exist; configure first: cmake --preset dev")
    seen = set()
    for entry in json.loads(database.read_text()):
        path = pathlib.Path(entry["directory"], entry["file"]).resolve()
        below = any(path.is_relative_to(root / folder) for folder in folders)
        if not below or path in seen or path.suffix != ".cc" or not path.is_file():
            continue
        seen.add(path)
        yield path, compile_flags(entry)


def compile_flags(entry):
    words = entry.get("arguments") or shlex.split(entry["command"])
    flags, skip = [], False
    for word in words[1:]:
        if skip or word in ("-c", entry["file"]):
            skip = False
        elif word in ("-o", "-MF", "-MT", "-MQ"):
            skip = True
        elif not word.startswith(("-W", "-MD", "-MMD")):
            flags.append(word)
    return flags


def command(what, build, path, flags):
    if what == "threads":
        return ["clang++", *flags, "-fsyntax-only", "-Wno-everything", "-Wthread-safety", "-Werror", str(path)]
    return ["clang-tidy", "--quiet", "-p", str(build), "--extra-arg=-Wno-unknown-warning-option",
            "--extra-arg=-Wthread-safety",
            "--warnings-as-errors=*", str(path)]


def run(words):
    done = subprocess.run(words, text=True, capture_output=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=sorted(TOOL))
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    parser.add_argument("--build", type=pathlib.Path, help="a configured build folder; default: build/dev")
    options = parser.parse_args()
    root = options.root.resolve()
    build = (options.build or root / "build/dev").resolve()
    if shutil.which(TOOL[options.what]) is None:
        sys.exit(f"check_clang: {TOOL[options.what]} was not found; run 'scripts/deps.sh lint'")

    work = list(sources(root, build, FOLDERS[options.what]))
    if not work:
        sys.exit(f"check_clang: {build} compiles no source of {root}, so nothing was checked")
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for output in pool.map(lambda job: run(command(options.what, build, *job)), work):
            if output:
                bad += 1
                print(output)
    print(f"check_clang {options.what}: {len(work)} files, {bad} with problems")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
