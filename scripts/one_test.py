#!/usr/bin/env python3
"""Builds what one test needs, and runs it in each of the environments that ctest gives it.

    one_test.py MoveTest.WhatMovedCanStillBeExported     a test of GoogleTest; * and ? stand for more than one
    one_test.py test_every_option_has_a_line             a function of a Python test
    one_test.py shim_moves                               a test as ctest names it

Exits with 1 where the test fails, and 2 where there is none of that name.
"""

from __future__ import annotations

import argparse
import enum
import fnmatch
import json
import os
import pathlib
import subprocess
import sys
from typing import Any, Dict, Iterator, List, Tuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILTER = "--gtest_filter="


def build(folder: pathlib.Path, target: str) -> None:
    done = subprocess.run(["cmake", "--build", str(folder), "--target", target], text=True, stdout=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\none_test: {target} does not compile")


class Chosen(enum.Enum):
    """What a test's own filter, as GoogleTest reads it, says of a name."""

    NO = 0
    AMONG_ALL = 1  # it has no filter
    BY_NAME = 2


def chosen(command: List[str], name: str) -> Chosen:
    given = next((word[len(FILTER) :] for word in command if word.startswith(FILTER)), "*")
    take, _, leave = given.partition("-")
    if not among(name, take or "*") or (leave and among(name, leave)):
        return Chosen.NO
    return Chosen.AMONG_ALL if take in ("", "*") else Chosen.BY_NAME


def among(name: str, patterns: str) -> bool:
    return any(fnmatch.fnmatchcase(name, one) or fnmatch.fnmatchcase(one, name) for one in patterns.split(":"))


def properties(test: Dict[str, Any]) -> Dict[str, Any]:
    return {each["name"]: each["value"] for each in test.get("properties", [])}


def environment(test: Dict[str, Any]) -> Dict[str, str]:
    return dict(os.environ, **dict(line.split("=", 1) for line in properties(test).get("ENVIRONMENT", [])))


def has(test: Dict[str, Any], name: str) -> bool:
    """Whether the program of a test knows tests that `name` stands for."""
    done = subprocess.run([test["command"][0], FILTER + name, "--gtest_list_tests"], text=True, env=environment(test),
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
    return any(line.startswith("  ") for line in done.stdout.splitlines())


Match = Tuple[Dict[str, Any], List[str]]  # a test of ctest's, and the command that runs what was asked for


def matching(tests: List[Dict[str, Any]], name: str, folder: pathlib.Path) -> Iterator[Match]:
    """Each test of ctest's that runs what is called `name`, and the command that runs nothing else: of the first kind of name
    under which there is one, so that no more programs are built than have to be."""
    tests = [test for test in tests if test.get("command")]
    for kind in (named_by_ctest, named_by_python, named_by_filter, named_by_program):
        found = False
        for match in kind(tests, name, folder):
            found = True
            yield match
        if found:
            return


def named_by_ctest(tests: List[Dict[str, Any]], name: str, folder: pathlib.Path) -> Iterator[Match]:
    for test in [test for test in tests if test["name"] == name]:
        build(folder, target(test, folder) or "gpuroom_product")
        yield test, test["command"]


def named_by_python(tests: List[Dict[str, Any]], name: str, folder: pathlib.Path) -> Iterator[Match]:
    for test in [test for test in tests if test["command"][-1].endswith(".py")]:
        if f"def {name}(" in pathlib.Path(test["command"][-1]).read_text():
            build(folder, "gpuroom_product")
            yield test, [*test["command"], "-k", name]


def named_by_filter(tests: List[Dict[str, Any]], name: str, folder: pathlib.Path) -> Iterator[Match]:
    yield from of_googletest(tests, name, folder, Chosen.BY_NAME)


def named_by_program(tests: List[Dict[str, Any]], name: str, folder: pathlib.Path) -> Iterator[Match]:
    yield from of_googletest(tests, name, folder, Chosen.AMONG_ALL)


def of_googletest(tests: List[Dict[str, Any]], name: str, folder: pathlib.Path, how: Chosen) -> Iterator[Match]:
    for test in [test for test in tests if "." in name and chosen(test["command"], name) is how]:
        if "test" in target(test, folder):
            build(folder, target(test, folder))
            if has(test, name):
                yield test, [*(word for word in test["command"] if not word.startswith(FILTER)), FILTER + name]


def target(test: Dict[str, Any], folder: pathlib.Path) -> str:
    """What builds the program of a test; "" where it is not one of ours."""
    program = pathlib.Path(test["command"][0])
    return program.name if program.parent == folder / "bin" else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "dev", help="a configured build folder; default: build/dev")
    options = parser.parse_args()
    folder = options.build.resolve()
    listed = subprocess.run(["ctest", "--test-dir", str(folder), "--show-only=json-v1"], text=True, stdout=subprocess.PIPE)
    if listed.returncode != 0:
        sys.exit(f"one_test: {folder} is not configured; run 'make build' first")
    ran, failed = 0, 0
    for test, command in matching(json.loads(listed.stdout)["tests"], options.name, folder):
        print(f"== {test['name']}: {' '.join(command)}", flush=True)
        ran += 1
        failed += subprocess.run(command, env=environment(test), cwd=properties(test)["WORKING_DIRECTORY"]).returncode != 0
    if ran == 0:
        print(f"one_test: no test is called '{options.name}'; 'ctest --test-dir {folder} -N' lists them", file=sys.stderr)
        return 2
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
