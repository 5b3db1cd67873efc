#!/usr/bin/env python3
"""Checks what the preloaded library shows to the programs it is loaded into.

It exports exactly the driver functions of src/shim/hooks.def and submit.def, the
functions of include/gpuroom/, and the few names
below: one more could replace a program's own function of that name, one fewer is
a call that passes us by. And it needs nothing but the C library: a second
libstdc++ or an early libcuda would change the program that is to stay as it was.
It takes at most 256 bytes of static thread-local storage, of which a program that opens it
later has little left, and is marked as never to be unloaded.

Another list (--exports) holds one name or shell pattern a line; '#' starts a
comment. A name must be exported; a pattern must match at least one symbol.
"""

import argparse
import fnmatch
import pathlib
import re
import subprocess
import sys

# Exported beside the hooks: what finds the driver's functions, what ends a process at
# once, and NVML's memory queries.
BESIDE_HOOKS = ["dlsym", "dlopen", "dlmopen", "_exit", "_Exit", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2"]
HOOK = re.compile(r'^GPUROOM_(?:HOOK|SUBMIT)\("\w+", (\w+),', re.M)
INTERFACE = re.compile(r"^[a-z][\w *]*?\b((?:gpuroom|tms)_\w+)\(", re.M)
MOST_THREAD_LOCAL = 256  # bytes
ALLOWED_NEEDED = re.compile(r"^(libc\.so\.6|libm\.so\.6|libdl\.so\.2|libpthread\.so\.0|librt\.so\.1|libgcc_s\.so\.1"
                            r"|ld-linux-(x86-64|aarch64)\.so\.[12])$")


def readelf(*arguments):
    done = subprocess.run(["readelf", "-W", *map(str, arguments)], text=True, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"check_symbols: readelf failed: {done.stderr.strip()}")
    return done.stdout


def exported(library):
    """Names of the defined dynamic symbols that other objects can bind to."""
    names = set()
    for line in readelf("--dyn-syms", library).splitlines():
        fields = line.split()
        if len(fields) < 8 or not fields[0].rstrip(":").isdigit():
            continue
        kind, bind, visibility, section, name = fields[3], fields[4], fields[5], fields[6], fields[7]
        if section == "UND" or bind == "LOCAL" or visibility in ("HIDDEN", "INTERNAL"):
            continue
        if section == "ABS" and kind == "OBJECT":
            continue  # the name of a symbol version, not a symbol
        names.add(name.split("@")[0])
    return names


def needed(library):
    return re.findall(r"\(NEEDED\).*\[(.+)\]", readelf("-d", library))


def thread_local_bytes(library):
    """Size in memory of the segment that every thread of the process gets a copy of."""
    segments = re.findall(r"^\s*TLS\s+(?:0x[0-9a-f]+\s+){4}0x([0-9a-f]+)", readelf("-l", library), re.M)
    return sum(int(size, 16) for size in segments)


def stays_loaded(library):
    return re.search(r"\(FLAGS_1\).*\bNODELETE\b", readelf("-d", library)) is not None


def check_guest(library):
    """What a library that lives in any program has to be, whatever it exports."""
    problems = []
    size = thread_local_bytes(library)
    if size > MOST_THREAD_LOCAL:
        problems.append(f"takes {size} bytes of thread-local storage; {MOST_THREAD_LOCAL} is the most")
    if not stays_loaded(library):
        problems.append("can be unloaded while threads use it; link it with -z nodelete")
    return problems


def read_list(path):
    if path.suffix == ".def":
        hooks = HOOK.findall(path.read_text())
        return sorted(set(hooks)) if hooks else []
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def check(library, listed, needs=()):
    names = exported(library)
    problems = [f"exports {name}, which the list does not have" for name in sorted(names)
                if not any(fnmatch.fnmatchcase(name, pattern) for pattern in listed)]
    problems += [f"does not export {pattern}, which the list has" for pattern in listed
                 if not fnmatch.filter(names, pattern)]
    problems += [f"needs {name}; it may need nothing but the C library" for name in needed(library)
                 if not ALLOWED_NEEDED.match(name) and name not in needs]
    return problems


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=pathlib.Path, default=root / "build/dev/lib/gpuroom/libgpuroom.so")
    parser.add_argument("--exports", type=pathlib.Path, nargs="+",
                        default=[root / "src/shim/hooks.def", root / "src/shim/submit.def"])
    parser.add_argument("--interface", type=pathlib.Path, nargs="+", default=sorted((root / "include/gpuroom").glob("*.h")))
    parser.add_argument("--needs", nargs="*", default=[], help="libraries that it may need beside the C library's")
    options = parser.parse_args()
    for path in (options.library, *options.exports, *options.interface):
        if not path.is_file():
            sys.exit(f"check_symbols: {path} does not exist; build it first, or name it")
    listed = []
    for path in options.exports:
        entries = read_list(path)
        if not entries:
            sys.exit(f"check_symbols: {path} lists nothing, so nothing was checked")
        listed += entries
    if any(path.suffix == ".def" for path in options.exports):
        listed += BESIDE_HOOKS + [name for path in options.interface for name in INTERFACE.findall(path.read_text())]
    problems = check(options.library, listed, options.needs) + check_guest(options.library)
    for problem in problems:
        print(f"{options.library.name}: {problem}")
    print(f"check_symbols: {len(listed)} entries, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
