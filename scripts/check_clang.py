#!/usr/bin/env python3
"""Runs clang over our sources with the flags of a configured build.

    check_clang.py threads   thread-safety analysis (GUARDED_BY and friends) as errors, sim/ alone
    check_clang.py tidy      the same and clang-tidy with the checks of .clang-tidy, src/ alone

Reads compile_commands.json, so a source that no target compiles is not looked at.

Nearly all of clang's time goes into the headers, so sources with the same flags are checked as one text, a tenth of
the work. A group with anything to say, be it that two of its sources define one name, is checked again source by
source, and only that counts.
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
import tempfile

FOLDERS = {"threads": ["sim"], "tidy": ["src"]}
TOOL = {"threads": "clang++", "tidy": "clang-tidy"}
GROUP = 12


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
    words = words[next(i for i, word in enumerate(words) if word.startswith("-")):]  # a launcher, then the compiler
    flags, skip = [], False
    for word in words:
        if skip or word in ("-c", entry["file"]):
            skip = False
        elif word in ("-o", "-MF", "-MT", "-MQ", "-include"):  # -include: g++'s precompiled header
            skip = True
        elif not word.startswith(("-W", "-MD", "-MMD")):
            flags.append(word)
    return flags


def groups(work):
    """Lists of at most GROUP sources of one folder with the same flags, and these flags."""
    same = {}
    for path, flags in work:
        same.setdefault((path.parent, *flags), []).append(path)
    for (_, *flags), paths in same.items():
        for first in range(0, len(paths), GROUP):
            yield paths[first:first + GROUP], flags


def command(what, root, path, flags):
    if what == "threads":
        return ["clang++", *flags, "-fsyntax-only", "-Wno-everything", "-Wthread-safety", "-Werror", str(path)]
    return ["clang-tidy", "--quiet", f"--config-file={root / '.clang-tidy'}", "--warnings-as-errors=*", str(path), "--",
            *flags, "-Wno-unknown-warning-option", "-Wthread-safety"]


def run(words):
    done = subprocess.run(words, text=True, capture_output=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def check_group(what, root, paths, flags):
    """What clang says about each source that it has something to say about."""
    if len(paths) > 1:
        # One text, not #includes of the sources: some checks look at the main file alone.
        with tempfile.NamedTemporaryFile("w", suffix=".cc") as together:
            together.write("\n".join(path.read_text() for path in paths))
            together.flush()
            output = run(command(what, root, together.name, [*flags, f"-I{paths[0].parent}"]))
        if not output:
            return []
        first = next((line for line in output.splitlines() if "error:" in line), output)
        print(f"check_clang: one by one, which takes longer: {paths[0]} and {len(paths) - 1} more: {first}")
    return [output for output in (run(command(what, root, path, flags)) for path in paths) if output]


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
        for outputs in pool.map(lambda group: check_group(options.what, root, *group), groups(work)):
            bad += len(outputs)
            for output in outputs:
                print(output)
    print(f"check_clang {options.what}: {len(work)} files, {bad} with problems")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
