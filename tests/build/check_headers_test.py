"""The header gate trips on a header that needs something included before it."""

from conftest import Gate

gate = Gate("check_headers.py")


def arguments(root):
    return "--root", root, "--build", root / "build"


def test_passes_on_headers_that_stand_alone(write, tmp_path):
    write("src/base/size.h", "#pragma once\n#include <cstdint>\nstd::uint64_t Bytes();\n")
    write("src/tier/tier.h", '#pragma once\n#include "base/size.h"\n')
    gate.passes(*arguments(tmp_path))
    assert "2 compilations, 0 problems" in gate.output


def test_trips_on_a_missing_include(write, tmp_path):
    write("src/base/size.h", "#pragma once\nstd::uint64_t Bytes();\n")
    gate.trips("src/base/size.h: does not compile alone as c++", *arguments(tmp_path))


def test_leaves_a_header_to_the_source_that_includes_it_first(write, tmp_path):
    write("src/base/size.h", "#pragma once\nstd::uint64_t Bytes();\n")
    write("src/base/size.cc", '#include "base/size.h"\n')
    write("src/base/log.h", "#pragma once\n")
    gate.passes(*arguments(tmp_path))
    assert "1 compilations, 0 problems" in gate.output
    write("src/base/size.cc", '#include <cstdint>\n\n#include "base/size.h"\n')
    gate.trips("src/base/size.h: does not compile alone as c++", *arguments(tmp_path))


def test_trips_on_a_public_header_that_is_not_c(write, tmp_path):
    write("include/gpuroom/gpuroom.h", "#pragma once\ninline int Twice(int x) { return [](int y) { return y; }(x); }\n")
    gate.trips("include/gpuroom/gpuroom.h: does not compile alone as c:", *arguments(tmp_path))


def test_trips_when_there_is_nothing_to_check(tmp_path):
    gate.trips("nothing was checked", *arguments(tmp_path))
