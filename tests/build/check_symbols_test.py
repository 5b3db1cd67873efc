"""The symbol gate trips on a symbol too many, one too few, and a library too many."""

import subprocess

import pytest

from conftest import Gate

gate = Gate("check_symbols.py")


@pytest.fixture
def library(write, tmp_path):
    """library(source, flags...) builds a shared library and gives the gate's arguments for it."""
    write("exports.txt", "# what may be seen\ncuInit\ncuMem*   # a pattern\n")

    def build(source, *flags, compiler="gcc", language="c", kept="-Wl,-z,nodelete"):
        path, text = tmp_path / "libgpuroom.so", write(f"shim.{language}", source)
        subprocess.run([compiler, "-shared", "-fPIC", "-o", path, text, kept, *flags], check=True)
        return "--library", path, "--exports", tmp_path / "exports.txt"

    return build


LISTED = "int cuInit(void) { return 0; } int cuMemAlloc(void) { return 0; }\n"


def test_passes_on_exactly_what_is_listed(library):
    gate.passes(*library(LISTED + "static int quiet(void) { return 1; } int (*keep)(void)"
                         " __attribute__((visibility(\"hidden\"))) = quiet;\n"))


def test_passes_with_versioned_symbols(library, write):
    script = write("shim.map", "GPUROOM_1 { global: cuInit; cuMem*; local: *; };\n")
    gate.passes(*library(LISTED + "int hidden_by_script(void) { return 0; }\n",
                         f"-Wl,--version-script={script}"))


def test_trips_on_a_symbol_too_many(library):
    gate.trips("exports leaked_name, which the list does not have",
               *library(LISTED + "int leaked_name(void) { return 0; }\n"))


def test_trips_on_a_variable_too_many(library):
    gate.trips("exports leaked_data", *library(LISTED + "int leaked_data = 3;\n"))


def test_trips_on_a_symbol_that_is_missing(library):
    gate.trips("does not export cuInit, which the list has", *library("int cuMemAlloc(void) { return 0; }\n"))


def test_trips_on_a_pattern_that_matches_nothing(library):
    gate.trips("does not export cuMem*", *library("int cuInit(void) { return 0; }\n"))


def test_trips_on_the_cpp_runtime(library):
    arguments = library('#include <string>\nextern "C" { int cuInit() { return std::string("a").append("b").size(); }'
                        ' int cuMemFree() { return 0; } }\n', "-fvisibility=hidden", "-Wl,--no-as-needed",
                        compiler="g++", language="cc")
    gate.trips("needs libstdc++.so.6", *arguments)


def test_trips_on_the_cuda_driver(library, tmp_path, write):
    stub = write("stub.c", "int cuSomething(void) { return 0; }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", tmp_path / "libcuda.so.1", stub],
                   check=True)
    gate.trips("needs libcuda.so.1", *library(LISTED, "-Wl,--no-as-needed", str(tmp_path / "libcuda.so.1")))


def test_a_library_may_need_what_is_named(library, tmp_path, write):
    below = write("below.c", "int below(void) { return 0; }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wl,-soname,libbelow.so", "-o", tmp_path / "libbelow.so", below],
                   check=True)
    arguments = library(LISTED, "-Wl,--no-as-needed", str(tmp_path / "libbelow.so"))
    gate.trips("needs libbelow.so", *arguments)
    gate.passes(*arguments, "--needs", "libbelow.so")


BESIDE = "".join(f"int {name}(void) {{ return 0; }}\n" for name in
                 ("dlsym", "dlopen", "dlmopen", "_exit", "_Exit", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2", "gpuroom_describe"))


def test_takes_the_list_of_hooks(library, write, tmp_path):
    write("hooks.def", '// GPUROOM_HOOK("name", symbol, 1, kAny)\nGPUROOM_HOOK("cuInit", cuInit, 2000, kAny)\n')
    write("gpuroom.h", "/* gpuroom_no(x) */\nint gpuroom_describe(uint64_t address);\n")
    lists = tmp_path / "hooks.def", "--interface", tmp_path / "gpuroom.h"
    arguments = library("int cuInit(void) { return 0; }\n" + BESIDE)
    gate.passes(*arguments[:3], *lists)
    arguments = library(LISTED + BESIDE)
    gate.trips("exports cuMemAlloc, which the list does not have", *arguments[:3], *lists)
    arguments = library(BESIDE)
    gate.trips("does not export cuInit", *arguments[:3], *lists)


def test_trips_on_too_much_thread_local_storage(library):
    hidden = "__attribute__((visibility(\"hidden\"))) char *keep(void)"
    gate.passes(*library(LISTED + "static __thread char few[256]; " + hidden + " { return few; }\n"))
    gate.trips("takes 260 bytes of thread-local storage; 256 is the most",
               *library(LISTED + "static __thread char many[260]; " + hidden + " { return many; }\n"))


def test_trips_on_a_library_that_can_be_unloaded(library):
    gate.trips("can be unloaded", *library(LISTED, kept="-Wl,-z,now"))


def test_trips_when_the_list_is_empty(library, write):
    arguments = library(LISTED)
    write("exports.txt", "# nothing\n")
    gate.trips("nothing was checked", *arguments)


def test_trips_when_the_library_is_not_there(tmp_path, write):
    exports = write("exports.txt", "cuInit\n")
    gate.trips("does not exist; build it first", "--library", tmp_path / "none.so", "--exports", exports)
