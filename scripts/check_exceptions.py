#!/usr/bin/env python3
"""Checks that no C++ exception leaves a function that C, or a program with another C++ runtime, calls.

Every function with C linkage that src/ defines in a library for other processes is `noexcept`, a function-try-block
(`f(...) try { ... } catch (const std::exception& error) { ... }`), or does nothing. The driver's hooks have no C linkage themselves: shim/hooks.cc
and submit.cc make what programs get of them, and catch for all.
"""

import argparse
import pathlib
import re
import sys

FOLDERS = ("shim", "capi", "cumem")
# Called by the loader's and the C library's own code paths, before any C++ runtime is ready; look at strings alone.
NO_CPP = {"gpuroom_dlsym_hook", "gpuroom_dlopen_hook", "gpuroom_dlmopen_hook"}
# Throws on purpose, by the program's C++ runtime: PyTorch takes no null pointer (include/gpuroom/torch_allocator.h).
# What it calls is noexcept.
THROWS = {"gpuroom_torch_malloc"}
# Returns a pointer that is there already.
TRIVIAL = {"gpuroom_last_error"}
# The C library declares it without noexcept, so that it cannot have it here. What it calls is noexcept.
DECLARED = {"_exit"}


def blanked(text):
    """Comments, strings and preprocessor lines as blanks, so that braces can be counted."""
    text = re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'|^#[^\n]*(?:\\\n[^\n]*)*',
                  lambda match: re.sub(r"[^\n]", " ", match.group()), text, flags=re.S | re.M)  # fmt: skip
    return re.sub(r"__attribute__\(\(.*?\)\)\)|__attribute__\(\(.*?\)\)", lambda m: " " * len(m.group()), text)


def closing(text, at, pair):
    """Position behind the bracket that closes the one at `at`."""
    depth = 0
    for position in range(at, len(text)):
        depth += (text[position] == pair[0]) - (text[position] == pair[1])
        if depth == 0:
            return position + 1
    return len(text)


def c_regions(source, text):
    """(begin, end) of what has C linkage: blocks, and single definitions."""
    for match in re.finditer(r'extern "C"', source):
        if not text.startswith("extern", match.start()):
            continue  # in a comment
        at = match.end()
        brace = re.compile(r"\s*\{").match(text, at)
        if brace:
            yield brace.end(), closing(text, brace.end() - 1, "{}") - 1
        else:
            body, stop = text.find("{", at), text.find(";", at)
            if 0 <= body and (stop < 0 or body < stop):
                yield at, closing(text, body, "{}")


def definitions(text, begin, end):
    """(name, what stands between parameters and body, the body) of the functions in a region."""
    at = begin
    while True:
        match = re.compile(r"\b(\w+)\(").search(text, at, end)
        if match is None:
            return
        after = closing(text, match.end() - 1, "()")
        head = re.compile(r"\s*(noexcept\b)?\s*(try\b)?\s*\{").match(text, after)
        if head is None:  # a declaration
            at = after
            continue
        at = closing(text, head.end() - 1, "{}")
        yield match.group(1), head.group(1) or head.group(2) or "", text[head.end() : at - 1]


def check(root):
    problems, count = [], 0
    for folder in FOLDERS:
        for path in sorted((root / "src" / folder).glob("*.cc")):
            source = path.read_text()
            text = blanked(source)
            for begin, end in c_regions(source, text):
                for name, guard, body in definitions(text, begin, end):
                    count += 1
                    if not guard and body.strip() and name not in NO_CPP | THROWS | TRIVIAL | DECLARED:
                        problems.append(f"{path.relative_to(root)}: {name} may let an exception out; make it a "
                                        "function-try-block")  # fmt: skip
    return problems, count


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    problems, count = check(parser.parse_args().root)
    if count == 0:
        sys.exit("check_exceptions: no function was found, so nothing was checked")
    for problem in problems:
        print(problem)
    print(f"check_exceptions: {count} functions, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
