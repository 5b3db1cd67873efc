#!/usr/bin/env python3
"""Checks that every header compiles alone, and those of include/ also as C11.

A header that its own source includes before all else compiles alone in every build already; only the
others are compiled here.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys

FOLDERS = ["include", "src", "sim", "samples", "tests", "bench"]
WARNINGS = ["-Wall", "-Wextra", "-Werror"]


def compile_alone(root, build, header, compiler, language):
    """The compiler's complaint about a source that holds nothing but this include, or ""."""
    standard = "-std=c11" if language == "c" else "-std=c++20"
    folders = [root, *(root / name for name in ("src", "include", "sim", "tests/shim"))]
    paths = [*(f"-I{folder}" for folder in folders), "-isystem", f"{build}/headers"]
    command = [compiler, "-x", language, standard, "-fsyntax-only", "-DFMT_HEADER_ONLY", *WARNINGS, *paths, "-"]
    done = subprocess.run(command, input=f'#include "{header}"\n', text=True, capture_output=True, cwd=root)
    return done.stderr if done.returncode else ""


def first_in_its_source(header):
    """Whether the source of the same name includes this header first."""
    source = header.with_suffix(".cc")
    first = re.search(r'^\s*#\s*include\s*[<"](.+)[>"]', source.read_text(), re.M) if source.is_file() else None
    return first is not None and header.as_posix().endswith("/" + first.group(1))


def jobs(root):
    for folder in FOLDERS:
        for header in sorted((root / folder).rglob("*.h")):
            if not first_in_its_source(header):
                yield header, "c++"
            if folder == "include":
                yield header, "c"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    parser.add_argument("--build", type=pathlib.Path, help="a configured build folder; default: build/dev")
    options = parser.parse_args()
    root = options.root.resolve()
    build = (options.build or root / "build/dev").resolve()
    compilers = {"c++": os.environ.get("CXX", "g++"), "c": os.environ.get("CC", "gcc")}
    for compiler in compilers.values():
        if shutil.which(compiler) is None:
            sys.exit(f"check_headers: {compiler} was not found; run 'make deps'")

    work = list(jobs(root))
    if not work:
        sys.exit(f"check_headers: no headers under {root}, so nothing was checked")
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = [(header, language, pool.submit(compile_alone, root, build, header, compilers[language], language))
                for header, language in work]
        for header, language, run in runs:
            if run.result():
                bad += 1
                print(f"{header.relative_to(root)}: does not compile alone as {language}:\n{run.result()}")
    print(f"check_headers: {len(work)} compilations, {bad} problems")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
