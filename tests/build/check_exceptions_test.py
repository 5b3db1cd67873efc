"""The exception gate trips on a C function that lets exceptions out, however it is written."""

import pytest

from conftest import Gate

gate = Gate("check_exceptions.py")
SAFE = """
extern "C" {
int declared(int);
int caught(int a) try {
  return a ? work() : 0;
} catch (...) {
  return 1;
}
int plain(void) noexcept { return 3; }
void empty(int) {}
}  // extern "C"
extern "C" __attribute__((visibility("default"))) int alone(int a) noexcept { return "}"[a]; }
int inside(int a) { return work(a); }
"""


def test_passes_on_what_lets_nothing_out(write, tmp_path):
    write("src/capi/safe.cc", SAFE)
    gate.passes("--root", tmp_path)
    assert "4 functions" in gate.output


@pytest.mark.parametrize("text", [
    'extern "C" {\nint leaks(int a) {\n  return work(a);\n}\n}\n',
    'extern "C" {\n#pragma GCC visibility push(default)\nvoid first(void) {}\nint leaks(int a,\n  int b) { return work(a); }\n}\n',
    'extern "C" __attribute__((visibility("default"))) int leaks(int a) { return work(a); }\n',
    'extern "C" int leaks(int a) { return work(a); }\n'])  # fmt: skip
def test_trips_on_a_function_that_may_throw(write, tmp_path, text):
    write("src/shim/safe.cc", SAFE)
    write("src/shim/leaks.cc", text)
    gate.trips("src/shim/leaks.cc: leaks may let an exception out", "--root", tmp_path)


def test_trips_when_nothing_is_found(write, tmp_path):
    write("src/shim/a.h")
    gate.trips("nothing was checked", "--root", tmp_path)
